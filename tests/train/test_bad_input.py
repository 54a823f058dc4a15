"""The job `invert` on input that does not fit: one sentence, exit 2, no folder; and which model writes its prompts."""

from pathlib import Path

import pytest

from cluster import config
from cluster.__main__ import main
from cluster.artifacts import JobDir
from cluster.jobs import sections
from tests.refusals import refused
from tests.train.inversion.making import BRIDGE, ONIONS, configuration, rated
from tests.train.making import jsonl
from train.finetuning.sft import main as sft
from train.inversion.invert import _inversion_spec
from train.inversion.invert import main as invert


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The configuration of a working run, beside files of rows that are not usable."""
    jsonl(tmp_path / "bad.jsonl", [{"id": "a"}])
    jsonl(tmp_path / "dev.jsonl", [rated("x", BRIDGE, task="summarisation", overall=1), rated("y", ONIONS)])
    return configuration(tmp_path)


@pytest.mark.parametrize(
    ("settings", "code", "key", "named"),
    [
        (["invert.examples=[a, zzz]"], "unknown_example", "invert.examples", "'zzz'"),
        (
            ["invert.examples=[half]", "invert.aspects=[overall, utility]"],
            *("no_scores", "invert.examples", "'half' has no human score on utility"),
        ),
        (["invert.examples=[nosource]"], "missing_text", "invert.examples", "'nosource' has no text for 'Question'"),
        (["invert.aspects=[fluency]"], "no_scores", "invert.examples", "(a, b)"),
        (["invert.examples=0"], "invalid_value", "invert.examples", ""),
        (["invert.examples=-1"], "invalid_value", "invert.examples", ""),
        (["invert.examples=[]"], "invalid_value", "invert.examples", ""),
        (
            ["invert.examples=9"],
            "not_enough_groups",
            "invert.examples",
            "only 3 group(s) of qa",
        ),
        (["invert.inversion={}"], "missing_job", "invert.inversion.judge", "sft/judge/inverse"),
        (["data.pool=[]"], "missing_key", "data.pool", ""),
        (["invert.dev=[{folder}/dev.jsonl]"], "no_scores", "invert.dev", "qa is rated on overall, utility"),
    ],
)
def test_the_users_mistake_is_refused_and_leaves_no_folder(
    tmp_path: Path, path: str, settings: list[str], code: str, key: str, named: str
) -> None:
    options = [one.replace("{folder}", str(tmp_path)) for one in settings]
    with refused(code, key, naming=named):
        invert(config.load(Path(path), options, sections()))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("invert.models=[judge, zzz]", ["invert.models", "zzz"]),
        ("invert.inversion.judge=zzz", ["invert.inversion.judge", "zzz"]),
        ("data.pool=[none.jsonl]", ["none.jsonl"]),
        ("data.pool=[{folder}/bad.jsonl]", ["bad.jsonl, line 1", "task"]),
        ("invert.dev=[none.jsonl]", ["none.jsonl"]),
        ("invert.dev=[{folder}/bad.jsonl]", ["bad.jsonl, line 1", "task"]),
    ],
)
def test_the_command_prints_one_line_and_leaves_no_folder(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str], setting: str, parts: list[str]
) -> None:
    assert main(["invert", path, "--set", setting.replace("{folder}", str(tmp_path))]) == 2
    said = capsys.readouterr()
    assert all(part in said.err for part in parts)
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (tmp_path / "run").exists()


def test_the_model_that_sft_left_writes_the_prompts(tmp_path: Path) -> None:
    raw = {
        "run": tmp_path / "run",
        "models": {
            "judge": {"backend": "scripted"},
            "base": {"source": "org/base", "revision": "main", "max_model_len": 99, "num_engines": 4},
        },
        "sft": {"models": {"judge": {"base": "base"}}},
        "invert": {"models": ["judge"]},
    }
    run = config.build(raw, sections(), origin="c.yaml")
    job = JobDir(tmp_path / "run" / "sft" / "judge", "inverse")
    with job.opened({}):
        job.claim()
    # Begun is not finished.
    with refused("missing_job", "invert.inversion.judge", naming=str(job.path)):
        _inversion_spec(run, run.invert, "judge")  # type: ignore[attr-defined]
    with job.opened({}):
        job.finish({})
    found = _inversion_spec(run, run.invert, "judge")  # type: ignore[attr-defined]
    # As its base, but for the weights; a folder has no revision, and a few prompts need no second engine.
    changed = {"source": str(job.path / "merged"), "revision": None, "num_engines": 1}
    assert found == run.models["base"].model_copy(update=changed)


def test_an_adapter_has_no_weights_to_train(tmp_path: Path) -> None:
    raw = {
        "run": tmp_path / "run",
        "models": {"m": {"source": "org/m"}, "tuned": {"base": "m", "adapter": "a"}},
        "sft": {"models": {"m": {"base": "tuned"}}},
    }
    with refused("unsupported", "sft.models.m.base", naming="a LoRA adapter"):
        sft(config.build(raw, sections(), origin="c.yaml"))
