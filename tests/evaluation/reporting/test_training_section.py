"""The report on learned prompts (next to the rubric, with facts, with a warning for a fallback) and their training."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.config import RunConfig
from evaluation.judges.prompt_sources import FALLBACK
from evaluation.reporting import report
from judging.tasks import load_task
from judging.template import rubric_template
from tests.evaluation.making import template_at
from tests.evaluation.reporting.test_report import HOSTILE, check_self_contained, finished, page

PROMPTS = "The prompt template of each judge"  # the section after those tested here
LABELS = [1, 5, 2, 4, 1, 4]
PLAIN: list[float | None] = [5, 1, 4, 2, 5, 2]  # the opposite of the labels
LEARNED: list[float | None] = [1, 5, 2, 4, 1, 4]


def rows(aspect: str = "overall", **scores: list[float | None]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{aspect}{n}",
            "group": f"g{n // 2}",
            "system": f"s{n % 2}",
            "aspect": aspect,
            "label": label,
            "scores": {name: values[n] for name, values in scores.items()},
        }
        for n, label in enumerate(LABELS)
    ]


def learned(run: Path, *, prompt: str = "inverse", about: dict[str, Any] | None = None, **more: Any) -> RunConfig:
    """A finished run where `plain` judged with the rubric and `new` with a learned prompt."""
    given = rows(plain=PLAIN, new=LEARNED)
    template_at(run / "evaluate" / "templates" / "new" / "qa.overall.txt", **(about or {}), **more)
    return finished(run, given, prompts={"new": prompt})


def test_a_learned_prompt_is_next_to_the_rubric_with_its_facts(tmp_path: Path) -> None:
    about = {
        "example_id": "r17",
        "probability": 0.123456,
        "rank": 2,
        "slots": {"source": "verbatim", "candidate": {"how": "fuzzy", "share": 0.9}},
        "num_candidates": 8,
        "num_verified": 3,
        "groups": [f"qa//g{n}" for n in range(20)],
        "nothing": [],
    }
    found = page(learned(tmp_path / "run", text="Mine: {{source}} {{candidate}}", about=about))
    section = found.text.split("Learned prompts")[1].split(PROMPTS)[0]
    assert "m, inverse: qa / overall" in section
    assert "inverserubric, overall" in section
    assert "Mine: {{source}} {{candidate}}" in section
    assert rubric_template(load_task("qa"), "overall").text in section
    for fact in (
        "origininverse",
        "example idr17",
        "probability0.1235",
        "rank2",
        "slotssource: verbatim, candidate: (how: fuzzy, share: 0.9)",
        "num candidates8",
        "num verified3",
        # Twelve are shown.
        "groupsqa//g0, qa//g1, qa//g2, qa//g3, qa//g4, qa//g5, qa//g6, qa//g7, qa//g8, qa//g9, qa//g10, qa//g11 "
        "and 8 more",
        "nothingnone",
    ):
        assert fact in section
    assert "warning" not in [value for name, value in found.attributes if name == "class"]


def test_a_long_fact_is_cut(tmp_path: Path) -> None:
    found = page(learned(tmp_path / "run", about={"said": "x" * 401}))
    assert f"said{'x' * 400}…" in found.text
    assert "x" * 401 not in found.text.split(PROMPTS)[0]


@pytest.mark.parametrize("prompt", ["rubric", "prompts/mine"])
def test_without_a_learned_prompt_there_is_no_such_section(tmp_path: Path, prompt: str) -> None:
    assert "Learned prompts" not in page(learned(tmp_path / "run", prompt=prompt)).text


def test_a_prompt_for_several_aspects_is_shown_once(tmp_path: Path) -> None:
    given = [*rows("overall", a=LEARNED, b=LEARNED), *rows("utility", a=LEARNED, b=LEARNED)]
    # Two judges of one model with the same prompt, saved for each aspect as `evaluate` does.
    for judge in "ab":
        for aspect in ("overall", "utility"):
            path = tmp_path / "run" / "evaluate" / "templates" / judge / f"qa.{aspect}.txt"
            template_at(path, "overall", "utility", text="Both: {{source}} {{candidate}}")
    found = page(finished(tmp_path / "run", given, prompts={"a": "forward", "b": "forward"}))
    section = found.text.split("Learned prompts")[1].split(PROMPTS)[0]
    assert section.count("Both: ") == 1
    assert "m, forward: qa / overall, utility" in section
    assert rubric_template(load_task("qa"), "overall").text in section
    assert rubric_template(load_task("qa"), "utility").text not in section


def test_a_fallback_is_a_warning_on_the_page_and_on_the_terminal(tmp_path: Path) -> None:
    run = learned(tmp_path / "run", about={"fallback": True})
    found = page(run)
    # At the top of the page and above the template.
    assert found.text.count(FALLBACK) == 2
    assert [value for name, value in found.attributes if name == "class"].count("warning") == 2
    summary = report.main(run).summary
    assert summary["warnings"] == [f"new, qa: {FALLBACK}"]
    shown = report.render(summary)
    assert shown.splitlines()[0] == f"WARNING: new, qa: {FALLBACK}"
    assert json.loads((run.run / "report" / "metrics.json").read_text())["warnings"] == summary["warnings"]


def test_a_fallback_in_a_prompt_of_another_run_is_a_warning_too(tmp_path: Path) -> None:
    run = learned(tmp_path / "run", prompt="../other/invert/m/inverse", about={"fallback": True})
    assert f"WARNING: new, qa: {FALLBACK}\n" in report.render(report.main(run).summary)
    assert page(run).text.count(FALLBACK) == 1


def test_no_fallback_is_no_warning(tmp_path: Path) -> None:
    run = learned(tmp_path / "run", about={"fallback": False})
    assert "WARNING" not in report.render(report.main(run).summary)
    assert FALLBACK not in page(run).text


def test_hostile_templates_stay_text(tmp_path: Path) -> None:
    about = {HOSTILE: HOSTILE, "deep": {HOSTILE: [{"a": HOSTILE}]}}
    run = learned(tmp_path / "run", text=f"{HOSTILE} {{{{source}}}} {{{{candidate}}}}", about=about)
    train(run.run / "sft" / "m" / "inverse", model=HOSTILE, mode=HOSTILE, effective_batch=HOSTILE)
    found = page(run)
    check_self_contained(found)
    assert "<script" not in found.source
    assert found.text.count(HOSTILE) >= 8


def test_the_difference_to_the_rubric_in_the_table_and_on_the_page(tmp_path: Path) -> None:
    run = learned(tmp_path / "run")
    shown = report.render(report.main(run).summary, verbose=True)
    (head, line) = (one for one in shown.splitlines() if "paired difference" in one or "(rubric)" in one)
    assert head.split() == ["paired", "difference", "dataset.spearman", "group.spearman"]
    assert line.startswith("new minus plain (rubric)")
    # One judge equals the labels, the other is their opposite: 1 - -1, in every resample.
    assert line.split()[-6:] == ["2.00", "[2.00,", "2.00]", "2.00", "[2.00,", "2.00]"]
    assert "new minus plain (rubric)2.00" in page(run).text
    (part,) = json.loads((run.run / "report" / "metrics.json").read_text())["slices"]
    assert part["difference_to_baseline"][0]["agreement"]["group"]["spearman"]["value"] == pytest.approx(2)


def test_without_a_rubric_judge_of_the_model_no_difference(tmp_path: Path) -> None:
    template_at(tmp_path / "run" / "evaluate" / "templates" / "new" / "qa.overall.txt")
    run = finished(tmp_path / "run", rows(new=LEARNED), prompts={"new": "inverse"})
    assert "(rubric)" not in report.render(report.main(run).summary) + page(run).text


# Training


def train(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    known = {
        "model": "m",
        "mode": "white_box",
        "num_train": 120,
        "num_dev": 8,
        "losses": [{"step": 1, "loss": 3.5}, {"step": 2, "loss": 2.25}],
        "dev_losses": [{"step": 2, "loss": 2.5}],
        "loss_before": 3.75,
        "loss_after": 2.5,
        "tokens_per_s": 1234.56,
        "peak_memory_bytes": 3 * 2**29,
        "effective_batch": "8 sequences of 4 in 2 steps",
    }
    (folder / "training.json").write_text(json.dumps({**known, **changes}))


def test_every_training_of_the_run_has_its_curve_and_facts(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows(plain=PLAIN))
    num_images = page(run).tags.count("img")
    assert "Inversion training" not in page(run).text
    train(run.run / "sft" / "a" / "inverse", model="a", mode="black_box", loss_before=None, loss_after=None)
    train(run.run / "sft" / "b" / "forward", model="b")
    train(run.run / "sft" / "b" / "inverse", model="b")
    found = page(run)
    check_self_contained(found)
    section = found.text.split("Inversion training")[1].split(PROMPTS)[0]
    assert [section.index(title) for title in ("a, inverse", "b, forward", "b, inverse")] == sorted(
        section.index(title) for title in ("b, inverse", "a, inverse", "b, forward")
    )
    for fact in (
        "modeblack_box",
        "examples120 train, 8 dev",
        "dev loss– before training, – after",
        "dev loss3.750 before training, 2.500 after",
        "throughput1235 tokens/s",
        "peak memory1.50 GiB",  # 3 * 2**29 / 2**30
        "effective batch size8 sequences of 4 in 2 steps",
    ):
        assert fact in section
    assert found.tags.count("img") == num_images + 3


def test_a_training_without_a_dev_part_or_without_steps(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", rows(plain=PLAIN))
    num_images = page(run).tags.count("img")
    train(run.run / "sft" / "a" / "inverse", dev_losses=[], num_dev=0)
    train(run.run / "sft" / "b" / "inverse", losses=[], dev_losses=[])
    assert page(run).tags.count("img") == num_images + 2


@pytest.mark.draws
def test_the_curve_is_a_picture_of_the_losses() -> None:
    from evaluation.reporting import plots

    falling = plots.losses([(1, 3.0), (2, 2.0)], [(2, 2.5)])
    assert base64.b64decode(falling).startswith(b"\x89PNG")
    assert plots.losses([(1, 2.0), (2, 3.0)], [(2, 2.5)]) != falling
    assert plots.losses([(1, 3.0), (2, 2.0)], []) != falling
    assert plots.losses([(1, 3.0), (2, float("nan"))], [(2, float("inf"))]) != falling
