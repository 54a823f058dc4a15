"""The job `panel`: the best judge and the learned vote of a dev part, and how `evaluate` uses them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from cluster.__main__ import main
from cluster.config import load
from cluster.jobs import sections
from evaluation import panel_selection
from evaluation.batch.evaluate import main as evaluate
from evaluation.judges.aggregation import Ballot, VoteConfig, ballot_of, load_panel
from judging.records import Verdict
from judging.voting.vote_io import load_votes
from tests.refusals import refused

LEVELS = (1, 2, 3, 4, 5)
ROWS = [
    {
        "id": f"{group}-{level}",
        "task": "qa",
        "group": f"g{group}",
        "system": f"s{level}",
        "source": f"Question {group}?",
        "candidate": f"It is of level {level}, number {group}.",
        "scores": {"overall": level},
        "scale": [1, 5],
    }
    for group in range(30)
    for level in LEVELS
]


def scripted(score: Mapping[int, int]) -> dict[str, Any]:
    """A judge that gives a text of each level that score; of the levels left out, one by hash."""
    rules = [
        {"contains": f"of level {level},", "label_logprobs": {str(label): -0.01}} for level, label in score.items()
    ]
    return {"backend": "scripted", "rules": rules}


def configuration(folder: Path, rows: Any = None, **sections: Any) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (ROWS if rows is None else rows)))
    config: dict[str, Any] = {
        "run": str(folder / "run"),
        "data": {"records": [str(file)], "dev_share": 0.5, **sections.pop("data", {})},
        "models": {
            "right": scripted({level: level for level in LEVELS}),
            "turned": scripted({level: 6 - level for level in LEVELS}),
            "constant": scripted(dict.fromkeys(LEVELS, 3)),
            "coarse": scripted({1: 1, 2: 1, 3: 3, 4: 5, 5: 5}),
        },
        "evaluate": {"judges": {name: {"model": name} for name in ("right", "turned", "constant", "coarse")}},
        "panel": {},
        **sections,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    folder = tmp_path_factory.mktemp("chosen")
    assert main(["panel", configuration(folder)]) == 0
    return folder


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_best_judge_is_chosen_and_the_candidates_are_listed(chosen: Path) -> None:
    panel = load_panel(chosen / "run" / "panel" / "panel.yaml")
    (one,) = panel.chosen
    assert (one.task, one.aspect, one.judge) == ("qa", "overall", "right")
    assert one.candidates["right"]["agreement"]["value"] == pytest.approx(1)
    assert one.candidates["turned"]["agreement"]["value"] == pytest.approx(-1)
    assert one.candidates["constant"]["out"] == "its agreement is undefined"
    # Ranks 1.5 1.5 3 4.5 4.5 against 1 2 3 4 5: Spearman 9 / sqrt(9 * 10) = .949.
    assert one.candidates["coarse"]["agreement"]["value"] == pytest.approx(0.948683, abs=1e-6)
    assert one.num_rows == 5 * one.num_groups and 5 < one.num_groups < 25


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_learned_vote_trusts_who_is_right(chosen: Path) -> None:
    vote = load_votes(chosen / "run" / "panel" / "votes.json")["qa", "overall"]
    assert vote.kind == "stacked" and set(vote.reasons) == {"constant", "turned"}
    for level in LEVELS:
        said = {"right": float(level), "turned": 6.0 - level, "constant": 3.0, "coarse": {2: 1, 4: 5}.get(level, level)}
        assert vote.score(said) == pytest.approx(level, abs=0.5)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("rule", "furthest"),
    [("learned", 0.5), *(pytest.param(*other, marks=pytest.mark.slow) for other in (("best", 0.05), ("mean", 1.6)))],
)
def test_evaluate_judges_the_other_groups_by_the_rule(chosen: Path, rule: str, furthest: float) -> None:
    config = str(chosen / "c.yaml")
    # One folder an evaluation; the panel stays the run's.
    within = chosen / "run" / "evaluate"
    assert main(["evaluate", config, "--set", f"evaluate.vote.rule={rule}"]) == 0
    rows = pq.read_table(within / "scores.parquet").to_pylist()
    dev = {row["group"] for row in pq.read_table(chosen / "run/panel/evaluate/scores.parquet").to_pylist()}
    assert {row["group"] for row in rows}.isdisjoint(dev) and len({row["group"] for row in rows}) + len(dev) == 30
    errors = [abs(row["panel.score"] - row["label"]) for row in rows]
    assert max(errors) <= furthest
    if rule == "mean":
        assert max(errors) > 0.5  # the turned and the constant judge pull it to the middle
    import shutil

    shutil.rmtree(within)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_completed_panel_is_skipped_and_other_judges_refused(
    chosen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(chosen / "c.yaml")
    assert main(["panel", config]) == 0
    out = capsys.readouterr()
    assert "panel: done before" in out.err
    assert "qa/overall: right" in out.out and "weight" in out.out
    changed = ["evaluate.vote.rule=best", "evaluate.judges.right.min_label_mass=0.5"]
    with refused("other_configuration", "evaluate.judges.right"):
        evaluate(load(Path(config), changed, sections()))
    with refused("unknown_aspect", "evaluate.vote.rule", naming="qa/utility"):
        evaluate(load(Path(config), ["evaluate.vote.rule=best", "evaluate.aspects=[utility]"], sections()))


ONE_JUDGE = {"evaluate": {"judges": {"right": {"model": "right"}}}}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("rows", "settings", "code", "key"),
    [
        (None, {"data": {"dev_share": None}}, "missing_key", "data.dev_share"),
        (None, {"panel": {"cost": {"nobody": 1}}}, "unknown_model", "panel.cost"),
        ([{**row, "scores": {"overall": 2}} for row in ROWS[:40]], ONE_JUDGE, "constant_labels", "data"),
        ([{**row, "scores": {}} for row in ROWS[:40]], ONE_JUDGE, "no_scores", "data"),
        (None, {"evaluate": {"judges": {"only": {"model": "constant"}}}}, "no_usable_judge", "evaluate.judges"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, rows: Any, settings: Any, code: str, key: str) -> None:
    config = configuration(tmp_path, rows, **settings)
    with refused(code, key):
        panel_selection.main(load(Path(config), [], sections()))
    assert not (tmp_path / "run" / "panel" / "panel.yaml").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_cascade_asks_the_others_only_where_the_first_is_unsure(tmp_path: Path) -> None:
    even = {str(label): -1.6 for label in LEVELS}
    first = scripted({level: level for level in (1, 5)})
    first["rules"].append({"contains": "", "label_logprobs": even})  # about 2, 3 and 4 it knows nothing
    models = {"first": first, "other": scripted({level: level for level in LEVELS})}
    evaluate = {
        "judges": {"first": {"model": "first"}, "other": {"model": "other"}},
        "vote": {"cascade": {"first": "first", "max_entropy": 0.5}},
    }
    config = configuration(tmp_path, ROWS[:50], data={"dev_share": None}, models=models, evaluate=evaluate)
    assert main(["evaluate", config]) == 0  # what was not asked on purpose is not counted as unscored
    rows = pq.read_table(tmp_path / "run" / "evaluate" / "scores.parquet").to_pylist()
    assert len(rows) == 50
    for row in rows:
        is_sure = row["label"] in (1, 5)
        assert row["other.unscored"] == ("not_asked" if is_sure else None)
        # Alone, or (3 + level) / 2.
        assert row["panel.score"] == pytest.approx(row["label"] if is_sure else (3 + row["label"]) / 2, abs=0.01)
        assert row["panel.num_votes"] + row["panel.num_abstentions"] == (1 if is_sure else 2)
    assert main(["report", config]) == 0


@pytest.mark.parametrize(
    ("vote", "mode", "code", "key"),
    [
        ({"cascade": {"first": "nobody", "max_entropy": 0.5}}, "expected", "unknown_judge", "cascade.first"),
        ({"cascade": {"first": "right", "max_entropy": 0.5}}, "parsed", "conflict", "cascade.first"),
        ({"cascade": {"first": "right", "max_entropy": 2}}, "expected", "invalid_value", "cascade.max_entropy"),
        ({"cascade": {"first": "right", "max_entropy": 0.5}, "min_votes": 2}, "expected", "conflict", "min_votes"),
        ({"cascade": {"first": "right", "max_entropy": 0.5}, "rule": "majority"}, "expected", "conflict", "cascade"),
    ],
)
def test_cascades_that_are_impossible(tmp_path: Path, vote: Any, mode: str, code: str, key: str) -> None:
    judges = {name: {"model": name, "score_mode": mode} for name in ("right", "coarse")}
    config = configuration(tmp_path, evaluate={"judges": judges, "vote": vote})
    with refused(code, f"evaluate.vote.{key}"):
        load(Path(config), [], sections())


def test_a_criterion_must_be_one_where_more_is_better(tmp_path: Path) -> None:
    config = configuration(tmp_path, panel={"criterion": "dataset.mean_absolute_error"})
    with refused("invalid_value", "panel.criterion", naming="dataset.pearson"):
        load(Path(config), [], sections())


def test_a_learned_rule_needs_the_job_panel(tmp_path: Path) -> None:
    run = load(Path(configuration(tmp_path)), ["evaluate.vote.rule=learned"], sections())
    with refused("missing_job", "evaluate.vote.rule", naming="`inverdict panel`"):
        evaluate(run)
    with refused("missing_job", "evaluate.vote.rule", naming="`inverdict panel`"):
        ballot_of(tmp_path / "run", VoteConfig(rule="best"), {})


def test_a_broken_panel_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "panel.yaml"
    with refused("missing_job", naming=str(file)):
        load_panel(file)
    for content in ("a: [", "judges: {}", "- 1", "criterion: x\nlabels: y\njudges: {}\nchosen: []\nmore: 1\n"):
        file.write_text(content)
        with refused("damaged_artifact", naming=str(file)):
            load_panel(file)


def test_the_best_judge_may_be_missing_online() -> None:
    ballot = Ballot(VoteConfig(rule="best"), best={("qa", "overall"): "b"})
    said = [Verdict("a", "overall", 2.0, "expected"), Verdict("b", "overall", 5.0, "expected")]
    assert ballot.count("qa", said).score == 5
    left = ballot.count("qa", said[:1])
    assert (left.score, left.unscored, left.num_votes, left.num_abstentions) == (None, "no_quorum", 1, 0)
    assert not ballot.knows("best", "qa", "utility") and ballot.knows("mean", "qa", "utility")
