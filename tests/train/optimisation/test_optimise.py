"""The job `optimise`: what it keeps, what it never sees, when it stops, what it refuses, what it goes on from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from cluster.config import load
from cluster.jobs import sections
from evaluation.judges.aggregation import load_panel
from evaluation.judges.prompt_sources import find_prompts
from judging.data_config import DataConfig
from judging.datasets import read_records
from judging.records import Record
from judging.template_io import load_templates
from tests.refusals import refused
from tests.train.making import jsonl
from train.optimisation.optimise import main as optimise
from train.optimisation.rounds import shared_groups

GOLD = "Rate from 1 to 5 in the golden manner how good the answer is, 1 for the worst, 5 for the best."
TIN = "Rate from 1 to 5 in the tin manner how good the answer is, 1 for the worst, 5 for the best."
ROWS = [
    {
        "id": f"{group}-{level}",
        "task": "qa",
        "group": f"g{group}",
        "source": f"Question {group}?",
        "candidate": f"An answer of level {level} to number {group}.",
        "scores": {"overall": level},
        "scale": [1, 5],
    }
    for group in range(24)
    for level in (1, 3, 5)
]
Answers = Callable[[dict[str, Any]], dict[str, Any]]


class Model:
    """In place of the engine: the golden instruction makes a perfect judge, tin one a reversed, else a constant with a
    slight order; the optimising model writes `drafts` in turn. Counts what it was asked."""

    def __init__(self, *drafts: str) -> None:
        self.drafts, self.asked, self.prompts = drafts, [], []  # type: ignore[var-annotated]

    def __call__(self, run: Any, rows: Any, spec: Any, sampling: Any, keep: Any, what: str) -> list[dict[str, Any]]:
        self.asked.append(what.split(": ")[-1])
        self.prompts += [row["prompt"] for row in rows]
        return [{name: {**row, **self._answer(row)}[name] for name in keep} for row in rows]

    def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
        said = {"error": "", "finish_reason": "stop", "num_prompt_tokens": 10, "num_generated_tokens": 1}
        said |= {"reply": "", "detail": "", "label_logprobs": []}
        if not row["labels"]:
            return {**said, "reply": self.drafts[row["draft"] % len(self.drafts)]}
        level = next(level for level in (1, 3, 5) if f"of level {level}" in row["prompt"])
        shown = level if "golden" in row["prompt"] else 6 - level if "tin" in row["prompt"] else 1 if level < 5 else 2
        return {**said, "label_logprobs": [0.0 if label == str(shown) else math.nan for label in row["labels"]]}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    model = Model("Write about trains.", TIN, GOLD, GOLD)
    monkeypatch.setattr("train.requests.ask_all", model)
    yield model


def configuration(folder: Path, rows: Any = None, *, data: Any = None, **optimise: Any) -> str:
    folder.mkdir(exist_ok=True)
    config = {
        "run": str(folder / "run"),
        "data": {"records": [jsonl(folder / "rows.jsonl", rows or ROWS)], "dev_share": 0.5, **(data or {})},
        "models": {"judge": {"backend": "scripted"}, "writer": {"backend": "scripted", "delay_s": 0.1}},
        "optimise": {"models": ["judge"], **optimise},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def lines(folder: Path) -> list[dict[str, Any]]:
    file = folder / "run" / "optimise" / "judge" / "rounds.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def dev_records(folder: Path) -> list[Record]:
    data = DataConfig(records=(str(folder / "rows.jsonl"),), dev_share=0.5)
    return [row for row in read_records(data.records) if isinstance(row, Record) and data.develops(row)]


def used(folder: Path) -> list[Record]:
    """Those that the job uses: half of the dev groups."""
    records = dev_records(folder)
    kept = shared_groups([record.group_key for record in records], 0.5)
    return [record for record in records if record.group_key in kept]


@pytest.mark.parametrize(
    ("num", "share", "used"),
    [(10, 0.5, 5), (9, 0.3, 3), (4, 0.2, 2), (3, 0.9, 2), (2, 0.5, 1), (7, 1.0, 7), (1, 0.5, 0)],
)
def test_some_groups_are_used_and_some_stay(num: int, share: float, used: int) -> None:
    groups = [f"g{number}" for number in range(num)]
    found = shared_groups(groups, share)
    assert len(found) == used
    assert shared_groups(reversed(groups), share) == found


def test_no_task_is_left_without_groups(tmp_path: Path, model: Model) -> None:
    """Of dialogue three groups alone are in the dev part: two are used, one stays."""
    few = [{**row, "task": "dialogue", "fact": "", "id": f"d{row['id']}", "group": f"d{row['group']}"} for row in ROWS]
    rows = [*ROWS, *[row for row in few if row["group"] in ("dg0", "dg1", "dg2")]]
    data = {"dev_share": None, "dev": [jsonl(tmp_path / "dev.jsonl", rows)]}
    assert main(["optimise", configuration(tmp_path, [{**ROWS[0], "group": "other"}], data=data)]) == 0
    places = tmp_path / "run" / "optimise" / "judge" / "optimised"
    seen = {task: load_templates(places / f"{task}.overall.txt")["overall"].seen_groups for task in ("qa", "dialogue")}
    assert len(seen["dialogue"]) == 2
    assert len(seen["qa"]) == 12


def test_the_best_instruction_is_kept_and_found_by_evaluate(tmp_path: Path, model: Model) -> None:
    assert main(["optimise", configuration(tmp_path)]) == 0
    found = lines(tmp_path)
    first = {(line["round"], line["draft"]): line for line in found}
    # The start sees 1 and 3 as equal: in each group, ranks 1.5 1.5 3 against 1 2 3 give Spearman .866.
    assert first[0, 0]["value"] == pytest.approx(0.866025, abs=1e-6)
    assert first[1, 0]["problems"][0] == "it does not state the scale 1 to 5"
    assert (first[1, 1]["value"], first[1, 2]["value"]) == (-1.0, 1.0)
    assert first[1, 3]["problems"] == ["it repeats another draft of the round"]
    assert [place for place, line in first.items() if line["kept"]] == [(1, 2)]
    # Nothing is better than 1.0: the second round gains nothing, and with patience 1 it is the last.
    assert max(line["round"] for line in found) == 2
    template = find_prompts(tmp_path / "run", "j", "judge", "optimised").template("qa", "overall")
    assert template.text.startswith(GOLD) and template.about["round"] == 1
    assert template.about["value"] == 1.0 and template.about["value_of_start"] == pytest.approx(0.866025, abs=1e-6)


def test_it_never_sees_the_test_part_and_evaluate_leaves_out_what_it_saw(tmp_path: Path, model: Model) -> None:
    assert main(["optimise", configuration(tmp_path)]) == 0
    dev = {record.group for record in used(tmp_path)}
    assert 0 < len(dev) < len({record.group for record in dev_records(tmp_path)}) < 24
    asked = {f"g{prompt.split('Question ')[1].split('?')[0]}" for prompt in model.prompts}
    assert asked <= dev
    file = tmp_path / "run" / "optimise" / "judge" / "optimised" / "qa.overall.txt"
    assert load_templates(file)["overall"].seen_groups == {f"qa//{group}" for group in dev}


def test_the_shown_half_does_not_measure(tmp_path: Path, model: Model) -> None:
    assert main(["optimise", configuration(tmp_path)]) == 0
    shown = {id.split("-")[0] for line in lines(tmp_path) for id in line["cases"]}
    data = json.loads((tmp_path / "run" / "optimise" / "judge" / "manifest.json").read_text())
    (one,) = data["summary"]["templates"]
    groups = {record.group for record in used(tmp_path)}
    assert one["num_measured"] == 3 * (len(groups) // 2)  # three texts a group; of an odd number, one more is shown
    assert len(shown) <= len(groups) - len(groups) // 2


def test_the_start_is_kept_where_no_draft_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("train.requests.ask_all", Model(TIN))
    assert main(["optimise", configuration(tmp_path, patience=2, rounds=5)]) == 0
    assert max(line["round"] for line in lines(tmp_path)) == 2
    out = capsys.readouterr()
    assert "the start, which is kept" in out.err
    assert "group.spearman 0.866 -> 0.866" in out.out and "the start is kept" in out.out
    file = tmp_path / "run" / "optimise" / "judge" / "optimised" / "qa.overall.txt"
    kept = load_templates(file)["overall"]
    assert kept.about["round"] == 0 and "You read a question" in kept.text and kept.seen_groups


def test_no_round_begins_beyond_the_tokens(tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    num_dev = len(dev_records_of(tmp_path))
    # Round 0 asks for each dev record once, 11 tokens each; round 1 would need more than that again.
    assert main(["optimise", configuration(tmp_path, max_total_tokens=11 * num_dev)]) == 0
    assert model.asked == ["round-0-scores", "round-1-drafts", "round-1-scores"]  # the first round's cost is not known
    assert "max_total_tokens" in capsys.readouterr().out


def dev_records_of(folder: Path) -> list[Record]:
    configuration(folder)
    return used(folder)


def test_a_killed_run_repeats_only_its_stage_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Model(TIN, GOLD)
    monkeypatch.setattr("train.requests.ask_all", whole)
    assert main(["optimise", configuration(tmp_path / "whole", num_drafts=2)]) == 0

    class Killed(Model):
        def __call__(self, *args: Any) -> list[dict[str, Any]]:
            if args[-1].endswith("round-1-scores"):
                raise KeyboardInterrupt
            return super().__call__(*args)

    config = configuration(tmp_path / "killed", num_drafts=2)
    monkeypatch.setattr("train.requests.ask_all", Killed(TIN, GOLD))
    assert main(["optimise", config]) == 130
    again = Model(TIN, GOLD)
    monkeypatch.setattr("train.requests.ask_all", again)
    assert main(["optimise", config]) == 0
    assert again.asked == ["round-1-scores", "round-2-drafts", "round-2-scores"]
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    last = Model()
    monkeypatch.setattr("train.requests.ask_all", last)
    assert main(["optimise", config]) == 0 and last.asked == []


def test_another_model_may_rewrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = []

    class Watching(Model):
        def __call__(self, run: Any, rows: Any, spec: Any, *more: Any) -> list[dict[str, Any]]:
            specs.append((more[-1].split(": ")[-1].split("-")[-1], spec.delay_s))
            return super().__call__(run, rows, spec, *more)

    monkeypatch.setattr("train.requests.ask_all", Watching(GOLD))
    assert main(["optimise", configuration(tmp_path, rounds=1, optimisers={"judge": "writer"})]) == 0
    assert specs == [("scores", 0), ("drafts", 0.1), ("scores", 0)]


@pytest.mark.parametrize(
    ("rows", "settings", "code", "key"),
    [
        (None, ["data.dev_share=null"], "missing_key", "data.dev_share"),
        (None, ["optimise.aspects=[utility]"], "no_scores", "optimise.aspects"),
        (None, ["optimise.start=inverse"], "missing_job", "optimise.start"),
        (None, ["optimise.start=nowhere"], "missing_file", "optimise.start"),
        ([{**row, "scores": {"overall": 3}} for row in ROWS], [], "infeasible", ""),
        (
            [{**row, "group": "one", "source": "s"} for row in ROWS],
            ["data.dev_share=0.999", "optimise.share=1.0"],
            *("not_enough_groups", "optimise.share"),
        ),
        ([{**row, "scores": {}} for row in ROWS], [], "no_scores", ""),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, model: Model, rows: Any, settings: list[str], code: str, key: str
) -> None:
    path = Path(configuration(tmp_path, rows))
    with refused(code, key):
        optimise(load(path, settings, sections()))
    assert model.asked == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "more", "parts"),
    [
        (None, {"models": ["nobody"]}, ["optimise.models", "nobody"]),
        (None, {"optimisers": {"judge": "nobody"}}, ["optimise.optimisers.judge", "nobody"]),
        ([{**ROWS[0], "scores": {"overall": "x"}}], {}, ["rows.jsonl, line 1"]),
    ],
)
def test_the_command_prints_one_line(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str], rows: Any, more: Any, parts: list[str]
) -> None:
    assert main(["optimise", configuration(tmp_path, rows, **more)]) == 2
    err = capsys.readouterr().err.strip()
    assert all(part in err for part in parts) and len(err.splitlines()) == 1
    assert model.asked == [] and not (tmp_path / "run").exists()


def test_a_start_under_which_nothing_is_scored_is_no_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Model):
        def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
            said = super()._answer(row)
            if row["labels"] and "manner" not in row["prompt"]:
                return {**said, "label_logprobs": [], "error": "timeout"}
            return said

    monkeypatch.setattr("train.requests.ask_all", Mute(TIN))
    assert main(["optimise", configuration(tmp_path, rounds=1)]) == 0
    start, *drafts = lines(tmp_path)
    assert start["value"] is None and "scored 0 of" in start["problems"][0]
    assert drafts[0]["kept"] and drafts[0]["value"] == -1.0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_with_a_scripted_engine_on_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration(tmp_path, rounds=1, num_drafts=2)
    assert main(["optimise", config]) == 0
    out = capsys.readouterr().out
    assert "judge: " in out and "qa/overall" in out and "2 of 2 drafts rejected" in out  # "Scripted reply ..."
    judges = "{o: {model: judge, prompt: optimised}, r: {model: judge}}"
    evaluate = ["--set", f"evaluate={{judges: {judges}, vote: {{rule: best}}}}"]
    # What chose the prompt does not choose the judge: that is left to the other groups of the dev part.
    assert main(["panel", config, *evaluate]) == 0
    chosen = load_panel(tmp_path / "run" / "panel" / "panel.yaml").chosen[0]
    seen = find_prompts(tmp_path / "run", "o", "judge", "optimised").seen_groups()
    assert len(seen) + chosen.num_groups == len({record.group for record in dev_records(tmp_path)})
    assert main(["evaluate", config, *evaluate]) == 0
