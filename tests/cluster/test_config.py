"""The strict load: what is accepted, and with which sentence the rest is refused."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from cluster import config
from cluster.config import HttpSpec, RayConfig, RunConfig, ScriptedSpec, Strict, VllmSpec
from cluster.errors import UserError
from cluster.jobs import sections

ROOT = Path(__file__).parents[2]
SECTIONS: dict[str, type[BaseModel]] = sections()


class Job(Strict):
    """A job's section, as a job would bring it."""

    num_things: int = 3
    inner: RayConfig = RayConfig()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def load(file: Path, text: str, *overrides: str, sections: dict[str, type[BaseModel]] = SECTIONS) -> RunConfig:
    file.write_text(text)
    return config.load(file, overrides, sections)


def refusal(file: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(file, text, *overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.removeprefix(f"{file}: ")


def test_what_the_file_leaves_out_is_the_default(file: Path) -> None:
    run = load(file, "run: runs/a\n", sections={"job": Job})
    assert (run.run, run.seed, run.models, run.ray) == (Path("runs/a"), 0, {}, RayConfig())
    assert run.job is None


def test_a_section_is_read_into_its_class(file: Path) -> None:
    run = load(file, "run: r\njob: {num_things: 5, inner: {num_cpus: 4}}\n", sections={"job": Job})
    assert run.job == Job(num_things=5, inner=RayConfig(num_cpus=4))


def test_the_three_backends(file: Path) -> None:
    models = load(
        file,
        """
run: r
models:
  a: {source: "embedded:smollm2-135m-instruct"}
  b: {backend: http, base_url: "http://127.0.0.1:1/v1", model: m}
  c: {backend: scripted, rules: [{contains: x, label_logprobs: {"1": -0.5}}]}
""",
    ).models
    assert [type(spec) for spec in models.values()] == [VllmSpec, HttpSpec, ScriptedSpec]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run: a\nseed: 1\nrun: b\n", "line 3: broken YAML: the key 'run' stands twice, first in line 1"),
        ("run: a\nray: {num_cpus: 1, num_cpus: 2}\n", "line 2: broken YAML: the key 'num_cpus' stands twice, first in"),
        ("run: ''\n", "`run`: it names no folder"),
    ],
)
def test_a_key_that_stands_twice_and_a_run_without_a_folder(file: Path, text: str, sentence: str) -> None:
    assert sentence in refusal(file, text)


def test_what_is_merged_may_be_overridden(file: Path) -> None:
    text = """
run: r
ray: {<<: &small {num_cpus: 2}, <<: {object_store_gib: 0.1}, num_cpus: 3}
models:
  outer: {backend: scripted, rules: [&rule {contains: x, reply: y}, {<<: *rule, contains: z}]}
"""
    run = load(file, text)
    assert (run.ray.num_cpus, run.ray.object_store_gib) == (3, 0.1)


def test_a_key_twice_in_an_override(file: Path) -> None:
    said = refusal(file, "run: r\n", "ray={num_cpus: 1, num_cpus: 2}")
    assert said.endswith("the value is no YAML: the key 'num_cpus' stands twice, first in line 1")


def test_an_override_changes_one_of_two_that_share_an_alias(file: Path) -> None:
    text = "run: r\nmodels: {a: &one {backend: scripted, seed_delay: 0}, b: *one}\n".replace(", seed_delay: 0", "")
    models = load(file, text, "models.a.num_engines=2").models
    assert [spec.num_engines for spec in models.values()] == [2, 1]


def test_a_configuration_never_changes(file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(file, "run: r\n").seed = 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run: r\nsed: 1\n", "`sed` is no known key; did you mean `seed`?"),
        ("run: r\nray: {num_cpu: 2}\n", "`ray.num_cpu` is no known key; did you mean `num_cpus`?"),
        (
            "run: r\nmodels: {m: {source: x, max_modellen: 9}}\n",
            "`models.m.max_modellen` is no known key; did you mean `max_model_len`?",
        ),
        (
            "run: r\nevaluate: {judges: {j: {model: m, promt: x}}}\n",
            "`evaluate.judges.j.promt` is no known key; did you mean `prompt`?",
        ),
        (
            "run: r\nevaluate: {judges: {j: {model: m}}, vote: {min_vote: 1}}\n",
            "`evaluate.vote.min_vote` is no known key; did you mean `min_votes`?",
        ),
        ("run: r\nzzzzzz: 1\n", "`zzzzzz` is no known key"),
        ("run: r\nseed: many\n", "`seed`: input should be a valid integer, unable to parse string as an integer"),
        ("run: r\nray: [2]\n", "`ray`: input should be a valid dictionary or instance of RayConfig"),
        ("run: r\nmodels: [a]\n", "`models`: input should be a valid dictionary"),
        ("seed: 1\n", "`run` is missing"),
        ("run: r\nmodels: {m: {}}\n", "`models.m.source` is missing"),
        # A model may have the name of a backend; its name stays in the key.
        ("run: r\nmodels: {http: {backend: http, model: m}}\n", "`models.http.base_url` is missing"),
        (
            "run: r\nmodels: {m: {backend: ollama}}\n",
            "`models.m.backend`: 'ollama' is none of 'vllm', 'http', 'scripted', 'served'",
        ),
        ("run: r\n1: x\n", "`1`: keys should be strings"),
        ("run: r\nseed: a\nray: {num_cpus: b}\n", "(1 more below it)"),
    ],
)
def test_a_wrong_key_or_value_is_named(file: Path, text: str, sentence: str) -> None:
    assert refusal(file, text).endswith(sentence)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models.m.max_model_len", 63),  # context in tokens, at least 64
        ("models.m.num_gpus", -1),
        ("models.m.num_cpus", 0),
        ("models.m.tensor_parallel_size", 0),
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
    # A value in a list has its number behind the key.
    assert re.match(rf"`{re.escape(key)}(\.0)?`: ", refusal(file, text, f"{key}={value}"))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{judges: {}}", "`evaluate.judges`"),
        ("{judges: {panel: {model: m}}}", "`panel` stands for the vote"),
        ("{judges: {length: {model: m}}}", "`length` stands for the baseline"),
        ("{judges: {mean: {model: m}}}", "`mean` stands for a rule of the vote"),
        ('{judges: {"../up": {model: m}}}', "'../up' names a folder"),
        ("{judges: {j: {model: m}}, aspects: []}", "`evaluate.aspects`"),
        ("{judges: {j: {model: m}}, aspects: [overall, overall]}", "one stands twice"),
        ("{judges: {j: {model: m}}, vote: {min_votes: 2}}", "2 votes of 1 judges"),
        ("{judges: {j: {model: m}}, vote: {rule: loudest}}", "`evaluate.vote.rule`"),
        ("{judges: {j: {model: m}}, vote: {weights: {j: 1}}}", "no effect"),
        ("{judges: {j: {model: m}}, vote: {rule: weighted}}", "one weight for each judge"),
        ("{judges: {j: {model: m}}, vote: {rule: weighted, weights: {j: 0}}}", "one must be positive"),
        (
            "{judges: {j: {model: m}, k: {model: m}}, vote: {rule: weighted, weights: {j: 2, k: -1}}}",
            "none may be negative",
        ),
    ],
)
def test_what_does_not_go_together_in_evaluate(file: Path, section: str, words: str) -> None:
    assert words in refusal(file, f"run: r\nevaluate: {section}\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no configuration .*none\.yaml"):
        config.load(tmp_path / "none.yaml", [], SECTIONS)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        config.load(tmp_path, [], SECTIONS)


def test_a_file_that_is_no_utf8_is_refused(file: Path) -> None:
    file.write_bytes(b"run: \xff\n")
    with pytest.raises(UserError, match="cannot be read"):
        config.load(file, [], SECTIONS)


def test_a_byte_order_mark_is_no_part_of_the_first_key(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfrun: r\n")
    assert config.load(file, [], SECTIONS).run == Path("r")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- run\n", "run\n"])
def test_an_empty_file_or_no_mapping(file: Path, text: str) -> None:
    assert "is empty or no mapping" in refusal(file, text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("run: r\nmodels: {a: b\nseed: 1\n", "line 3: broken YAML"),
        ("run: r\n\tseed: 1\n", "line 2: broken YAML"),
        ("run: r\nx: !!python/object:os.system y\n", "line 2: broken YAML"),
        ("run: r\x07\n", "broken YAML: unacceptable character"),
    ],
)
def test_broken_yaml_has_its_line(file: Path, text: str, place: str) -> None:
    assert place in refusal(file, text)


def test_set_reaches_inner_keys_and_makes_sections(file: Path) -> None:
    run = load(
        file,
        "run: r\nmodels: {m: {source: x}}\n",
        "seed=7",
        "models.m.max_model_len=128",
        "ray.num_cpus=4",
        "run=a=b",
        "models.n={backend: scripted}",
    )
    assert (run.seed, run.ray.num_cpus, run.run) == (7, 4, Path("a=b"))
    assert run.models["m"] == VllmSpec(source="x", max_model_len=128)
    assert run.models["n"] == ScriptedSpec(backend="scripted")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed", "--set seed: write it as key.inner=value"),
        ("=1", "--set =1: write it as key.inner=value"),
        ("seed=[", "--set seed=[: the value is no YAML: expected the node content, but found '<stream end>'"),
        ("run.x=1", "--set run.x=1: 'run' is no section, it holds 'r'"),
        ("sede=1", "`sede` is no known key; did you mean `seed`?"),
    ],
)
def test_a_bad_override_is_refused(file: Path, override: str, sentence: str) -> None:
    assert refusal(file, "run: r\n", override) == sentence


@pytest.mark.parametrize(
    ("run", "source", "path"),
    [
        ("r", "run:sft/m/inverse/merged", "{cwd}/r/sft/m/inverse/merged"),
        ("a/b", "run:x", "{cwd}/a/b/x"),
        ("/tmp/r", "run:x", "/tmp/r/x"),
        # Everything else is left as it is, whatever it begins with.
        ("r", "embedded:smollm2-135m-instruct", "embedded:smollm2-135m-instruct"),
        ("r", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("r", "runs/x", "runs/x"),
        ("r", "./run:x", "./run:x"),
    ],
)
def test_a_model_inside_the_run_is_a_plain_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch, run: str, source: str, path: str
) -> None:
    monkeypatch.chdir(file.parent)
    found = load(file, f"run: {run}\nmodels: {{m: {{source: '{source}', max_model_len: 99}}}}\n")
    assert found.models["m"] == VllmSpec(source=path.format(cwd=file.parent), max_model_len=99)
    # A configuration that was loaded and written is the same when it is loaded again, from wherever.
    monkeypatch.chdir("/")
    assert config.build(found.model_dump(), SECTIONS, origin="again").models == found.models


def test_a_model_inside_the_run_moves_with_the_run_directory(file: Path) -> None:
    text = "run: r\nmodels: {m: {source: 'run:x'}, s: {backend: scripted}}\n"
    assert load(file, text, f"run={file.parent}/other").models["m"].source == f"{file.parent}/other/x"
    assert load(file, text, "models.n.source=run:y", f"run={file.parent}").models["n"].source == f"{file.parent}/y"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models: {m: {source: 'run:x'}}\n", "`run` is missing"),
        ("run: r\nmodels: {m: {source: [run]}}\n", "`models.m.source`: input should be a valid string"),
        (
            "run: r\nmodels: {m: {source: 'run:x', sorce: y}}\n",
            "`models.m.sorce` is no known key; did you mean `source`?",
        ),
        ("run: r\nmodels: {m: {backend: scripted, source: 'run:x'}}\n", "`models.m.source` is no known key"),
        ("run: r\nmodels: {m: 'run:x'}\n", "`models.m`: input should be a valid dictionary"),
    ],
)
def test_a_wrong_model_is_named_where_the_run_is_meant(file: Path, text: str, sentence: str) -> None:
    assert refusal(file, text).startswith(sentence)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_committed_configuration_loads_and_fits_together(path: Path) -> None:
    run = config.load(path, [], SECTIONS)
    judges = run.evaluate.judges if run.evaluate else {}
    wanted = {judge.model for judge in judges.values()}
    for section in (run.distill, run.sft, run.invert):
        wanted |= set(section.models) if section else set()
    wanted |= {model.base for model in run.sft.models.values()} if run.sft else set()
    assert wanted
    assert wanted <= set(run.models)
    data = (*run.data.records, *run.data.pool) if run.data else ()
    for place in (
        *data,
        *(run.instructions.files if run.instructions else ()),
        *(run.invert.dev if run.invert else ()),
    ):
        assert (ROOT / place).exists() or place.startswith("../shared")


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ("{trust_remote_code: true}", "`models.m.engine`: trust_remote_code would run code that came with the model"),
        ("{load_format: pt}", "`models.m.engine`: load_format pt loads pickles"),
        ("{load_format: npcache}", "`models.m.engine`: load_format npcache loads pickles"),
    ],
)
def test_an_engine_runs_no_code_of_a_model(file: Path, engine: str, sentence: str) -> None:
    text = f"run: r\nmodels: {{m: {{source: x, engine: {engine}}}}}\n"
    assert refusal(file, text).startswith(sentence)
    allowed = text.replace(engine, "{trust_remote_code: false, load_format: safetensors}")
    assert load(file, allowed).models["m"].engine["load_format"] == "safetensors"


def test_there_are_committed_configurations() -> None:
    assert list((ROOT / "configs").glob("*.yaml"))
