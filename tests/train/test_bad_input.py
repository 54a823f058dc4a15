"""The job `invert` on input that does not fit: one sentence, exit 2, no folder; and which model writes its prompts."""

from pathlib import Path

import pytest

from cluster import config
from cluster.__main__ import main
from cluster.artifacts import JobDir
from cluster.jobs import sections
from judging.errors import InputError
from tests.train.inversion.making import BRIDGE, ONIONS, configuration, rated
from tests.train.making import jsonl
from train.inversion.invert import _inversion_spec


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["invert.examples=[a, zzz]"], "invert.examples: data.pool holds no record with the id 'zzz'"),
        (
            ["invert.examples=[half]", "invert.aspects=[overall, utility]"],
            "the example half has no human score for utility",
        ),
        (["invert.examples=[nosource]"], "invert: the example nosource has no text for 'Question'"),
        (["invert.aspects=[fluency]"], "the examples of qa (a, b) have no human score in common on fluency"),
        (["invert.examples=0"], "invert.examples: at least one example is needed"),
        (["invert.examples=-1"], "invert.examples: at least one example is needed"),
        (["invert.examples=[]"], "invert.examples: at least one example is needed"),
        (["invert.examples=9"], "invert.examples: 9 examples of qa are wanted, of 3 groups in data.pool"),
        (["invert.models=[judge, zzz]"], "invert.models: 'zzz' is none of models: inv, judge"),
        (["invert.inversion.judge=zzz"], "invert.inversion.judge: 'zzz' is none of models: inv, judge"),
        (
            ["invert.inversion={}"],
            "sft/judge/inverse holds no finished training: run `inverdict sft` first, or set invert.inversion.judge",
        ),
        (["data.pool=[]"], "the configuration has no data.pool to take a rated example from"),
        (["data.pool=[none.jsonl]"], "there is no file none.jsonl"),
        (["data.pool=[{folder}/bad.jsonl]"], "bad.jsonl, line 1: task: field required"),
        (["invert.dev=[none.jsonl]"], "there is no file none.jsonl"),
        (["invert.dev=[{folder}/bad.jsonl]"], "bad.jsonl, line 1: task: field required"),
        (["invert.dev=[{folder}/dev.jsonl]"], "invert.dev: no record of qa is rated on overall, utility"),
    ],
)
def test_the_users_mistake_is_one_sentence_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], sentence: str
) -> None:
    file = configuration(tmp_path)
    jsonl(tmp_path / "bad.jsonl", [{"id": "a"}])
    jsonl(tmp_path / "dev.jsonl", [rated("x", BRIDGE, task="summarisation", overall=1), rated("y", ONIONS)])
    options = [word for one in settings for word in ("--set", one.replace("{folder}", str(tmp_path)))]
    assert main(["invert", file, *options]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (tmp_path / "run").exists()


def test_the_model_that_sft_left_writes_the_prompts(tmp_path: Path) -> None:
    raw = {
        "run": tmp_path / "run",
        "models": {
            "judge": {"backend": "scripted"},
            "base": {"source": "org/base", "revision": "main", "max_model_len": 99},
        },
        "sft": {"models": {"judge": {"base": "base"}}},
        "invert": {"models": ["judge"]},
    }
    run = config.build(raw, sections(), origin="c.yaml")
    job = JobDir(tmp_path / "run" / "sft" / "judge", "inverse")
    with job.opened({}):
        job.claim()
    # Begun is not finished.
    with pytest.raises(InputError, match="holds no finished training"):
        _inversion_spec(run, run.invert, "judge")  # type: ignore[attr-defined]
    with job.opened({}):
        job.finish({})
    found = _inversion_spec(run, run.invert, "judge")  # type: ignore[attr-defined]
    # As its base, but for the weights; a folder has no revision.
    assert found == run.models["base"].model_copy(update={"source": str(job.path / "merged"), "revision": None})
