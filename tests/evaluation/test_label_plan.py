"""`inverdict plan-labels` on evaluations written by hand: the table, the file, its errors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cluster.__main__ import main
from cluster.artifacts import JobDir
from cluster.config import load
from cluster.jobs import sections
from evaluation import label_plan
from evaluation.batch.verdicts import VERDICT_SCHEMA
from tests.evaluation.making import scores_file
from tests.refusals import refused

Probabilities = Mapping[str, Mapping[str, Sequence[float]]]  # by judge and record id


def evaluated(folder: Path, rows: Sequence[Mapping[str, Any]], probabilities: Probabilities | None = None) -> str:
    """A finished evaluation below `folder/run`, and the configuration that names it."""
    (folder / "c.yaml").write_text(yaml.safe_dump({"run": str(folder / "run")}))
    job = JobDir(folder / "run", "evaluate")
    with job.opened({}):
        job.claim()
        scores_file(job.path, rows)
        for judge, known in (probabilities or {}).items():
            out = job.path / "verdicts" / judge
            out.mkdir(parents=True)
            verdicts = [
                {"id": id, "aspect": "overall", "label_probabilities": list(found)} for id, found in known.items()
            ]
            pq.write_table(pa.Table.from_pylist(verdicts, schema=VERDICT_SCHEMA), out / "part-0.parquet")
        job.finish({"judges": {}})
    return str(folder / "c.yaml")


def one(id: str, group: str, label: float | None, candidate_chars: int = 10, **scores: float | None) -> dict[str, Any]:
    about = {"id": id, "group": group, "label": label, "system": f"s{id}", "candidate_chars": candidate_chars}
    return {**about, "scores": scores}


def labelled() -> list[dict[str, Any]]:
    """Four groups of three: `right` always right; `wrong` right, reversed, right, constant; length as `wrong`."""
    said = {"a": (1, 2, 3), "b": (3, 2, 1), "c": (1, 2, 3), "d": (2, 2, 2)}
    return [
        one(f"{group}{place}", group, place + 1, candidate_chars=10 * wrong[place], right=place + 1, wrong=wrong[place])
        for group, wrong in said.items()
        for place in range(3)
    ]


UNLABELLED = [
    one("x1", "x", None, right=3, wrong=3),
    one("x2", "x", None, right=3, wrong=3),
    one("y1", "y", None, right=5, wrong=1),
    one("z1", "z", None, right=1, wrong=5),
]


def planned(config: str, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["plan-labels", config, "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_plan_of_labelled_and_unlabelled_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = evaluated(tmp_path, [*labelled(), *UNLABELLED])
    found = planned(config, capsys)
    [part] = found["slices"]
    assert (part["task"], part["aspect"], part["num_rows"], part["num_groups"], part["note"]) == (
        "qa", "overall", 12, 4, None
    )  # fmt: skip
    pairs = {(pair["first"], pair["second"]): pair["statistics"] for pair in part["pairs"]}
    assert list(pairs) == [("right", "wrong"), ("right", "length"), ("wrong", "length"), ("panel", "length")]
    # Spearman: differences 0, 2, 0, undefined, as worked out in tests/judging/stats/test_power.py.
    spearman = pairs["right", "wrong"]["group.spearman"]
    assert spearman["difference"] == pytest.approx(2 / 3)
    assert (spearman["num_groups"], spearman["needed"]["0.20"]) == (3, 349)
    assert pairs["right", "length"] == pairs["right", "wrong"]
    assert set(pairs["wrong", "length"]["group.spearman"]["needed"].values()) == {None}
    # Means 3 and 3: no doubt about x, all about y and z, which are ranked by name.
    assert [(group["rank"], group["group"], group["priority"], group["texts"]) for group in found["next"]] == [
        (1, "y", 1.0, {"y1": ["overall"]}),
        (2, "z", 1.0, {"z1": ["overall"]}),
        (3, "x", 0.0, {"x1": ["overall"], "x2": ["overall"]}),
    ]
    assert (found["num_texts"], found["file"]) == (4, None)


def test_the_table_and_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = evaluated(tmp_path, [*labelled(), *UNLABELLED])
    assert main(["plan-labels", config, "--out", str(tmp_path / "next.jsonl")]) == 0
    shown = capsys.readouterr().out
    table = next(line for line in shown.splitlines() if line.startswith("right minus wrong"))
    # 7.849 * (1.1547 / d)^2 over the share .75 of groups that tell something: 5581.4, 1395.4, 620.2, 348.8.
    assert table.split()[3:] == ["group.spearman", ".67", "1.15", "5,582", "1,396", "621", "349", "1.87"]
    assert "4 texts without a label" in shown and shown.rstrip().endswith("next.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "next.jsonl").read_text().splitlines()]
    assert [(line["rank"], line["group"], line["id"], line["system"]) for line in lines] == [
        (1, "y", "y1", "sy1"),
        (2, "z", "z1", "sz1"),
        (3, "x", "x1", "sx1"),
        (3, "x", "x2", "sx2"),
    ]
    assert lines[0] == {
        "rank": 1,
        "task": "qa",
        "dataset": "d",
        "group": "y",
        "id": "y1",
        "system": "sy1",
        "aspects": ["overall"],
        "priority": 1.0,
        "disagreement": 1.0,
        "entropy": None,
    }


def test_probabilities_decide_where_the_judges_have_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sure, even = (0.0, 0, 1, 0, 0), (0.2,) * 5
    rows = [one("x", "x", None, right=3), one("y", "y", None, right=3)]
    config = evaluated(tmp_path, rows, {"right": {"x": sure, "y": even, "foreign": even}})
    found = planned(config, capsys)
    assert [(group["group"], group["entropy"], group["disagreement"]) for group in found["next"]] == [
        ("y", pytest.approx(1), None),
        ("x", 0, None),
    ]
    assert found["slices"] == []
    assert main(["plan-labels", config]) == 0
    assert "No text has a label yet" in capsys.readouterr().out


def test_groups_of_another_task_have_ranks_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*UNLABELLED, *({**row, "id": f"{row['id']}s", "task": "story"} for row in UNLABELLED)]
    found = planned(evaluated(tmp_path, rows), capsys)
    assert [(group["task"], group["rank"]) for group in found["next"]] == [
        (task, rank) for task in ("qa", "story") for rank in (1, 2, 3)
    ]


def test_one_judge_is_compared_with_the_length_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {**row, "scores": {"wrong": row["scores"]["wrong"]}, "candidate_chars": 10 + place}
        for place, row in enumerate(labelled())
    ]
    config = evaluated(tmp_path, rows)
    assert main(["plan-labels", config]) == 0
    shown = capsys.readouterr().out
    assert "wrong is the only judge" in shown
    assert "wrong minus length" in shown and "panel" not in shown and "Every text has a label." in shown


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((2.0, 2.0, 2.0), "all labels are 2"),
        ((None, None, 1.0), "fewer than 3 groups"),
    ],
)
def test_a_slice_without_a_plan_says_why_and_the_others_are_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: Any, words: str
) -> None:
    rows = [{**row, "label": labels[place % 3]} for place, row in enumerate(labelled())]
    if labels == (None, None, 1.0):
        rows[2]["label"] = 2.0
    config = evaluated(tmp_path, [*rows, *UNLABELLED])
    assert main(["plan-labels", config]) == 0
    shown = capsys.readouterr().out
    assert words in shown and "label next" in shown


def plan(config: str, out: Path | None = None) -> None:
    label_plan.main(load(Path(config), [], sections()), out=out)


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    constant = [{**row, "label": 2.0} for row in labelled()]
    (tmp_path / "constant").mkdir()
    with refused("no_records", "data.records", naming="all labels are 2"):
        plan(evaluated(tmp_path / "constant", constant))
    (tmp_path / "alone").mkdir()
    with refused("not_enough_judges", "evaluate.judges", naming="the judge right"):
        plan(evaluated(tmp_path / "alone", [one("x", "x", None, right=3)]))
    config = evaluated(tmp_path, UNLABELLED)
    with refused("invalid_value", naming=f"folder not found: {tmp_path / 'none'}"):
        plan(config, tmp_path / "none" / "next.jsonl")
    assert not (tmp_path / "none").exists()
    with refused("invalid_value", naming=f"{tmp_path} is a folder"):
        plan(config, tmp_path)


def test_without_a_finished_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"run": str(tmp_path / "run")}))
    with refused("missing_job", naming=f"{tmp_path}/run/evaluate. Run `inverdict evaluate`"):
        plan(str(config))
    assert main(["plan-labels", str(config)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
