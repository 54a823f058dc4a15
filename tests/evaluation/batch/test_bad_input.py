"""The job `evaluate` on input that does not fit: one sentence, exit 2, nothing left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from cluster.artifacts import JobDir
from cluster.parts import parts_of
from evaluation.batch import config as evaluation
from evaluation.batch import evaluate as batch
from evaluation.batch.ingest import iter_rows
from evaluation.judges.aggregation import Ballot
from judging.data_config import DataConfig
from tests.evaluation.making import jsonl, row

Change = Callable[[Path, dict[str, Any]], None]


def content(text: str | list[Any]) -> Change:
    """The records' file holds this."""

    def change(folder: Path, config: dict[str, Any]) -> None:
        if isinstance(text, str):
            (folder / "in.jsonl").write_text(text)
        else:
            jsonl(folder / "in.jsonl", text)

    return change


def setting(key: str, value: Any) -> Change:
    """The configuration holds this."""

    def change(folder: Path, config: dict[str, Any]) -> None:
        *outer, last = key.split(".")
        for name in outer:
            config = config[name]
        config[last] = value

    return change


def model_folder(*files: str) -> Change:
    """The model is a folder with these files."""

    def change(folder: Path, config: dict[str, Any]) -> None:
        (folder / "model").mkdir()
        for file in files:
            (folder / "model" / file).write_text("{}")
        config["models"]["m"] = {"source": "./model"}

    return change


def prompt_file(text: str) -> Change:
    def change(folder: Path, config: dict[str, Any]) -> None:
        (folder / "p.txt").write_text(text)
        config["evaluate"]["judges"]["j"]["prompt"] = "p.txt"

    return change


HEAD = """---
task: qa
aspects: {overall: [1, 5]}
fields: [{name: source, title: Question}, {name: candidate, title: Answer}]
origin: inverse
about: {groups: []}
---
Rate {{candidate}} as an answer to {{source}}.
"""


def templates(path: str, text: str) -> Change:
    """The judge's prompts are those in `sub`, where there is a file with this text."""

    def change(folder: Path, config: dict[str, Any]) -> None:
        (folder / path).write_text(text)
        config["evaluate"]["judges"]["j"]["prompt"] = "sub"

    return change


CASES: dict[str, tuple[Change, str]] = {
    "missing file": (setting("data.records", ["none.jsonl"]), "there is no file none.jsonl"),
    "missing pool": (setting("data.pool", ["none.jsonl"]), "there is no file none.jsonl"),
    "empty file": (content(""), "in.jsonl is empty"),
    "no rows": (content("\n\n"), "in.jsonl holds no rows"),
    "unknown suffix": (setting("data.records", ["c.yaml"]), "c.yaml: cannot tell the format"),
    "broken JSON": (content([row("a"), '{"id": "b",']), "in.jsonl, line 2: broken JSON"),
    "no object": (content([row("a"), "[1]"]), "in.jsonl, line 2: a JSON object is needed"),
    "infinity": (content([row("a", scores={"overall": float("inf")})]), "in.jsonl, line 1: scores.overall: "),
    "off scale": (
        content([row("a", scores={"overall": 6})]),
        "line 1: scores.overall: 6 lies outside the scale 1 to 5",
    ),
    "no scale": (content([row("a", scale=None)]), "in.jsonl, line 1: scores.overall has no scale"),
    "no candidate": (content([{"task": "qa", "group": "g", "source": "s"}]), "in.jsonl, line 1: candidate: "),
    "a rated aspect that the task lacks": (
        content([row("a", scores={"Overal": 4})]),
        "in.jsonl, line 1: scores.Overal: the task 'qa' has no such aspect: did you mean 'overall'? it has overall, ",
    ),
    "a column that is nearly ours": (
        content([{**row("a"), "scroes": {"overall": 4}, "scores": None}]),
        "in.jsonl, line 1: the column 'scroes' is unknown: did you mean 'scores'?",
    ),
    "a setting that names no column": (
        setting("data.columns", {"answer": "candidate"}),
        "data.columns: no file has a column 'answer': they have ",
    ),
    "no group": (content([row("a", group=None)]), "in.jsonl, line 1: group: "),
    "same id twice": (content([row("a"), row("b"), row("a")]), "line 3: id 'a' stands already in in.jsonl, line 1"),
    "unknown task": (content([row("a", task="poem")]), "in.jsonl, line 1: task: there is no task 'poem'"),
    "unknown aspect": (
        setting("evaluate.aspects", ["beauty"]),
        "in.jsonl, line 1: task 'qa' has no aspect 'beauty': it has overall, utility",
    ),
    "unknown model name": (
        setting("evaluate.judges.j.model", "big"),
        "evaluate.judges.j.model: 'big' is none of models: m",
    ),
    "unknown embedded model": (setting("models.m", {"source": "embedded:gpt"}), "there is no embedded model 'gpt'"),
    "model folder that is missing": (setting("models.m", {"source": "./model"}), "/model does not exist"),
    "model folder without weights": (model_folder("config.json", "tokenizer.json"), "(the weights)"),
    "missing prompt file": (setting("evaluate.judges.j.prompt", "p.txt"), "there is no file p.txt"),
    "prompt file without a head": (prompt_file("Rate {{candidate}}"), "p.txt is not a template file"),
    "prompt folder without the template": (
        setting("evaluate.judges.j.prompt", "sub"),
        "evaluate.judges.j.prompt: sub holds no template for qa/overall: neither qa.overall.txt nor qa.txt",
    ),
    "prompt folder with a file that is no template": (
        templates("sub/notes.txt", "Rate well."),
        "sub/notes.txt is not a template file: it has no head",
    ),
    "prompt for another aspect": (
        templates("sub/qa.txt", HEAD.replace("overall", "utility")),
        "evaluate.judges.j.prompt: sub/qa.txt is for qa/utility, not for qa/overall",
    ),
    "prompt for another task": (
        templates("sub/qa.txt", HEAD.replace("task: qa", "task: story")),
        "evaluate.judges.j.prompt: sub/qa.txt is for story/overall, not for qa/overall",
    ),
    "prompt on another scale": (
        templates("sub/qa.txt", HEAD.replace("[1, 5]", "[1, 7]")),
        "evaluate.judges.j.prompt: sub/qa.txt asks for 1 to 7, the task's scale is 1 to 5",
    ),
    "prompt without an aspect": (
        templates("sub/qa.txt", HEAD.replace("{overall: [1, 5]}", "{}")),
        "sub/qa.txt is not a template file: aspects: Dictionary should have at least 1 item",
    ),
    "prompt with an aspect twice": (
        templates("sub/qa.txt", HEAD.replace("[1, 5]}", "[1, 5], overall: [1, 5]}")),
        "sub/qa.txt is not a template file: 'overall' stands twice, line 3",
    ),
    "prompt whose groups cannot be read": (
        templates("sub/qa.txt", HEAD.replace("groups: []", "groups: qa//g")),
        "sub/qa.txt is not a template file: about: groups: a list of group keys",
    ),
    "prompt that has seen every record": (
        templates("sub/qa.txt", HEAD.replace("groups: []", "groups: [qa//g]")),
        "all 2 records are of groups whose human scores a judge's prompt has seen",
    ),
    "no prompt": (setting("evaluate.judges.j.prompt", ""), "`evaluate.judges.j.prompt`: string should have at least 1"),
    "unknown prompt word": (
        setting("evaluate.judges.j.prompt", "invers"),
        "evaluate.judges.j.prompt: there is no file invers (paths count from the working directory), "
        "and it is none of rubric, inverse, forward",
    ),
    "prompts that are not learned yet": (
        setting("evaluate.judges.j.prompt", "inverse"),
        "evaluate.judges.j.prompt: runs/x/invert/m holds no finished inverse prompts: run `inverdict invert` first",
    ),
    "wrong example id": (
        setting("evaluate.judges.j.examples", ["e9"]),
        "evaluate.judges.j.examples: data.pool holds no record with the id 'e9'",
    ),
    "pool row that does not fit": (setting("data.pool", ["pool.jsonl"]), "pool.jsonl, line 2: "),
    "run below a file": (setting("run", "in.jsonl/run"), "in.jsonl/run/evaluate cannot be made"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, words = CASES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    jsonl(tmp_path / "in.jsonl", [row("a"), row("b")])
    jsonl(tmp_path / "pool.jsonl", [row("e1", "e"), "{"])
    config: dict[str, Any] = {
        "run": "runs/x",
        "data": {"records": ["in.jsonl"]},
        "models": {"m": {"backend": "scripted"}},
        "evaluate": {"judges": {"j": {"model": "m"}}},
    }
    change(tmp_path, config)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    code = main(["evaluate", "c.yaml"])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith("inverdict evaluate: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_records_of_a_process_that_was_killed_before_its_claim_are_not_trusted(tmp_path: Path) -> None:
    config = evaluation.Config(judges={"j": {"model": "m"}})
    job = JobDir(tmp_path / "run", "evaluate")

    def take_in(id: str) -> list[str]:
        data = DataConfig(records=(jsonl(tmp_path / "in.jsonl", [row(id)]),))
        batch._take_in(evaluation.Evaluation(None, config, data, job.path, {}, Ballot()), job, {})  # type: ignore[arg-type]
        return [json.loads(line)["id"] for line in (tmp_path / "in.jsonl").read_text().splitlines()]

    with job.opened({"data": "a"}):
        take_in("a")
        # As a kill leaves it: no claim, and nobody to clean up.
        (job.path / "fingerprint.json").write_text("{}")
    (job.path / "fingerprint.json").unlink()
    with job.opened({"data": "b"}):
        take_in("b")
        job.claim()
        assert [one["id"] for one in iter_rows(parts_of(job.path / "records"))] == ["b"]
        # From the claim on they are this work's.
        take_in("c")
        assert [one["id"] for one in iter_rows(parts_of(job.path / "records"))] == ["b"]
