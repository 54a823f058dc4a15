"""`fit-judge` and an evaluation with its judge, on Ray with the scripted model: what it learns, refuses and resumes."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from cluster.__main__ import main
from cluster.artifacts import read_json
from judging.fitted.regression import read_files

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
WORDS = ["sky", "air", "small", "waves", "scatter", "blue light", "the", "of", "short", "more than long ones"]


def texts(num_groups: int, *, first: int = 0, size: int = 6) -> list[dict[str, Any]]:
    """People like long answers; the scripted model's hidden state tells the length of its prompt."""
    draw = random.Random(first)
    rows = []
    for group in range(first, first + num_groups):
        lengths = draw.sample(range(3, 60), size)
        for place, length in enumerate(lengths):
            rows.append(
                {
                    "id": f"r{group}-{place}",
                    "task": "qa",
                    "group": f"g{group}",
                    "source": f"Why is number {group} blue?",
                    "candidate": " ".join(draw.choices(WORDS, k=length)),
                    "scores": {"overall": 1 + sum(other < length for other in lengths) * 4 // (size - 1)},
                    "scale": [1, 5],
                }
            )
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def configuration(folder: Path, pool: list[dict[str, Any]], records: list[dict[str, Any]], **changes: Any) -> str:
    config = {
        "run": str(folder / "run"),
        "data": {"records": [write(folder / "in.jsonl", records)], "pool": [write(folder / "pool.jsonl", pool)]},
        "models": {"m": {"backend": "scripted"}},
        "fit_judge": {"max_novelty": None, "baseline_encoder": None},
        "evaluate": {"judges": {"fitted": {"model": "m", "score_mode": "fitted"}, "plain": {"model": "m"}}},
        "report": {"resamples": 100},
        **changes,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    records = texts(10, first=100)
    copy = {
        **texts(1)[0],
        "id": "copy",
        "group": "other",
        "source": "why is NUMBER 0 blue",
    }  # a near copy of the pool's
    config = configuration(folder, texts(20), [*records, *texts(2), copy])
    assert main(["fit-judge", config]) == 0
    assert main(["evaluate", config]) == 0
    assert main(["report", config]) == 0
    return folder


def test_the_regression_agrees_with_people_and_says_how_far(fitted: Path) -> None:
    regression, about = read_files(fitted / "run" / "fit_judge" / "fitted" / "qa.overall.safetensors")
    assert (about["n"], about["num_groups"], about["depth"]) == (120, 20, 1)
    agreement = about["agreement"]
    assert agreement["fitted"]["group.spearman"]["value"] > 0.8
    assert agreement["length"]["group.spearman"]["value"] > 0.9  # here people look at nothing else
    assert agreement["fitted - zero_shot"]["group.spearman"]["low"] > 0
    assert 0 < regression.half_width < 2
    assert len(about["taught"]["groups"]) == 20


def test_new_texts_have_scores_with_intervals_and_what_taught_is_not_judged(fitted: Path) -> None:
    rows = pq.read_table(fitted / "run" / "evaluate" / "scores.parquet").to_pylist()
    assert len(rows) == 60
    assert {row["group"] for row in rows} == {f"g{group}" for group in range(100, 110)}
    done = read_json(fitted / "run" / "evaluate" / "manifest.json")
    assert done is not None
    assert done["summary"]["num_left_out"] == 13  # two groups of the pool, and the near copy
    for row in rows:
        assert row["fitted.mode"] == "fitted"
        assert 1 <= row["fitted.low"] <= row["fitted.score"] <= row["fitted.high"] <= 5
        assert 0 <= row["fitted.novelty"] <= 1
    held = [row["fitted.low"] <= row["label"] <= row["fitted.high"] for row in rows]
    assert sum(held) >= 48  # 90 % are promised; 60 rows of 10 groups
    metrics = json.loads((fitted / "run" / "report" / "metrics.json").read_text())
    assert metrics["slices"][0]["agreement"]["fitted"]["group"]["spearman"]["value"] > 0.8


def test_both_are_done_once(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for job in ("fit-judge", "evaluate"):
        assert main([job, str(fitted / "c.yaml")]) == 0
    assert capsys.readouterr().err.count("done before") == 2
