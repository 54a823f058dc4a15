"""The strict load: what is accepted, what is left out, what overrides and aliases do."""

from pathlib import Path

import pytest

from cluster import config
from cluster.config import RayConfig
from cluster.model_specs import HttpSpec, ScriptedSpec, VllmSpec, engine_name
from cluster.strict import Strict
from tests.cluster.loading import SECTIONS, load
from tests.refusals import refused

ROOT = Path(__file__).parents[2]


class Job(Strict):
    """A job's section, as a job would bring it."""

    num_things: int = 3
    inner: RayConfig = RayConfig()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


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


def test_what_is_merged_may_be_overridden(file: Path) -> None:
    text = """
run: r
ray: {<<: &small {num_cpus: 2}, <<: {object_store_gib: 0.1}, num_cpus: 3}
models:
  outer: {backend: scripted, rules: [&rule {contains: x, reply: y}, {<<: *rule, contains: z}]}
"""
    run = load(file, text)
    assert (run.ray.num_cpus, run.ray.object_store_gib) == (3, 0.1)


def test_an_override_changes_one_of_two_that_share_an_alias(file: Path) -> None:
    text = "run: r\nmodels: {a: &one {backend: scripted, seed_delay: 0}, b: *one}\n".replace(", seed_delay: 0", "")
    models = load(file, text, "models.a.num_engines=2").models
    assert [spec.num_engines for spec in models.values()] == [2, 1]


def test_a_configuration_never_changes(file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(file, "run: r\n").seed = 1


def test_a_byte_order_mark_is_no_part_of_the_first_key(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfrun: r\n")
    assert config.load(file, [], SECTIONS).run == Path("r")


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


def test_an_adapter_has_the_settings_of_its_base(file: Path) -> None:
    text = """
run: r
models:
  m: {source: org/m, max_model_len: 99, dtype: bfloat16}
  tuned: {base: m, adapter: 'run:sft/m/forward/adapter'}
"""
    found = load(file, text, "models.m.num_engines=2", f"run={file.parent}")
    base = VllmSpec(source="org/m", max_model_len=99, dtype="bfloat16", num_engines=2)
    adapter = f"{file.parent}/sft/m/forward/adapter"
    assert found.models == {"m": base, "tuned": base.model_copy(update={"base": "m", "adapter": adapter})}
    assert [engine_name(name, spec) for name, spec in found.models.items()] == ["m", "m"]
    # With all defaults written out it is the same again, as plain values too.
    for raw in (found.model_dump(), found.model_dump(mode="json")):
        assert config.build(raw, SECTIONS, origin="again").models == found.models


def test_a_model_inside_the_run_moves_with_the_run_directory(file: Path) -> None:
    text = "run: r\nmodels: {m: {source: 'run:x'}, s: {backend: scripted}}\n"
    assert load(file, text, f"run={file.parent}/other").models["m"].source == f"{file.parent}/other/x"
    assert load(file, text, "models.n.source=run:y", f"run={file.parent}").models["n"].source == f"{file.parent}/y"


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
        # The names of public data sets are checked when the file is loaded.
        assert (ROOT / place).exists() or place.startswith("dataset:")


def test_there_are_committed_configurations() -> None:
    assert list((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("engine", "named"),
    [
        ("{trust_remote_code: true}", "trust_remote_code"),
        ("{load_format: pt}", "load_format pt"),
        ("{load_format: npcache}", "load_format npcache"),
    ],
)
def test_an_engine_runs_no_code_of_a_model(file: Path, engine: str, named: str) -> None:
    text = f"run: r\nmodels: {{m: {{source: x, engine: {engine}}}}}\n"
    with refused("unsupported", "models.m.engine", naming=named):
        load(file, text)
    allowed = text.replace(engine, "{trust_remote_code: false, load_format: safetensors}")
    assert load(file, allowed).models["m"].engine["load_format"] == "safetensors"
