"""The strict load: with which code and key a configuration is refused."""

from pathlib import Path

import pytest

from cluster import config
from cluster.errors import UserError
from tests.cluster.loading import SECTIONS, load, refusal
from tests.refusals import refused


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def suggested(error: UserError) -> str:
    """The key that an unknown one is close to; empty where none is suggested."""
    return str(error).partition("Did you mean `")[2].partition("`")[0]


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("run: a\nseed: 1\nrun: b\n", "line 3:", "`run`", "line 1."),
        ("run: a\nray: {num_cpus: 1, num_cpus: 2}\n", "line 2:", "`num_cpus`", "line 2."),
    ],
)
def test_a_duplicate_key_is_named_with_both_lines(file: Path, text: str, line: str, key: str, first: str) -> None:
    error = refusal(file, text)
    assert (error.code, error.key) == ("duplicate_key", "")
    assert f", {line}" in str(error) and key in str(error) and str(error).endswith(first)


def test_a_run_without_a_folder_is_refused(file: Path) -> None:
    with refused("invalid_value", "run", naming="folder"):
        load(file, "run: ''\n")


def test_a_key_twice_in_an_override(file: Path) -> None:
    error = refusal(file, "run: r\n", "ray={num_cpus: 1, num_cpus: 2}")
    assert (error.code, error.key) == ("duplicate_key", "ray")
    assert "`num_cpus`" in str(error)


@pytest.mark.parametrize(
    ("text", "key", "suggestion"),
    [
        ("run: r\nsed: 1\n", "sed", "seed"),
        ("run: r\nray: {num_cpu: 2}\n", "ray.num_cpu", "num_cpus"),
        ("run: r\nmodels: {m: {source: x, max_modellen: 9}}\n", "models.m.max_modellen", "max_model_len"),
        ("run: r\nevaluate: {judges: {j: {model: m, promt: x}}}\n", "evaluate.judges.j.promt", "prompt"),
        (
            "run: r\nevaluate: {judges: {j: {model: m}}, vote: {min_vote: 1}}\n",
            "evaluate.vote.min_vote",
            "min_votes",
        ),
        ("run: r\nzzzzzz: 1\n", "zzzzzz", ""),
        # The required key that it was meant to be is missing too.
        ("run: r\nevaluate: {judgez: {j: {model: m}}}\n", "evaluate.judgez", "judges"),
        ("runn: r\n", "runn", "run"),
    ],
)
def test_an_unknown_key_is_named_with_the_closest_known_one(file: Path, text: str, key: str, suggestion: str) -> None:
    error = refusal(file, text)
    assert (error.code, error.key, suggested(error)) == ("unknown_key", key, suggestion)


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        ("run: r\nseed: many\n", "invalid_value", "seed"),
        ("run: r\nray: [2]\n", "invalid_value", "ray"),
        ("run: r\nmodels: [a]\n", "invalid_value", "models"),
        ("seed: 1\n", "missing_key", "run"),
        ("run: r\nmodels: {m: {}}\n", "missing_key", "models.m.source"),
        # A model may have the name of a backend; its name stays in the key.
        ("run: r\nmodels: {http: {backend: http, model: m}}\n", "missing_key", "models.http.base_url"),
        ("run: r\nmodels: {m: {backend: ollama}}\n", "unknown_backend", "models.m.backend"),
        ("run: r\n1: x\n", "invalid_value", "1"),
    ],
)
def test_a_wrong_key_or_value_is_named(file: Path, text: str, code: str, key: str) -> None:
    error = refusal(file, text)
    assert (error.code, error.key) == (code, key)
    assert f"`{key}`" in str(error)


def test_an_unknown_backend_is_refused_with_the_known_ones(file: Path) -> None:
    message = str(refusal(file, "run: r\nmodels: {m: {backend: ollama}}\n"))
    for name in ("vllm", "http", "scripted", "served", "ollama"):
        assert f"'{name}'" in message


@pytest.mark.parametrize(
    ("ray", "more"),
    [("", ""), ("ray: {num_cpus: b}\n", "(1 more problem"), ("ray: {num_cpus: b, address: 1}\n", "(2 more problems")],
)
def test_the_first_problem_is_shown_with_the_number_of_the_others(file: Path, ray: str, more: str) -> None:
    error = refusal(file, f"run: r\nseed: a\n{ray}")
    assert error.key == "seed"
    assert str(error).partition("(")[2] == more.removeprefix("(") + " after this one)" * bool(more)


@pytest.mark.parametrize(
    ("records", "more"),
    [
        ("[dataset:nope]", ""),
        ("[dataset:nope, a.csv]", ""),
        ("[dataset:nope, dataset:nor]", "(1 more problem after this one)"),
        ("[dataset:nope], pool: [dataset:nor]", "(1 more problem after this one)"),
    ],
)
def test_an_invalid_item_of_a_list_is_one_problem(file: Path, records: str, more: str) -> None:
    error = refusal(file, f"run: r\ndata: {{records: {records}}}\n")
    assert (error.code, error.key) == ("unknown_dataset", "data.records.0")
    assert str(error).partition("(")[2] == more.removeprefix("(")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models.m.max_model_len", 63),  # context in tokens, at least 64
        ("models.m.num_gpus", -1),
        ("models.m.num_cpus", 0),
        ("models.m.tensor_parallel_size", 0),
        ("models.m.thinking_token_budget", -1),
        ("models.m.num_engines", 0),
        ("models.m.num_engines", [4, 2]),
        ("models.m.num_engines", [0, 2]),
        ("models.m.num_engines", [1, 2, 3]),
        ("models.m.num_engines", "many"),
        ("models.s.num_engines", [2, 1]),
        ("models.m.pipeline_parallel_size", 0),
        ("models.m.batch_size", 0),
        ("models.m.kv_cache_gib", 0),
        ("models.m.max_model_len", 64.5),
        ("models.h.timeout_s", 0),
        ("models.h.max_retries", -1),
        ("models.h.max_in_flight", 0),
        ("models.h.base_url", "ftp://x"),
        ("models.s.delay_s", -1),
        ("models.s.garbage_share", 1.1),
        ("models.s.max_prompt_chars", 0),
        ("ray.num_cpus", 1),  # one for the pipeline, one for an engine
        ("ray.object_store_gib", 0.08),
        ("data.max_rejected_share", 1),
        ("evaluate.max_unscored_share", 1.5),
        ("evaluate.block_rows", 0),
        ("evaluate.vote.min_votes", 0),
        ("evaluate.judges.j.min_label_mass", 1),
        ("evaluate.judges.j.max_tokens", 15),
        ("evaluate.judges.j.temperature", -0.1),
        ("report.resamples", 99),
        ("report.interval", "normal"),
        ("report.num_worst", -1),
        ("instructions.limit", 0),
        ("instructions.files", []),
        ("distill.models", []),
        ("distill.max_tokens", 0),
        ("distill.temperature", 2.1),
        ("distill.top_p", 0),
        ("distill.block_rows", 0),
        ("invert.models", []),
        ("invert.aspects", []),
        ("invert.sources", ["backward"]),
        ("invert.num_candidates", 0),
        ("invert.temperature", -0.1),
        ("invert.top_p", 1.1),
        ("invert.top_k", -1),
        ("invert.max_tokens", 15),
        ("invert.max_words", 19),
    ],
)
def test_a_value_beyond_its_limit_is_refused_by_key(file: Path, key: str, value: object) -> None:
    text = """
run: r
data: {records: [x]}
models:
  m: {source: x}
  h: {backend: http, base_url: "http://h/v1", model: m}
  s: {backend: scripted}
evaluate: {judges: {j: {model: m}}}
report: {}
instructions: {files: [x]}
distill: {models: [m]}
invert: {models: [m]}
"""
    load(file, text)
    error = refusal(file, text, f"{key}={value}")
    # A value in a list has its number behind the key.
    assert (error.code, error.key.removesuffix(".0")) == ("invalid_value", key)


@pytest.mark.parametrize(
    ("section", "code", "key", "named"),
    [
        ("{judges: {}}", "invalid_value", "judges", ""),
        ("{judges: {panel: {model: m}}}", "invalid_value", "judges", "`panel`"),
        ("{judges: {length: {model: m}}}", "invalid_value", "judges", "`length`"),
        ("{judges: {mean: {model: m}}}", "invalid_value", "judges", "`mean`"),
        ('{judges: {"../up": {model: m}}}', "invalid_value", "judges", "'../up'"),
        ("{judges: {j: {model: m}}, aspects: []}", "invalid_value", "aspects", ""),
        ("{judges: {j: {model: m}}, aspects: [overall, overall]}", "invalid_value", "aspects", "duplicate"),
        ("{judges: {j: {model: m}}, vote: {min_votes: 2}}", "infeasible", "vote.min_votes", "2 "),
        ("{judges: {j: {model: m}}, vote: {rule: loudest}}", "invalid_value", "vote.rule", ""),
        ("{judges: {j: {model: m}}, vote: {weights: {j: 1}}}", "conflict", "vote.weights", "weighted"),
        ("{judges: {j: {model: m}}, vote: {rule: weighted}}", "invalid_value", "vote.weights", "one weight per judge"),
        (
            "{judges: {j: {model: m}}, vote: {rule: weighted, weights: {j: 0}}}",
            *("invalid_value", "vote.weights", "positive"),
        ),
        (
            "{judges: {j: {model: m}, k: {model: m}}, vote: {rule: weighted, weights: {j: 2, k: -1}}}",
            *("invalid_value", "vote.weights", "negative"),
        ),
    ],
)
def test_what_does_not_go_together_in_evaluate(file: Path, section: str, code: str, key: str, named: str) -> None:
    error = refusal(file, f"run: r\nevaluate: {section}\n")
    assert (error.code, error.key) == (code, f"evaluate.{key}")
    assert named in str(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with refused("missing_file", naming="none.yaml"):
        config.load(tmp_path / "none.yaml", [], SECTIONS)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with refused("unreadable_file", naming=str(tmp_path)):
        config.load(tmp_path, [], SECTIONS)


def test_a_file_that_is_no_utf8_is_refused(file: Path) -> None:
    file.write_bytes(b"run: \xff\n")
    with refused("unreadable_file", naming=str(file)):
        config.load(file, [], SECTIONS)


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "empty_file"), ("# nothing\n", "empty_file"), ("- run\n", "invalid_yaml"), ("run\n", "invalid_yaml")],
)
def test_an_empty_file_or_no_mapping(file: Path, text: str, code: str) -> None:
    assert refusal(file, text).code == code


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("run: r\nmodels: {a: b\nseed: 1\n", "line 3: "),
        ("run: r\n\tseed: 1\n", "line 2: "),
        ("run: r\nx: !!python/object:os.system y\n", "line 2: "),
        ("run: r\x07\n", "unacceptable character"),
    ],
)
def test_invalid_yaml_has_its_line(file: Path, text: str, place: str) -> None:
    error = refusal(file, text)
    assert error.code == "invalid_yaml"
    assert place in str(error)


@pytest.mark.parametrize(
    ("override", "code", "key", "named"),
    [
        ("seed", "invalid_value", "seed", "--set seed:"),
        ("=1", "invalid_value", "", "--set =1:"),
        ("seed=[", "invalid_yaml", "seed", "'<stream end>'"),
        ("run.x=1", "invalid_value", "run.x", "'r'"),
        ("sede=1", "unknown_key", "sede", "`seed`"),
    ],
)
def test_a_bad_override_is_refused(file: Path, override: str, code: str, key: str, named: str) -> None:
    error = refusal(file, "run: r\n", override)
    assert (error.code, error.key) == (code, key)
    assert named in str(error)


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        ("models: {m: {source: 'run:x'}}\n", "missing_key", "run"),
        ("run: r\nmodels: {m: {source: [run]}}\n", "invalid_value", "models.m.source"),
        ("run: r\nmodels: {m: {source: 'run:x', sorce: y}}\n", "unknown_key", "models.m.sorce"),
        ("run: r\nmodels: {m: {backend: scripted, source: 'run:x'}}\n", "unknown_key", "models.m.source"),
        ("run: r\nmodels: {m: 'run:x'}\n", "invalid_value", "models.m"),
    ],
)
def test_a_wrong_model_is_named_where_the_run_is_meant(file: Path, text: str, code: str, key: str) -> None:
    error = refusal(file, text)
    assert (error.code, error.key) == (code, key)


def test_a_variable_of_a_template_that_yaml_reads_as_a_date(file: Path) -> None:
    text = "run: r\nmodels: {m: {source: x, chat_template_kwargs: {date_string: %s}}}\n"
    with refused("invalid_value", "models.m.chat_template_kwargs"):
        load(file, text % "2024-07-26")
    assert load(file, text % "'2024-07-26'").models["m"].chat_template_kwargs == {"date_string": "2024-07-26"}


@pytest.mark.parametrize(
    ("adapter", "code", "key", "named"),
    [
        ("{base: m}", "missing_key", "models.a.adapter", "both `base`"),
        ("{adapter: x}", "missing_key", "models.a.base", "both `base`"),
        ("{base: none, adapter: x}", "unknown_model", "models.a.base", "'none'"),
        ("{base: s, adapter: x}", "unknown_model", "models.a.base", "backend: vllm"),
        ("{base: a, adapter: x}", "unknown_model", "models.a.base", "'a'"),
        ("{base: [m], adapter: x}", "unknown_model", "models.a.base", "m"),
        ("{base: m, adapter: 3}", "invalid_value", "models.a.adapter", ""),
        ("{base: m, adapter: x, max_model_len: 99}", "conflict", "models.a.max_model_len", "models.m.max_model_len"),
        ("{base: m, adapter: x, source: y}", "conflict", "models.a.source", "models.m.source"),
        ("{base: m, adapter: x, bace: m}", "unknown_key", "models.a.bace", "`base`"),
    ],
)
def test_an_adapter_that_has_no_base_or_a_setting_of_its_own(
    file: Path, adapter: str, code: str, key: str, named: str
) -> None:
    error = refusal(file, f"run: r\nmodels: {{m: {{source: x}}, s: {{backend: scripted}}, a: {adapter}}}\n")
    assert (error.code, error.key) == (code, key), str(error)
    assert named in str(error)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("{source: x, tensor_parallel_size: 2, num_gpus: 1}", "num_gpus must be 2"),
        ("{source: x, engine: {tensor_parallel_size: 2}}", "engine.tensor_parallel_size"),
        ("{source: x, prompt_style: completion, chat_template_kwargs: {date_string: '1'}}", "chat_template_kwargs"),
        ("{source: x, prompt_style: completion, thinking_token_budget: 8}", "thinking_token_budget"),
        ("{source: x, chat_template_kwargs: {enable_thinking: true}}", "enable_thinking"),
        ("{source: x, thinking_token_budget: 8, chat_template_kwargs: {enable_thinking: false}}", "enable_thinking"),
        ("{backend: http, base_url: 'http://h/v1', model: x, drop: [seed], rename: {seed: s}}", "seed"),
    ],
)
def test_settings_of_a_model_that_exclude_each_other(file: Path, model: str, named: str) -> None:
    with refused("conflict", "models.m", naming=named):
        load(file, f"run: r\nmodels: {{m: {model}}}\n")
