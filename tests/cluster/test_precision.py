"""The dtype of engines on CPUs: what the processor's flags say, and that a run folder keeps the first choice."""

import json
from pathlib import Path

import pytest

from cluster import precision, runtime
from cluster.config import RunConfig
from cluster.model_specs import ScriptedSpec, VllmSpec
from tests.refusals import refused

COMPUTES = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2 avx512f avx512_bf16 sse\nbugs\t: none\n"
DOES_NOT = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16_not\nbugs\t\t: amx_bf16\n"


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "num_gpus", lambda: 0)


def processor(text: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "cpuinfo"
    if text is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(text)
    monkeypatch.setattr(precision, "CPUINFO", file)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        (COMPUTES, "bfloat16"),
        (COMPUTES.replace("avx512_bf16", "amx_bf16"), "bfloat16"),
        (DOES_NOT, "float32"),
        ("Features\t: fp asimd bf16\n", "float32"),
        ("", "float32"),
        (None, "float32"),
    ],
)
def test_the_flags_decide(text: str | None, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(text, tmp_path, monkeypatch)
    assert precision.dtype_here() == dtype
    assert precision.instructions(COMPUTES) == ["AVX512-BF16"]


def run_of(folder: Path, **spec: object) -> RunConfig:
    models = {"m": VllmSpec(source="x", **spec), "s": ScriptedSpec(backend="scripted")}  # type: ignore[arg-type]
    return RunConfig(run=folder / "run", models=models)


def dtype_in(run: RunConfig) -> str:
    spec = precision.all_settled(run, ["m"]).models["m"]
    assert isinstance(spec, VllmSpec)
    return spec.dtype


def test_a_run_keeps_the_dtype_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    processor(COMPUTES, tmp_path, monkeypatch)
    run = run_of(tmp_path)
    assert dtype_in(run) == "bfloat16"
    assert json.loads((run.run / "dtype.json").read_text()) == {"dtype": "bfloat16"}
    assert capsys.readouterr().err == ""
    processor(DOES_NOT, tmp_path, monkeypatch)
    assert dtype_in(run) == "bfloat16"
    assert "began in bfloat16" in capsys.readouterr().err
    assert dtype_in(run.model_copy(update={"run": tmp_path / "other"})) == "float32"


def test_nothing_is_decided_for_a_named_dtype_a_gpu_or_other_backends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(COMPUTES, tmp_path, monkeypatch)
    assert dtype_in(run_of(tmp_path, dtype="float16")) == "float16"
    assert dtype_in(run_of(tmp_path, num_gpus=1)) == "auto"
    monkeypatch.setattr(runtime, "num_gpus", lambda: 8)
    assert dtype_in(run_of(tmp_path)) == "auto"
    monkeypatch.setattr(runtime, "num_gpus", lambda: 0)
    unused = precision.all_settled(run_of(tmp_path), ["s"]).models["m"]
    assert isinstance(unused, VllmSpec)
    assert unused.dtype == "auto"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", pytest.param("[" * 200_000, id="deep"), '{"dtype": "int8"}', "{}", '{"dtype": ["bfloat16"]}']
)
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dtype.json").write_text(text)
    with refused("damaged_artifact"):
        precision.all_settled(run_of(tmp_path), ["m"])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with refused("store_unwritable", "run"):
        precision.all_settled(run_of(tmp_path), ["m"])


def test_the_engine_arguments_beside_do_not_name_it() -> None:
    with pytest.raises(ValueError, match="set dtype next to `engine`"):
        VllmSpec(source="x", engine={"dtype": "float32"})
