"""`fit-judge` and an evaluation with its judge, on Ray with the scripted model: what it learns, refuses and resumes."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import spearmanr

from cluster.__main__ import main
from cluster.artifacts import read_json
from judging.fitted.regression import read_files
from judging.tasks import FOLDER

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
    # The stated agreement can be computed again from the held-out scores.
    held_out = pq.read_table(fitted / "run" / "fit_judge" / "fitted" / "held_out.parquet").to_pandas()
    assert list(held_out.columns[:5]) == ["id", "group", "task", "aspect", "label"]
    assert held_out["embeddings"].isna().all()
    by_group = [spearmanr(rows["label"], rows["fitted"]).statistic for _, rows in held_out.groupby("group")]
    assert sum(by_group) / 20 == pytest.approx(agreement["fitted"]["group.spearman"]["value"])


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
    page = (fitted / "run" / "report" / "report.html").read_text()
    assert "Fitted judges" in page
    assert "120 labelled texts, 20 groups; the lowest 1 layers" in page
    metrics = json.loads((fitted / "run" / "report" / "metrics.json").read_text())
    assert metrics["slices"][0]["agreement"]["fitted"]["group"]["spearman"]["value"] > 0.8


def test_both_are_done_once(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for job in ("fit-judge", "evaluate"):
        assert main([job, str(fitted / "c.yaml")]) == 0
    assert capsys.readouterr().err.count("done before") == 2


def test_a_killed_job_resumes_from_its_parts_to_the_same_numbers(fitted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "fit_judge" / "fitted"
    shutil.copytree(fitted / "run", tmp_path / "run")
    before = (fitted / "run" / "fit_judge" / "fitted" / "qa.overall.safetensors").read_bytes()
    (folder / "manifest.json").unlink()
    (folder / "qa.overall.safetensors").unlink()
    missing, damaged, kept, *_ = sorted((folder / "states").glob("part-*.parquet"))
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:100])
    was = kept.stat().st_mtime_ns
    assert main(["fit-judge", str(fitted / "c.yaml"), "--set", f"run={tmp_path / 'run'}"]) == 0
    assert kept.stat().st_mtime_ns == was
    assert missing.exists()
    assert (folder / "qa.overall.safetensors").read_bytes() == before


def copied(fitted: Path, folder: Path, **judge: Any) -> str:
    """The finished run in `folder`, not evaluated yet, with another section of the judge."""
    shutil.copytree(fitted / "run" / "fit_judge", folder / "run" / "fit_judge")
    judges = {"fitted": {"model": "m", "score_mode": "fitted", **judge}}
    return configuration(folder, texts(20), texts(3, first=100), evaluate={"judges": judges})


def test_another_prompt_than_that_of_the_fit_is_refused(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copied(fitted, tmp_path, examples=["r0-0"])
    assert main(["evaluate", config]) == 2
    assert "was fitted with another prompt or examples" in capsys.readouterr().err
    assert main(["evaluate", config, "--set", "models.m.max_prompt_chars=5000"]) == 2
    assert "was fitted with another model" in capsys.readouterr().err
    assert not (tmp_path / "run" / "evaluate").exists()


@pytest.mark.parametrize("name", ["qa.overall.safetensors", "qa.overall.json"])
def test_a_changed_or_missing_file_is_refused(
    fitted: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copied(fitted, tmp_path)
    file = tmp_path / "run" / "fit_judge" / "fitted" / name
    good = file.read_bytes()
    file.write_bytes(good.replace(b"1", b"2", 1) if name.endswith("json") else good[:-1] + b"\1")
    assert main(["evaluate", config]) == 2
    assert "is missing or was changed after `fit-judge`" in capsys.readouterr().err
    file.unlink()
    assert main(["evaluate", config]) == 2
    assert "is missing or was changed after `fit-judge`" in capsys.readouterr().err


def test_an_aspect_without_a_fit_and_no_fit_at_all(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copied(fitted, tmp_path)
    assert main(["evaluate", config, "--set", "evaluate.aspects=[overall, utility]"]) == 2
    assert "was not fitted for qa/utility, only for qa/overall" in capsys.readouterr().err
    assert main(["evaluate", config, "--set", f"run={tmp_path / 'other'}"]) == 2
    assert "Run `inverdict fit-judge` first" in capsys.readouterr().err


def test_labels_of_the_dev_part_teach_and_are_not_judged(tmp_path: Path) -> None:
    copy = {**texts(1)[0], "id": "copy", "group": "other", "source": "why is NUMBER 0 blue"}
    data = {
        "records": [write(tmp_path / "rows.jsonl", [copy, *texts(14)[72:], *texts(2, first=100)])],
        "dev": [write(tmp_path / "dev.jsonl", texts(12))],
    }
    fit_judge = {"labels": "dev", "max_novelty": None, "baseline_encoder": None}
    config = configuration(tmp_path, [], [], data=data, fit_judge=fit_judge)
    assert main(["fit-judge", config]) == 0
    assert main(["evaluate", config]) == 0
    rows = pq.read_table(tmp_path / "run" / "evaluate" / "scores.parquet").to_pylist()
    assert {row["group"] for row in rows} == {"g12", "g13", "g100", "g101"}
    done = read_json(tmp_path / "run" / "evaluate" / "manifest.json")
    assert done is not None
    assert done["summary"]["num_left_out"] == 1  # the near copy, of a group that dev does not have
    _, about = read_files(tmp_path / "run" / "fit_judge" / "fitted" / "qa.overall.safetensors")
    assert set(about["taught"]["groups"]) == {f"qa//g{number}" for number in range(12)}
    assert about["num_groups"] == 12


def test_another_rubric_or_example_than_that_of_the_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text(
        (FOLDER / "qa.yaml").read_text(encoding="utf-8").replace("name: qa", "name: mine"), encoding="utf-8"
    )
    rows = [{key: value for key, value in row.items() if key != "task"} for row in texts(14)]
    data = {
        "records": [write(tmp_path / "rows.jsonl", rows[72:])],
        "pool": [write(tmp_path / "labelled.jsonl", rows[:72])],
        "task": str(task),
    }
    judges = {"fitted": {"model": "m", "score_mode": "fitted", "examples": ["r0-0"]}}
    config = configuration(tmp_path, [], [], data=data, evaluate={"judges": judges})
    assert main(["fit-judge", config]) == 0
    write(tmp_path / "labelled.jsonl", [{**rows[0], "candidate": "Something else."}, *rows[1:72]])
    assert main(["evaluate", config]) == 2
    assert "another data.pool, index or seed" in capsys.readouterr().err
    write(tmp_path / "labelled.jsonl", rows[:72])
    task.write_text(task.read_text(encoding="utf-8").replace("question: ", "question: Really, ", 1), encoding="utf-8")
    assert main(["evaluate", config]) == 2
    assert "another rubric of a task" in capsys.readouterr().err


def test_a_vote_that_was_learned_with_another_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"vote": {"rule": "learned"}, "judges": {"fitted": {"model": "m", "score_mode": "fitted"}}}
    pool, rows = texts(12), texts(6, first=100)
    config = configuration(tmp_path, pool, rows, evaluate=told, panel={})
    dev = ["--set", "data.dev_share=0.5"]
    for job in ("fit-judge", "panel"):
        assert main([job, config, *dev]) == 0
    shutil.rmtree(tmp_path / "run" / "fit_judge")
    write(tmp_path / "pool.jsonl", texts(13))
    assert main(["fit-judge", config, *dev]) == 0
    capsys.readouterr()
    assert main(["evaluate", config, *dev]) == 2
    assert "evaluate.judges.fitted has changed since" in capsys.readouterr().err


def all_equal(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "scores": {"overall": 3}} for row in rows]


def again(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "id": f"again-{row['id']}", "group": f"again-{row['group']}"} for row in rows]


@pytest.mark.parametrize(
    ("pool", "changes", "code"),
    [
        (texts(11), {}, "11 groups"),
        (texts(12, size=4), {}, "48 labelled texts"),
        (all_equal(texts(12)), {}, "are equal"),
        (texts(12), {"fit_judge": {"labels": "dev"}}, "Set data.dev or data.dev_share"),
        # Twice the same texts under other names are no more groups.
        (texts(11) + again(texts(11)), {}, "11 groups"),
        (
            texts(12),
            {"evaluate": {"judges": {"f": {"model": "m", "score_mode": "fitted", "icl": {"arm": "trained"}}}}},
            "was trained on the labels of data.pool",
        ),
        (texts(12), {"fit_judge": {"aspects": ["utility"]}}, "no text of data.pool is rated on 'utility'"),
        (texts(12), {"fit_judge": {"judges": ["plain"]}}, "is not a judge of `evaluate` with score_mode: fitted"),
        (texts(12), {"evaluate": {"judges": {"plain": {"model": "m"}}}}, "no judge with score_mode: fitted"),
        (
            texts(12),
            {"models": {"m": {"backend": "http", "base_url": "http://127.0.0.1:1/v1", "model": "x"}}},
            "reads hidden states",
        ),
        (
            texts(12),
            {"models": {"b": {"source": "org/b"}, "m": {"base": "b", "adapter": "a"}}},
            "models.m is a LoRA adapter",
        ),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, pool: list[dict[str, Any]], changes: dict[str, Any], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, pool, texts(2, first=100), **changes)
    assert main(["fit-judge", config]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert code in said[0]
    assert not (tmp_path / "run" / "fit_judge").exists()
