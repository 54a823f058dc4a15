"""All aggregation rules on the same rows: agreement, cost, and the output in the report and the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.batch.integration import SCHEMA
from evaluation.batch.verdicts import VERDICT_SCHEMA
from evaluation.measure.slices import Slice, measure
from evaluation.measure.vote_comparison import compared
from evaluation.reporting import report
from evaluation.reporting.votes_section import feature_rows, section, table_rows
from tests.evaluation.making import scores_file
from tests.evaluation.reporting.test_report import Page, finished

LEVELS = (1, 2, 3, 4)
SURE, UNSURE = [0.97, 0.01, 0.01, 0.01, 0.0], [0.2] * 5


def rows(**judges: Any) -> list[dict[str, Any]]:
    """Ten groups of levels 1 to 4; each judge is a function of the level."""
    return [
        {
            "id": f"{group}-{level}",
            "group": f"g{group}",
            "system": f"s{level}",
            "label": float(level),
            "scores": {name: score(level) for name, score in judges.items()},
        }
        for group in range(10)
        for level in LEVELS
    ]


def verdicts(folder: Path, name: str, given: list[dict[str, Any]], tokens: int, unsure: tuple[int, ...] = ()) -> None:
    """The judge's verdicts, each of `tokens` prompt tokens and one reply token; unsure about texts of these levels."""
    made = [
        {
            "id": one["id"],
            "aspect": "overall",
            "score": one["scores"][name],
            "label_probabilities": UNSURE if one["label"] in unsure else SURE,
            "num_prompt_tokens": tokens,
            "num_generated_tokens": 1,
        }
        for one in given
    ]
    (folder / "verdicts" / name).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(made, schema=VERDICT_SCHEMA), folder / "verdicts" / name / "part-0.parquet")


def turned(level: int) -> float:
    return float({2: 3, 3: 2}.get(level, level))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    given = rows(big=float, small=turned, back=lambda level: 5.0 - level)
    scores_file(tmp_path / "evaluate", given)
    verdicts(tmp_path / "evaluate", "small", given, 9, unsure=(2, 3))
    verdicts(tmp_path / "evaluate", "big", given, 99)
    verdicts(tmp_path / "evaluate", "back", given, 89)
    return tmp_path


def sliced(run: Path, **more: Any) -> Slice:
    (part,) = measure(run / "evaluate" / "scores.parquet", resamples=100, seed=0, interval="percentile", **more)
    return part


def of(run: Path) -> Any:
    return compared(run, sliced(run), resamples=100, seed=0)


def test_every_rule_on_the_same_rows(run: Path) -> None:
    found = of(run)
    values = {name: round(rule.agreement.value, 6) for name, rule in found.rules.items()}
    # Means of the three: 2, 8/3, 7/3, 3 for levels 1 to 4: order 1 3 2 4, Spearman .8. Medians: 1 3 2 4, the same.
    assert values == {"big": 1.0, "small": 0.8, "back": -1.0, "mean": 0.8, "median": 0.8}
    assert found.rules["mean"].minus_mean is None
    assert found.rules["big"].minus_mean.value == pytest.approx(0.2)
    assert found.rules["big"].agreement.n == 10 and found.rules["big"].agreement.coverage == 1
    # Prompt and one reply token of each queried judge.
    assert {name: rule.tokens for name, rule in found.rules.items()} == {
        "big": 100,
        "small": 10,
        "back": 90,
        "mean": 200,
        "median": 200,
    }


def test_the_cascade_asks_the_cheapest_first(run: Path) -> None:
    found = of(run)
    assert found.first == "small"
    assert [(point.share, point.cost) for point in found.cascade] == [(0, 10), (0.5, 105), (1, 200)]
    assert [point.agreement.value for point in found.cascade] == pytest.approx([0.8, 0.8, 0.8])


def test_the_integrating_model_costs_its_own_tokens_too(run: Path) -> None:
    """It returns the level, and uses 29 prompt tokens and one reply token in addition to the judges' 200."""
    file = run / "evaluate" / "scores.parquet"
    table = pq.read_table(file)
    table = table.append_column("panel.vote", table.column("panel.score"))
    place = table.column_names.index("panel.score")
    pq.write_table(table.set_column(place, "panel.score", table.column("label")), file)
    replies = [
        {"id": id, "aspect": "overall", "num_prompt_tokens": 29, "num_generated_tokens": 1}
        for id in table.column("id").to_pylist()
    ]
    (run / "evaluate" / "integrator").mkdir()
    pq.write_table(pa.Table.from_pylist(replies, schema=SCHEMA), run / "evaluate" / "integrator" / "part-0.parquet")
    found = of(run).rules["integrated"]
    assert (found.agreement.value, found.tokens) == (pytest.approx(1), 230)


def test_one_judge_has_nothing_to_compare(tmp_path: Path) -> None:
    scores_file(tmp_path / "evaluate", rows(only=float))
    assert of(tmp_path) is None


def test_without_verdicts_there_is_no_cost_and_no_cascade(tmp_path: Path) -> None:
    scores_file(tmp_path / "evaluate", rows(a=float, b=turned))
    found, part = of(tmp_path), sliced(tmp_path)
    assert found.rules["mean"].tokens is None and found.cascade == [] and found.first is None
    assert table_rows(found, part)[1][-2:] == ["–", "1.000"]
    assert "Cascade" not in section(found, part)


def test_what_text_features_add_to_the_judges(tmp_path: Path) -> None:
    given = rows(judge=turned, words=float)
    scores_file(tmp_path / "evaluate", [{**one, "modes": {"words": "feature"}} for one in given])
    part = sliced(tmp_path, features={"words": "length"})
    found = compared(tmp_path, part, resamples=100, seed=0)
    assert found is not None
    # Together 1 2.5 2.5 4 against 1 2 3 4: Spearman 4.5 / sqrt(4.5 * 5) = .949; the judge alone .8.
    for rule in ("mean", "median"):
        one = found.without_features[rule]
        assert (one.agreement.value, one.gain.value) == (pytest.approx(0.8), pytest.approx(0.9486833 - 0.8))
    assert [row[0] for row in table_rows(found, part)] == [
        "votes",
        "judge",
        "words (feature: length)",
        "mean",
        "median",
    ]
    assert [row[:3] for row in feature_rows(found)][1] == ["mean", ".95 [.95, .95]", ".80 [.80, .80]"]
    assert "What the text features add" in section(found, part)
    assert found.to_json()["without_features"]["mean"]["agreement"]["value"] == pytest.approx(0.8)


@pytest.mark.parametrize("modes", [{}, {"judge": "feature", "words": "feature"}])
def test_without_both_kinds_there_is_nothing_to_add(tmp_path: Path, modes: Any) -> None:
    scores_file(tmp_path / "evaluate", [{**one, "modes": modes} for one in rows(judge=turned, words=float)])
    assert feature_rows(of(tmp_path)) == [] and "features add" not in section(of(tmp_path), sliced(tmp_path))


def test_the_report_and_the_table_show_them(run: Path) -> None:
    given = rows(big=float, small=turned, back=lambda level: 5.0 - level)
    config = finished(run / "again", given)
    for name, tokens, unsure in (("small", 9, (2, 3)), ("big", 99, ()), ("back", 89, ())):
        verdicts(run / "again" / "evaluate", name, given, tokens, unsure)
    _, summary = report.main(config)
    metrics = json.loads((run / "again" / "report" / "metrics.json").read_text())
    votes = metrics["slices"][0]["votes"]
    assert votes["rules"]["big"]["agreement"]["value"] == pytest.approx(1)
    assert votes["cascade"]["first"] == "small" and votes["cascade"]["points"][-1]["threshold"] is None
    text = report.render(summary, verbose=True)
    assert "minus mean" in text and "tokens a text" in text
    page = Page((run / "again" / "report" / "report.html").read_text())
    assert "Aggregation rules" in page.text and "The judge small is queried first" in page.text
