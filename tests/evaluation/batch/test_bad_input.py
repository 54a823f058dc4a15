"""The job `evaluate` on input that does not fit: one line, exit 2, no files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from cluster.artifacts import JobDir
from cluster.config import load
from cluster.jobs import sections
from cluster.parts import parts_of
from evaluation.batch import config as evaluation
from evaluation.batch import evaluate as batch
from evaluation.batch.ingest import iter_rows
from evaluation.judges.aggregation import Ballot
from judging.data_config import DataConfig
from tests.evaluation.making import jsonl, row
from tests.refusals import refused

Change = Callable[[Path, dict[str, Any]], None]


def content(text: str | list[Any]) -> Change:
    """The records' file has this content."""

    def change(folder: Path, config: dict[str, Any]) -> None:
        if isinstance(text, str):
            (folder / "in.jsonl").write_text(text)
        else:
            jsonl(folder / "in.jsonl", text)

    return change


def setting(key: str, value: Any) -> Change:
    """The configuration has this value."""

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


Case = tuple[Change, str, str, str]  # what is wrong, and the error's code, key and a part of its message
PROMPT = "evaluate.judges.j.prompt"
CASES: dict[str, Case] = {
    "missing file": (setting("data.records", ["none.jsonl"]), "missing_file", "", "none.jsonl"),
    "missing pool": (setting("data.pool", ["none.jsonl"]), "missing_file", "", "none.jsonl"),
    "empty file": (content(""), "empty_file", "", "in.jsonl"),
    "no rows": (content("\n\n"), "empty_file", "", "in.jsonl"),
    "unknown suffix": (setting("data.records", ["c.yaml"]), "unsupported", "data.format", "c.yaml"),
    "broken JSON": (content([row("a"), '{"id": "b",']), "invalid_json", "", "in.jsonl, line 2"),
    "no object": (content([row("a"), "[1]"]), "invalid_json", "", "in.jsonl, line 2"),
    "infinity": (
        content([row("a", scores={"overall": float("inf")})]),
        *("invalid_value", "scores.overall", "in.jsonl, line 1: scores.overall: "),
    ),
    "off scale": (
        content([row("a", scores={"overall": 6})]),
        *("out_of_scale", "scores.overall", "line 1: scores.overall: 6 lies outside the scale 1 to 5"),
    ),
    "no scale": (content([row("a", scale=None)]), "missing_scale", "scores.overall", "in.jsonl, line 1"),
    "no candidate": (
        content([{"task": "qa", "group": "g", "source": "s"}]),
        *("missing_key", "candidate", "in.jsonl, line 1"),
    ),
    "a rated aspect that the task lacks": (
        content([row("a", scores={"Overal": 4})]),
        *("unknown_aspect", "scores.Overal", "Did you mean 'overall'?"),
    ),
    "a column that is nearly ours": (
        content([{**row("a"), "scroes": {"overall": 4}, "scores": None}]),
        *("unknown_key", "scroes", "Did you mean 'scores'?"),
    ),
    "a setting that names no column": (
        setting("data.columns", {"answer": "candidate"}),
        *("unknown_key", "data.columns", "'answer'"),
    ),
    "no group": (content([row("a", group=None)]), "missing_key", "group", "in.jsonl, line 1: group: "),
    "duplicate id": (content([row("a"), row("b"), row("a")]), "duplicate_id", "id", "line 3: duplicate id 'a'"),
    "unknown task": (content([row("a", task="poem")]), "unknown_task", "task", "in.jsonl, line 1: task: "),
    "unknown aspect": (
        setting("evaluate.aspects", ["beauty"]),
        *("unknown_aspect", "evaluate.aspects", "in.jsonl, line 1: the task 'qa' has no aspect 'beauty'"),
    ),
    "unknown model name": (
        setting("evaluate.judges.j.model", "big"),
        *("unknown_model", "evaluate.judges.j.model", "'big'"),
    ),
    "unknown embedded model": (setting("models.m", {"source": "embedded:gpt"}), "unknown_model", "", "gpt"),
    "model folder that is missing": (setting("models.m", {"source": "./model"}), "missing_file", "", "/model"),
    "model folder without weights": (
        model_folder("config.json", "tokenizer.json"),
        *("missing_file", "", "(the weights)"),
    ),
    "missing prompt file": (setting(PROMPT, "p.txt"), "missing_file", PROMPT, "p.txt"),
    "prompt file without a head": (prompt_file("Rate {{candidate}}"), "invalid_template", "", "p.txt"),
    "prompt folder without the template": (
        setting(PROMPT, "sub"),
        "unknown_prompt",
        PROMPT,
        "qa.overall.txt or qa.txt",
    ),
    "prompt folder with a file that is no template": (
        templates("sub/notes.txt", "Rate well."),
        *("invalid_template", "", "sub/notes.txt"),
    ),
    "prompt for another aspect": (
        templates("sub/qa.txt", HEAD.replace("overall", "utility")),
        *("unknown_prompt", PROMPT, "sub/qa.txt is a template for qa/utility, not for qa/overall"),
    ),
    "prompt for another task": (
        templates("sub/qa.txt", HEAD.replace("task: qa", "task: story")),
        *("unknown_prompt", PROMPT, "sub/qa.txt is a template for story/overall, not for qa/overall"),
    ),
    "prompt on another scale": (
        templates("sub/qa.txt", HEAD.replace("[1, 5]", "[1, 7]")),
        *("conflict", PROMPT, "sub/qa.txt has the scale 1 to 7"),
    ),
    "prompt without an aspect": (
        templates("sub/qa.txt", HEAD.replace("{overall: [1, 5]}", "{}")),
        *("invalid_value", "aspects", "sub/qa.txt"),
    ),
    "prompt with an aspect twice": (
        templates("sub/qa.txt", HEAD.replace("[1, 5]}", "[1, 5], overall: [1, 5]}")),
        *("duplicate_key", "", "'overall'"),
    ),
    "prompt whose groups cannot be read": (
        templates("sub/qa.txt", HEAD.replace("groups: []", "groups: qa//g")),
        *("invalid_value", "about", "sub/qa.txt"),
    ),
    "prompt made with the scores of every record": (
        templates("sub/qa.txt", HEAD.replace("groups: []", "groups: [qa//g]")),
        *("contaminated", "data.records", "All 2 records"),
    ),
    "no prompt": (setting(PROMPT, ""), "invalid_value", PROMPT, ""),
    "unknown prompt word": (setting(PROMPT, "invers"), "missing_file", PROMPT, "rubric, inverse, forward"),
    "prompts that are not learned yet": (
        setting(PROMPT, "inverse"),
        *("missing_job", PROMPT, "runs/x/invert/m. Run `inverdict invert`"),
    ),
    "wrong example id": (
        setting("evaluate.judges.j.examples", ["e9"]),
        *("unknown_example", "evaluate.judges.j.examples", "'e9'"),
    ),
    "invalid pool row": (setting("data.pool", ["pool.jsonl"]), "invalid_json", "", "pool.jsonl, line 2: "),
    "run below a file": (setting("run", "in.jsonl/run"), "store_unwritable", "run", "in.jsonl/run/evaluate"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, code, key, named = CASES[name]
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
    with refused(code, key, naming=named):
        batch.main(load(Path("c.yaml"), [], sections()))
    assert main(["evaluate", "c.yaml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("inverdict evaluate: ") and named in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
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
        # As after a kill: no claim, and no clean-up.
        (job.path / "fingerprint.json").write_text("{}")
    (job.path / "fingerprint.json").unlink()
    with job.opened({"data": "b"}):
        take_in("b")
        job.claim()
        assert [one["id"] for one in iter_rows(parts_of(job.path / "records"))] == ["b"]
        # After the claim they belong to this work.
        take_in("c")
        assert [one["id"] for one in iter_rows(parts_of(job.path / "records"))] == ["b"]
