"""The job `feedback` with a scripted judge: every pair once, the right utility, resumed, refused."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.__main__ import main
from cluster.engine import ScriptedEngine
from cluster.exchange import Request
from cluster.model_specs import ScriptedSpec
from judging.data_config import DataConfig
from judging.expected import expected_score
from judging.records import Scale
from judging.tasks import load_task
from judging.template import rubric_template, texts_for
from retrieval.feedback import SCHEMA
from tests.killing import killed_when
from tests.retrieval.making import SCRIPTED, configuration, pool_of, rated

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
FEEDBACK = {"model": "m", "random": 2, "bm25": 1, "semantic": 0, "block_rows": 5}


def rows(folder: Path) -> list[dict[str, Any]]:
    parts = sorted((folder / "run" / "feedback").glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part, schema=SCHEMA).to_pylist()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("feedback")
    pool = [*pool_of(12).values(), rated(20, task="story", scores={}, scales={})]
    rules = [{"contains": "Answer 3 says", "error": "timeout"}]
    assert (
        main(["feedback", configuration(folder, pool, feedback=FEEDBACK, models={"m": {**SCRIPTED, "rules": rules}})])
        == 0
    )
    return folder


def test_every_text_is_tried_with_the_wanted_number_of_examples(done: Path) -> None:
    found = rows(done)
    assert len({row["id"] for row in found}) == len(found) == 12 * 3
    for query in pool_of(12).values():
        tried = {row["example_id"]: row["arm"] for row in found if row["query_id"] == query.id}
        assert sorted(tried.values()) == ["bm25", "random", "random"]
        assert all(pool_of(12)[id].group != query.group for id in tried)


def test_the_score_is_the_judge_s_with_that_example_alone(done: Path) -> None:
    template = rubric_template(load_task("qa"), "overall")
    pool = pool_of(12)
    scored = [row for row in rows(done) if row["utility"] is not None]
    for row in scored[:10]:
        query, example = pool[row["query_id"]], pool[row["example_id"]]
        shown = [(texts_for(example, template), example.scores["overall"])]
        prompt = template.render(texts_for(query, template), mode="expected", examples=shown)
        assert prompt.text.index(example.candidate) < prompt.text.index(query.candidate)
        request = Request(prompt.text, prompt.reply_prefix, template.scale.labels())
        reply = asyncio.run(ScriptedEngine(ScriptedSpec(backend="scripted")).generate(request))
        told = expected_score(reply.label_logprobs, template.scale).score
        assert told is not None
        assert row["score"] == pytest.approx(told)
        assert row["utility"] == pytest.approx(1 - abs(told - query.scores["overall"]) / 4)


def test_what_has_no_score_keeps_its_reason_and_is_counted(done: Path) -> None:
    unscored = [row for row in rows(done) if row["utility"] is None]
    assert unscored
    assert {row["error"] for row in unscored} == {"timeout"}
    assert all("r3" in (row["query_id"], row["example_id"]) for row in unscored)
    summary = json.loads((done / "run" / "feedback" / "manifest.json").read_text())["summary"]
    assert summary["unscored"] == {"timeout": len(unscored)}
    assert summary["aspects"]["qa/overall"]["num_pairs"] == 36 - len(unscored)


def test_pairs_without_a_score_are_asked_again_where_that_is_wanted(tmp_path: Path) -> None:
    broken = {"m": {**SCRIPTED, "rules": [{"contains": "Answer 3 says", "error": "timeout"}]}}
    pool = list(pool_of(12).values())
    path = configuration(tmp_path, pool, feedback=FEEDBACK, models=broken)
    assert main(["feedback", path]) == 0
    before = {row["id"]: row["utility"] for row in rows(tmp_path)}
    lost = {id for id, utility in before.items() if utility is None}
    assert lost
    assert main(["feedback", path, "--retry-failed"]) == 0
    after = {row["id"]: row["utility"] for row in rows(tmp_path)}
    # It fails again, for the same pairs; the others were not asked.
    assert after == before
    assert len(rows(tmp_path)) == len(before)


def test_the_same_command_again_asks_nothing_and_a_lost_part_only_its_own(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = done / "run" / "feedback"
    assert main(["feedback", str(done / "c.yaml")]) == 0
    assert "done before" in capsys.readouterr().err
    before = sorted(rows(done), key=lambda row: row["id"])
    lost, *others = sorted(folder.glob("part-*.parquet"))
    times = {part: part.stat().st_mtime_ns for part in others}
    lost.write_bytes(b"half a file")
    (folder / "manifest.json").unlink()
    assert main(["feedback", str(done / "c.yaml")]) == 0
    assert sorted(rows(done), key=lambda row: row["id"]) == before
    assert {part: part.stat().st_mtime_ns for part in others} == times


@pytest.mark.slow
def test_a_job_that_is_killed_goes_on_with_the_same_command(tmp_path: Path) -> None:
    # A block of five takes 0.4 s: ten of them leave time to kill in between.
    models = {"m": {**SCRIPTED, "delay_s": 0.4}}
    path = configuration(tmp_path, pool_of(16).values(), feedback=FEEDBACK, models=models)
    folder = tmp_path / "run" / "feedback"
    killed_when("feedback", path, lambda: len(list(folder.glob("part-*.parquet"))) >= 2)
    before = {part: part.stat().st_mtime_ns for part in folder.glob("part-*.parquet")}
    assert 0 < len(rows(tmp_path)) < 48
    assert not (folder / "manifest.json").exists()

    assert main(["feedback", path]) == 0
    found = rows(tmp_path)
    assert len(found) == len({row["id"] for row in found}) == 16 * 3
    # What was there was not asked again.
    assert {part: part.stat().st_mtime_ns for part in before} == before


def test_scores_on_another_scale_are_moved_to_the_task_s(tmp_path: Path) -> None:
    # 0 to 100 against the task's 1 to 5: 50 is 3.
    moved = {"scores": {"overall": 50.0}, "scales": {"overall": Scale(0, 100)}}
    pool = [rated(number, **moved) for number in range(4)]
    assert main(["feedback", configuration(tmp_path, pool, feedback=FEEDBACK)]) == 0
    for row in rows(tmp_path):
        assert row["utility"] == pytest.approx(1 - abs(row["score"] - 3) / 4)


def test_a_judge_that_gives_no_score_at_all_is_a_failure_and_is_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = {"m": {**SCRIPTED, "rules": [{"contains": "", "error": "error"}]}}
    path = configuration(tmp_path, pool_of(4).values(), feedback=FEEDBACK, models=dead)
    assert main(["feedback", path]) == 1
    assert "(8 error)" in capsys.readouterr().err
    assert rows(tmp_path) == []


def test_texts_of_the_judged_part_never_teach(tmp_path: Path) -> None:
    pool = [rated(number) for number in range(40)]
    path = configuration(tmp_path, pool, feedback=FEEDBACK, data={"pool_share": 0.5})
    assert main(["feedback", path]) == 0
    data = DataConfig(records=("x",), pool=("x",), pool_share=0.5)
    seen = {row[name] for row in rows(tmp_path) for name in ("query_id", "example_id")}
    assert seen == {record.id for record in pool if data.serves(record)}
    assert seen.isdisjoint(record.id for record in pool if data.takes(record))
    assert {record.id for record in pool if data.takes(record)} | seen == {record.id for record in pool}
