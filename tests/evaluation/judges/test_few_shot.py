"""`evaluate` with examples retrieved for each record: which are shown, the budget, contamination, resume."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
import yaml

from cluster.__main__ import main
from cluster.config import load
from cluster.jobs import sections
from cluster.model_specs import ScriptedSpec, VllmSpec
from cluster.parts import parts_of
from evaluation.batch.evaluate import main as evaluate
from evaluation.batch.verdicts import aspects_of_row
from evaluation.judges import few_shot
from evaluation.judges.few_shot import Chooser, IclConfig, choose_examples
from evaluation.judges.judge_config import JudgeConfig, build_judge
from judging.judge import shown
from judging.records import Record, Scale
from judging.tasks import load_task
from judging.template import rubric_template
from tests.refusals import refused
from tests.retrieval.making import SCRIPTED, jsonl, pool_of, rated

POOL = pool_of(16)
TEMPLATES = {("qa", "overall"): rubric_template(load_task("qa"), "overall")}


def fresh(number: int) -> Record:
    return rated(number, id=f"q{number}", group=f"new{number // 2}", source=f"Quite another question, {number // 2}")


def configuration(folder: Path, judges: dict[str, Any], records: list[Record], **more: Any) -> str:
    folder.mkdir(exist_ok=True)
    pool = jsonl(folder / "pool.jsonl", POOL.values())
    config = {
        "run": str(folder / "run"),
        "data": {"records": [jsonl(folder / "in.jsonl", records)], "pool": [pool]},
        "models": {"m": SCRIPTED},
        "evaluate": {"judges": judges, "block_rows": 4},
        **more,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def examples(folder: Path, judge: str) -> dict[str, dict[str, Any]]:
    parts = (folder / "run" / "evaluate" / "examples" / judge).glob("part-*.parquet")
    return {row["id"]: row for part in parts for row in pq.read_table(part).to_pylist()}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("icl")
    judges = {
        "plain": {"model": "m"},
        "none": {"model": "m", "icl": {"arm": "none"}},
        "words": {"model": "m", "icl": {"arm": "bm25", "k": 2}},
        "random": {"model": "m", "icl": {"arm": "random", "k": 30}},
    }
    records = [*map(fresh, range(10)), rated(3, id="leak")]  # the last is of a group of the pool
    assert main(["evaluate", configuration(folder, judges, records)]) == 0
    return folder


@pytest.mark.ray
def test_each_record_gets_its_own_examples(done: Path) -> None:
    found = examples(done, "words")
    assert set(found) == {f"q{number}" for number in range(10)}
    assert all(len(row["examples"]) == 2 and row["num_dropped"] == 0 for row in found.values())
    assert len({tuple(row["examples"]) for row in found.values()}) > 3
    assert all(row["examples"] == [] for row in examples(done, "none").values())


@pytest.mark.ray
def test_the_mean_of_their_scores_is_kept(done: Path) -> None:
    for row in examples(done, "words").values():
        assert row["mean_score"] == pytest.approx(sum(POOL[id].scores["overall"] for id in row["examples"]) / 2)
    assert len({row["mean_score"] for row in examples(done, "words").values()}) > 1
    assert {row["mean_score"] for row in examples(done, "none").values()} == {None}


@pytest.mark.ray
def test_the_report_has_the_baseline_of_the_examples(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(done / "c.yaml")]) == 0
    assert "\nshown examples" in capsys.readouterr().out
    (part,) = json.loads((done / "run" / "report" / "metrics.json").read_text())["slices"]
    assert set(part["neighbours"]) == {"words", "random"}


@pytest.mark.ray
def test_the_prompt_has_the_examples(done: Path) -> None:
    parts = (done / "run" / "evaluate" / "verdicts" / "words").glob("part-*.parquet")
    rows = {row["id"]: row for part in parts for row in pq.read_table(part).to_pylist()}
    judge = build_judge("words", JudgeConfig(model="m", icl=IclConfig(arm="bm25")), TEMPLATES, POOL, ())
    for number in range(10):
        prompt = judge.request(fresh(number), "overall", examples(done, "words")[f"q{number}"]["examples"])["prompt"]
        assert rows[f"q{number}"]["num_prompt_tokens"] == len(prompt) // 4
        assert prompt.count("Example ") == 2


@pytest.mark.ray
def test_groups_of_the_pool_are_excluded_for_all_judges(done: Path) -> None:
    summary = json.loads((done / "run" / "evaluate" / "manifest.json").read_text())["summary"]
    assert summary["num_left_out"] == 1
    assert "leak" not in examples(done, "random")


@pytest.mark.ray
def test_the_summary_has_the_number_of_examples(done: Path) -> None:
    summary = json.loads((done / "run" / "evaluate" / "manifest.json").read_text())["summary"]["judges"]
    assert "icl" not in summary["plain"]
    known = {"num_dropped": 0, "num_prompts": 10}
    words = {"arm": "bm25", "wanted": 2, "mean_examples": 2.0, "num_prompts_without": 0}
    none = {"arm": "none", "wanted": 0, "mean_examples": 0.0, "num_prompts_without": 10}
    assert summary["words"]["icl"] == {**words, **known}
    assert summary["none"]["icl"] == {**none, **known}
    # 30 are configured, the pool has 16, and fewer fit into 1200 tokens.
    assert summary["random"]["icl"]["wanted"] == 30
    assert 4 < summary["random"]["icl"]["mean_examples"] <= 16


@pytest.mark.ray
def test_a_lost_part_of_examples_is_retrieved_again(done: Path) -> None:
    folder = done / "run" / "evaluate" / "examples" / "words"
    before = examples(done, "words")
    part = sorted(folder.glob("part-*.parquet"))[0]
    part.write_bytes(b"half")
    (done / "run" / "evaluate" / "manifest.json").unlink()
    assert main(["evaluate", str(done / "c.yaml")]) == 0
    assert examples(done, "words") == before


def chooser_of(config: IclConfig) -> Chooser:
    return Chooser(
        config=config,
        spec=ScriptedSpec(backend="scripted"),
        templates=dict(TEMPLATES),
        pool=dict(POOL),
        special_tokens=(),
        mode="expected",
        reply_tokens=1,
        index=Path("nowhere"),
        seed=0,
    )


@pytest.mark.ray
def test_examples_for_running_evaluators_need_no_free_cpu(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "run" / "evaluate" / "records", tmp_path / "records")
    taken = ray.util.placement_group([{"CPU": ray.cluster_resources()["CPU"]}])  # as by the evaluators
    try:
        ray.get(taken.ready(), timeout=60)
        aspects_of = partial(aspects_of_row, aspects=["overall"])
        choose_examples(tmp_path, "j", chooser_of(IclConfig(arm="random")), aspects_of, is_served=True)
    finally:
        ray.util.remove_placement_group(taken)
    assert len(list((tmp_path / "examples" / "j").glob("part-*.parquet"))) == len(parts_of(tmp_path / "records"))


def test_tokens_are_counted_with_the_models_tokenizer_at_the_commit_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(few_shot, "encoder", lambda folder, spec: read.append(folder))
    spec = VllmSpec(source="org/judge", max_model_len=2048)
    # In a worker, which does not know the run's commits.
    _ = replace(chooser_of(IclConfig(arm="random")), spec=spec, tokenizer="hub:org/judge@c0ffee")._counting
    assert read == ["hub:org/judge@c0ffee"]


def fitting(max_tokens: int, ids: list[str]) -> list[str]:
    config = IclConfig(arm="random", max_tokens=max_tokens)
    return chooser_of(config)._fitting(fresh(0), TEMPLATES["qa", "overall"], ids).ids


def test_the_budget_drops_whole_examples_and_the_least_useful_first() -> None:
    template = TEMPLATES["qa", "overall"]
    sizes = {id: len(template.examples_text([shown(POOL[id], template)])) // 4 + 1 for id in ("r0", "r2", "r4")}
    both = sizes["r2"] + sizes["r4"]
    assert fitting(10_000, ["r0", "r2", "r4"]) == ["r0", "r2", "r4"]
    assert fitting(both + sizes["r0"] - 1, ["r0", "r2", "r4"]) == ["r2", "r4"]
    assert fitting(both, ["r0", "r2", "r4"]) == ["r2", "r4"]
    assert fitting(both - 1, ["r0", "r2", "r4"]) == ["r4"]
    assert fitting(1, ["r0", "r2", "r4"]) == []


def test_their_mean_is_in_points_of_the_scale_on_which_the_record_was_rated() -> None:
    chooser = chooser_of(IclConfig(arm="random"))
    shares = [(POOL[id].scores["overall"] - 1) / 4 for id in ("r0", "r2")]  # of the pool's scale, 1 to 5
    rated_to_100 = replace(fresh(0), scales={"overall": Scale(0, 100)}, scores={"overall": 50.0})
    found = chooser._fitting(rated_to_100, TEMPLATES["qa", "overall"], ["r0", "r2"])
    assert found.mean_score == pytest.approx(100 * sum(shares) / 2)
    # Of what is shown alone: the budget holds one of the two.
    size = len(TEMPLATES["qa", "overall"].examples_text([shown(POOL["r2"], TEMPLATES["qa", "overall"])])) // 4 + 1
    tight = replace(chooser, config=IclConfig(arm="random", max_tokens=size))
    found = tight._fitting(rated_to_100, TEMPLATES["qa", "overall"], ["r0", "r2"])
    assert (found.ids, found.mean_score, found.num_dropped) == (["r2"], pytest.approx(100 * shares[1]), 1)
    unrated = replace(fresh(0), scales={}, scores={})
    assert chooser._fitting(unrated, TEMPLATES["qa", "overall"], ["r0", "r2"]).mean_score == pytest.approx(
        1 + 4 * sum(shares) / 2
    )


@pytest.mark.ray
@pytest.mark.parametrize(
    ("icl", "more", "code", "key"),
    [
        ({"arm": "semantic"}, {}, "missing_job", ""),
        ({"arm": "nearest"}, {}, "invalid_value", "evaluate.judges.j.icl.arm"),
        ({"arm": "random", "k": 0}, {}, "invalid_value", "evaluate.judges.j.icl.k"),
        ({"arm": "random"}, {"examples": ["r1"]}, "conflict", "evaluate.judges.j"),
    ],
)
def test_bad_input_is_refused(icl: dict[str, Any], more: dict[str, Any], code: str, key: str, tmp_path: Path) -> None:
    judges = {"j": {"model": "m", "icl": icl, **more}}
    with refused(code, key):
        evaluate(load(Path(configuration(tmp_path, judges, [fresh(0)])), [], sections()))
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "evaluate").exists()
