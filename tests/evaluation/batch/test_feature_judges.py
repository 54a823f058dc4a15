"""Text features as judges: with a model's judge in a panel, refused settings, and nothing asked without a source."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster import jobs
from cluster.__main__ import main
from cluster.config import RunConfig, build
from cluster.identity import spec_of
from evaluation.batch.config import prepared
from evaluation.judges.judge_config import JudgeConfig, build_judge
from judging.records import Record
from tests.evaluation.batch.running import configuration, scores
from tests.refusals import refused

ROWS = [
    {"id": "a", "task": "qa", "group": "g1", "source": "Why is the sky blue?", "candidate": "Air scatters blue light."},
    {"id": "b", "task": "qa", "group": "g1", "source": "Why is the sky blue?", "candidate": "Why is the sky blue?"},
    {"id": "c", "task": "qa", "group": "g2", "source": "", "candidate": "No question, no answer."},
]
MODELS: dict[str, Any] = {
    "m": {"backend": "scripted"},
    "shared": {"backend": "features", "feature": "overlap"},
    "words": {"backend": "features", "feature": "length"},
}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_features_vote_beside_a_model(tmp_path: Path) -> None:
    config = configuration(tmp_path, ROWS, MODELS, aspects=["overall"], max_unscored_share=0.5)
    assert main(["evaluate", config]) == 0
    found = {row["id"]: row for row in scores(tmp_path)}
    # Overlap: `blue` of 4 words, and all of 5; 1 to 5 points.
    assert found["a"]["shared.score"] == pytest.approx(1 + 4 * 1 / 4)
    assert found["b"]["shared.score"] == pytest.approx(5)
    assert (found["c"]["shared.score"], found["c"]["shared.unscored"]) == (None, "no_source")
    assert (found["a"]["shared.mode"], found["a"]["shared.reason"]) == ("feature", "text feature overlap: 0.250")
    assert found["a"]["words.score"] < found["b"]["words.score"]
    assert found["a"]["panel.num_votes"] == 3
    assert found["c"]["panel.num_votes"] == 2


def test_a_feature_needs_no_prompt() -> None:
    judge = build_judge("w", JudgeConfig(model="words", score_mode="feature"), [("qa", "overall")], {}, ())
    assert judge.is_fixed
    asked = judge.request(Record("a", "qa", "g", "S", "C {{source}} <|im_end|>"), "overall")
    assert asked["prompt"] == '{"source": "S", "candidate": "C {{source}} <|im_end|>"}'
    assert (asked["labels"], asked["json_schema"], asked["reply_prefix"]) == ([], "", "")


@pytest.mark.parametrize(
    ("judge", "key"),
    [
        ({"model": "words", "prompt": "inverse"}, "evaluate.judges.j.prompt"),
        ({"model": "words", "examples": ["x"]}, "evaluate.judges.j.examples"),
        ({"model": "words", "icl": {"arm": "bm25"}}, "evaluate.judges.j.icl"),
        ({"model": "words", "temperature": 0.5}, "evaluate.judges.j.temperature"),
        ({"model": "words", "score_mode": "parsed"}, "evaluate.judges.j.score_mode"),
        ({"model": "words", "min_label_mass": 0.5}, "evaluate.judges.j.min_label_mass"),
        ({"model": "m", "score_mode": "feature"}, "evaluate.judges.j.score_mode"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path: Path, judge: dict[str, Any], key: str) -> None:
    raw = {"run": str(tmp_path), "data": {"records": ["x"]}, "models": MODELS, "evaluate": {"judges": {"j": judge}}}
    run = build(raw, jobs.sections(), origin="test")
    with refused("conflict", key):
        prepared(run)


def configured(folder: Path, **evaluate: Any) -> RunConfig:
    judges = {"j": {"model": "m"}, "w": {"model": "words"}}
    raw = {"run": str(folder), "data": {"records": ["x"]}, "models": MODELS, "evaluate": {"judges": judges, **evaluate}}
    return build(raw, jobs.sections(), origin="test")


def test_a_configuration_with_its_defaults_filled_in_is_the_same(tmp_path: Path) -> None:
    """This is how a served panel is sent it."""
    run = configured(tmp_path)
    again = build(run.model_dump(mode="json"), jobs.sections(), origin="test")
    assert prepared(again).evaluation.config == prepared(run).evaluation.config


def test_a_cascade_cannot_begin_with_a_feature(tmp_path: Path) -> None:
    cascade = {"cascade": {"first": "w", "max_entropy": 0.5}}
    with refused("conflict", "evaluate.vote.cascade.first"):
        prepared(configured(tmp_path, vote=cascade))


def test_a_feature_is_no_model_for_other_jobs() -> None:
    run = build({"run": "r", "models": MODELS}, {}, origin="test")
    assert spec_of(run, "words", "evaluate.judges.j.model")
    with refused("unsupported", "distill.models"):
        spec_of(run, "words", "distill.models")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_learned_vote_uses_a_feature(tmp_path: Path) -> None:
    """The labels follow the length; the model's judge says nothing about it."""
    rows = [
        {
            "id": f"{group}-{level}",
            "task": "qa",
            "group": f"g{group}",
            "source": f"Question {group}?",
            "candidate": "word " * 4**level,
            "scores": {"overall": level},
            "scale": [1, 5],
        }
        for group in range(20)
        for level in range(1, 6)
    ]
    models = {name: MODELS[name] for name in ("m", "words")}
    config = configuration(tmp_path, rows, models, vote={"rule": "learned"})
    dev = ["--set", "data.dev_share=0.5"]
    for job in ("panel", "evaluate", "report"):
        assert main([job, config, *dev]) == 0
    assert all(row["panel.score"] == pytest.approx(row["label"], abs=0.5) for row in scores(tmp_path))
    (part,) = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())["slices"]
    assert part["votes"]["rules"]["learned"]["agreement"]["value"] == pytest.approx(1)
    assert set(part["votes"]["without_features"]) == {"mean", "median", "learned"}
    # It is named as what it is, and has no prompt.
    assert "<th>words (feature: length)" in (tmp_path / "run" / "report" / "report.html").read_text()
    told = json.loads((tmp_path / "run" / "evaluate" / "manifest.json").read_text())["summary"]["judges"]["words"]
    assert (told["feature"], "prompt" in told) == ("length", False)
    assert [one.name for one in (tmp_path / "run" / "evaluate" / "templates").iterdir()] == ["m"]
