"""The job `invert` where candidates are refused, with a dev part, and after a kill."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.__main__ import main
from judging.tasks import load_task
from judging.template import rubric_template
from judging.template_io import load_templates
from tests.train.inversion.making import (
    BRIDGE,
    MAGNETS,
    ONIONS,
    asking,
    configuration,
    files,
    lines,
    place,
    rated,
    scripted,
)
from tests.train.making import jsonl

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


# ---------------------------------------------------------------------- refused candidates


def refusing(folder: Path, **invert: Any) -> str:
    """Models that write nothing usable: three words, other ones at every draw."""
    plain = scripted()
    return configuration(folder, judge=plain, inversion=plain, num_candidates=3, examples=["a"], **invert)


def test_where_all_are_refused_the_rubric_takes_their_place_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = refusing(tmp_path)
    assert main(["invert", config]) == 0
    said = capsys.readouterr()
    for source in ("inverse", "forward"):
        assert f"invert: WARNING: judge: all 3 {source} prompts for qa were rejected (3 times too little" in said.err
        assert (
            f"  {source:<8} qa (overall, utility): 0 of 3 prompts verified, 0 of them quote every text; ALL REJECTED"
            in said.out
        )
    # The rubric is another text for each aspect.
    assert files(tmp_path) == [
        *(f"{source}/qa.{aspect}.txt" for source in ("forward", "inverse") for aspect in ("overall", "utility"))
    ]
    (template,) = load_templates(place(tmp_path) / "inverse" / "qa.utility.txt").values()
    assert template.text == rubric_template(load_task("qa"), "utility").text
    assert template.origin == "rubric"
    assert template.about["fallback"] is True
    # The prompts that were not used have seen the example all the same.
    assert template.about["groups"] == ["qa//g-a"]
    assert len(template.about["refused"]) == 3
    # Each of the six draws has a seed of its own.
    assert len({one["raw"] for one in lines(tmp_path)}) == 6
    assert not any(one["verified"] or one["rank"] for one in lines(tmp_path))

    # The same result again, but now it is to be an error.
    assert main(["invert", config, "--set", "invert.fallback=false"]) == 3
    said = capsys.readouterr()
    assert "done before" in said.err
    assert "ALL REJECTED" in said.out


def test_without_a_fallback_it_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = refusing(tmp_path, fallback=False, sources=["forward"])
    assert main(["invert", config, "--json"]) == 3
    (found,) = json.loads(capsys.readouterr().out)["models"]["judge"]["templates"]
    assert (found["fallback"], found["num_verified"], found["value"]) == (True, 0, None)


def test_what_fails_is_refused_by_name_and_the_rest_is_used(tmp_path: Path) -> None:
    pool = [
        rated(f"r{n}", (f"What is number {n}?", f"It is the number that is called {n}."), overall=3) for n in range(4)
    ]
    asked = [asking("alpha", (one["source"], one["candidate"])) for one in pool]
    inversion = scripted(
        {"contains": "number 0", "error": "timeout"},
        {"contains": "number 1", "reply": asked[1], "finish_reason": "length"},
        {"contains": "number 2", "reply": asked[2].replace("1 to 5", "1 to 10")},
        {"contains": "number 3", "reply": asked[3]},
    )
    config = configuration(
        tmp_path,
        pool=pool,
        inversion=inversion,
        judge=scripted({"contains": "alpha", "label_logprobs": {"3": -1.0}}),
        examples=[one["id"] for one in pool],
        sources=["inverse"],
    )
    assert main(["invert", config]) == 0
    assert [one["problems"] for one in lines(tmp_path)] == [
        ["the model failed: timeout"],
        ["cut off at invert.max_tokens"],
        ["it states a scale of 1 to 10, and the scale is 1 to 5"],
        [],
    ]
    assert files(tmp_path) == ["candidates/inverse/qa.003.txt", "inverse/qa.txt"]
    # A joint prompt of one aspect has the task's file all the same.
    about = load_templates(place(tmp_path) / "inverse" / "qa.txt")["overall"].about
    assert (about["example"], about["num_candidates"], about["num_verified"]) == ("r3", 4, 1)
    # All four examples have been looked at.
    assert about["groups"] == [f"qa//g-r{n}" for n in range(4)]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"error": "error"}, "the judge returned no score: error"),
        # A judge whose endpoint tells no log-probabilities.
        ({}, "the judge returned no score: low_label_mass"),
        ({"label_logprobs": {"1": -0.1}}, "no probability on the human score"),
    ],
)
def test_a_judge_that_cannot_be_asked_leaves_the_rubric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: dict[str, Any], why: str
) -> None:
    judge = scripted({"contains": "alpha manner", **rule})
    config = configuration(tmp_path, judge=judge, examples=["a"], sources=["inverse"], aspects=["overall"])
    assert main(["invert", config]) == 0
    (line,) = lines(tmp_path)
    assert (line["verified"], line["problems"], line["value"], line["rank"]) == (True, [why], None, None)
    assert files(tmp_path) == ["inverse/qa.overall.txt"]
    said = capsys.readouterr()
    assert (
        f"invert: WARNING: judge: all 1 inverse prompts for qa were rejected (1 times {why.split(':')[0]})" in said.err
    )
    assert "1 of 1 prompts verified, 1 of them quote every text; ALL REJECTED" in said.out
    (template,) = load_templates(place(tmp_path) / "inverse" / "qa.overall.txt").values()
    assert template.about["refused"] == [why]


# ---------------------------------------------------------------------- the dev part

# The candidates' words stand beside the text that is judged, so that a rule sees both.
DEV_TEXTS = ("one", "two", "three")
DEV = [
    {**rated(f"d{n}", ("Which?", f"dev {word}."), overall=n + 1), "group": "which", "dataset": "d"}
    for n, word in enumerate(DEV_TEXTS)
]


def dev_judge() -> dict[str, Any]:
    """On the dev part alpha is right and bravo wrong; of the examples' own scores bravo is the surer."""

    def rules(manner: str, order: tuple[int, ...]) -> Iterator[dict[str, Any]]:
        for word, label in zip(DEV_TEXTS, order, strict=True):
            yield {"contains": f"{manner} answer: dev {word}.", "label_logprobs": {str(label): -0.1}}

    return scripted(
        *rules("alpha", (1, 2, 3)),
        *rules("bravo", (3, 2, 1)),
        {"contains": "bravo answer:", "label_logprobs": {"4": -0.1, "2": -0.1}},
        {"contains": "alpha answer:", "label_logprobs": {"4": -3.0, "2": -3.0}},
    )


def dev_configuration(folder: Path, dev: list[dict[str, Any]] | None = None) -> str:
    rules = [
        {"contains": texts[0], "reply": asking(manner, texts, labels=("Question", f"The {manner} answer"))}
        for manner, texts in (("alpha", ONIONS), ("bravo", MAGNETS))
    ]
    more = {} if dev is None else {"dev": [jsonl(folder / "dev.jsonl", dev)]}
    return configuration(
        folder, judge=dev_judge(), inversion=scripted(*rules), sources=["inverse"], aspects=["overall"], **more
    )


def test_a_dev_part_decides_where_there_is_one(tmp_path: Path) -> None:
    assert (
        main(["invert", dev_configuration(tmp_path, [*DEV, rated("x", BRIDGE, task="summarisation", overall=1)])]) == 0
    )
    (template,) = load_templates(place(tmp_path) / "inverse" / "qa.txt").values()
    assert "alpha manner" in template.text
    assert template.about["chosen_by"] == "agreement on the dev part"
    # In order and the wrong way round: Spearman 1 and -1.
    assert template.about["ranking"] == ["0: 1.0000", "1: -1.0000"]
    # Groups whose scores it has seen: those of the examples, and of the dev part what is of its task.
    assert template.about["groups"] == ["qa//g-a", "qa//g-b", "qa/d/which"]
    assert template.seen_groups == {"qa//g-a", "qa//g-b", "qa/d/which"}

    plain = tmp_path / "plain"
    plain.mkdir()
    assert main(["invert", dev_configuration(plain)]) == 0
    (template,) = load_templates(place(plain) / "inverse" / "qa.txt").values()
    assert "bravo manner" in template.text
    assert template.about["groups"] == ["qa//g-a", "qa//g-b"]


def test_a_dev_part_without_an_order_leaves_the_rubric(tmp_path: Path) -> None:
    assert main(["invert", dev_configuration(tmp_path, [{**one, "scores": {"overall": 3}} for one in DEV])]) == 0
    assert [one["problems"] for one in lines(tmp_path)] == [["no agreement could be measured on the dev part"]] * 2
    (template,) = load_templates(place(tmp_path) / "inverse" / "qa.overall.txt").values()
    assert template.about["fallback"] is True
    assert template.about["groups"] == ["qa//g-a", "qa//g-b", "qa/d/which"]


# ---------------------------------------------------------------------- resume


def test_a_killed_job_repeats_only_the_stage_that_it_was_in(tmp_path: Path) -> None:
    config = configuration(tmp_path, examples=["a", "b", "s"])
    assert main(["invert", config]) == 0
    written = {name: (place(tmp_path) / name).read_bytes() for name in [*files(tmp_path), "candidates.jsonl"]}
    # As a kill in the last stage leaves it: no manifest, no choice, half of the files.
    (place(tmp_path) / "manifest.json").unlink()
    (place(tmp_path) / ".choice.json").unlink()
    for name in list(written)[::2]:
        (place(tmp_path) / name).unlink()
    drafts = [place(tmp_path) / f".drafts-{source}.json" for source in ("inverse", "forward")]
    times = [file.stat().st_mtime_ns for file in drafts]
    assert main(["invert", config]) == 0
    assert [file.stat().st_mtime_ns for file in drafts] == times
    assert {name: (place(tmp_path) / name).read_bytes() for name in written} == written

    # Drafts that are there are taken as they are: here one that the model would not write again.
    kept = json.loads(drafts[0].read_text())
    kept["replies"][0]["reply"] = asking("bravo", ONIONS) + "\nBe quick."
    drafts[0].write_text(json.dumps(kept))
    for name in ("manifest.json", ".choice.json"):
        (place(tmp_path) / name).unlink()
    assert main(["invert", config]) == 0
    assert "Be quick." in load_templates(place(tmp_path) / "candidates" / "inverse" / "qa.000.txt")["overall"].text


def test_a_damaged_stage_is_the_users_to_delete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = refusing(tmp_path, sources=["forward"])
    assert main(["invert", config]) == 0
    (place(tmp_path) / "manifest.json").unlink()
    (place(tmp_path) / ".drafts-forward.json").write_text('{"replies": [')
    capsys.readouterr()
    assert main(["invert", config]) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "is damaged. Delete" in said) == (1, True)
