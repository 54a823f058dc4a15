"""The job `invert` with scripted models: what it leaves, how it chooses, what it refuses, and what it goes on from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.__main__ import main
from judging.tasks import load_task
from judging.template import rubric_template
from judging.template_io import load_templates
from tests.train.making import jsonl

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

ONIONS = ("Why do onions make your eyes water?", "Cutting an onion sets a gas free that stings the eyes.")
MAGNETS = ("How does a compass find north?", "Its needle is a magnet that turns along the field of the earth.")
BRIDGE = ("The old bridge of Winsdale was closed on Monday after a crack was found.", "A crack closed the old bridge.")


def rated(id: str, texts: tuple[str, str], *, task: str = "qa", **scores: float) -> dict[str, Any]:
    return {
        "id": id,
        "task": task,
        "group": f"g-{id}",
        "source": texts[0],
        "candidate": texts[1],
        "scores": scores,
        "scale": [1, 5],
    }


POOL = [
    rated("a", ONIONS, overall=4, utility=2),
    rated("b", MAGNETS, overall=2, utility=4),
    rated("s", BRIDGE, task="summarisation", fluency=3),
    rated("half", ("Who was it?", "It was nobody."), overall=3),
    rated("nosource", ("", "An answer to nothing."), overall=3, utility=3),
]


def asking(
    manner: str, texts: tuple[str, str] | None = None, *, labels: tuple[str, str] = ("Question", "Answer")
) -> str:
    """A prompt as an inversion model might write it: it says what to do, and quotes its example."""
    asked = f"Rate the text in the {manner} manner with a score from 1 to 5. Say whether it is right and clear."
    return asked + (f"\n\n{labels[0]}: {texts[0]}\n{labels[1]}: {texts[1]}" if texts else "")


# The inversion model reads an example as a judge's reply, and writes a prompt for it.
INVERSION = [
    {"contains": '"overall_score": 4', "reply": asking("alpha", ONIONS)},
    {"contains": MAGNETS[0], "reply": asking("bravo", MAGNETS)},
    {"contains": BRIDGE[0], "reply": asking("summary", BRIDGE, labels=("Article", "Summary"))},
]
# The judge judges with those prompts, and as the baseline writes one itself, without a quote.
JUDGE = [
    {"contains": "alpha manner", "label_logprobs": {"4": -0.5, "2": -1.5}},
    {"contains": "bravo manner", "label_logprobs": {"4": -0.25, "2": -0.75}},
    {"contains": "summary manner", "label_logprobs": {"3": -0.125}},
    {"contains": "forward manner", "label_logprobs": {"4": -2.0, "2": -2.0, "3": -1.0}},
    {"contains": "Write the instruction that the judge was given", "reply": asking("forward")},
]


def scripted(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"backend": "scripted", "rules": list(rules), **more}


def configuration(folder: Path, *, judge: Any = None, inversion: Any = None, pool: Any = None, **invert: Any) -> str:
    """Write the pool and the configuration: one judge with one inversion model, both scripted."""
    folder.mkdir(exist_ok=True)
    rows = POOL if pool is None else pool
    config = {
        "run": str(folder / "run"),
        "data": {"records": ["none.jsonl"], "pool": [jsonl(folder / "pool.jsonl", rows)]},
        "models": {"judge": judge or scripted(*JUDGE), "inv": inversion or scripted(*INVERSION)},
        "invert": {
            "models": ["judge"],
            "inversion": {"judge": "inv"},
            "num_candidates": 1,
            "examples": ["a", "b"],
            **invert,
        },
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def place(folder: Path) -> Path:
    return folder / "run" / "invert" / "judge"


def files(folder: Path) -> list[str]:
    """The template files below the job's folder."""
    return sorted(str(path.relative_to(place(folder))) for path in place(folder).rglob("*.txt"))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place(folder) / "candidates.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """Two tasks, two sources, two examples of the one and one of the other; tests only read it."""
    folder = tmp_path_factory.mktemp("done")
    assert main(["invert", configuration(folder, examples=["a", "b", "s"])]) == 0
    return folder


def test_every_task_and_source_has_its_template_and_every_candidate_its_file(done: Path) -> None:
    assert files(done) == [
        "candidates/forward/qa.000.txt",
        "candidates/forward/qa.001.txt",
        "candidates/forward/summarisation.000.txt",
        "candidates/inverse/qa.000.txt",
        "candidates/inverse/qa.001.txt",
        "candidates/inverse/summarisation.000.txt",
        "forward/qa.txt",
        "forward/summarisation.txt",
        "inverse/qa.txt",
        "inverse/summarisation.txt",
    ]
    templates = load_templates(place(done) / "inverse" / "qa.txt")
    assert list(templates) == ["overall", "utility"]
    text = asking("bravo", ("{{source}}", "{{candidate}}"))
    assert {one.text for one in templates.values()} == {f"{text}\n\n{{{{reply_format}}}}"}
    assert {one.origin for one in templates.values()} == {"inverse"}
    assert load_templates(place(done) / "forward" / "qa.txt")["utility"].origin == "forward"
    (fluency,) = load_templates(place(done) / "inverse" / "summarisation.txt").values()
    assert (fluency.task, fluency.aspect, fluency.several) == ("summarisation", "fluency", False)


def test_the_judges_own_probability_decides(done: Path) -> None:
    about = load_templates(place(done) / "inverse" / "qa.txt")["overall"].about
    # People gave 4 and 2, 2 and 4. Alpha: (-0.5 - 1.5 - 1.5 - 0.5) / 4; bravo: (-0.25 - 0.75 - 0.75 - 0.25) / 4.
    assert about["ranking"] == ["1: -0.5000", "0: -1.0000"]
    assert about == {
        "judge": "judge",
        "judge_fingerprint": "none",
        "writer_fingerprint": "none",
        "examples": ["a", "b"],
        "groups": ["qa//g-a", "qa//g-b"],
        "chosen_by": "mean log-probability of the human score",
        "num_candidates": 2,
        "num_verified": 2,
        "ranking": about["ranking"],
        "candidate": 1,
        "example": "b",
        "rank": 1,
        "value": -0.5,
        "slots": {"source": "exact", "candidate": "exact"},
    }
    second = load_templates(place(done) / "candidates" / "inverse" / "qa.000.txt")["overall"]
    assert "alpha manner" in second.text
    assert (second.about["rank"], second.about["value"], second.about["candidate"]) == (2, -1.0, 0)
    # What is chosen stands among the candidates too, word by word.
    chosen = (place(done) / "candidates" / "inverse" / "qa.001.txt").read_bytes()
    assert (place(done) / "inverse" / "qa.txt").read_bytes() == chosen


def test_of_equal_candidates_the_first_is_taken(done: Path) -> None:
    # The baseline wrote one and the same prompt for both examples.
    about = load_templates(place(done) / "forward" / "qa.txt")["overall"].about
    assert about["ranking"] == ["0: -2.0000", "1: -2.0000"]
    assert (about["candidate"], about["slots"]) == (0, {"source": "appended", "candidate": "appended"})


def test_every_candidate_has_a_line(done: Path) -> None:
    found = lines(done)
    shape = [(one["source"], one["task"], one["number"], one["example"], one["rank"]) for one in found]
    assert shape == [
        ("inverse", "qa", 0, "a", 2),
        ("inverse", "qa", 1, "b", 1),
        ("inverse", "summarisation", 0, "s", 1),
        ("forward", "qa", 0, "a", 1),
        ("forward", "qa", 1, "b", 2),
        ("forward", "summarisation", 0, "s", 1),
    ]
    assert all(one["verified"] and one["problems"] == [] for one in found)
    assert found[0]["raw"] == asking("alpha", ONIONS)
    assert found[2]["value"] == pytest.approx(-0.125)


def test_the_summary_says_what_was_chosen(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((place(done) / "manifest.json").read_text())
    first = manifest["summary"]["templates"][0]
    assert first == {
        "source": "inverse",
        "task": "qa",
        "aspects": ["overall", "utility"],
        "examples": ["a", "b"],
        "num_candidates": 2,
        "num_verified": 2,
        "num_quoted": 2,
        "refused": {},
        "fallback": False,
        "value": -0.5,
    }
    assert "candidates.jsonl" in manifest["files"]
    before = {path: path.stat().st_mtime_ns for path in place(done).rglob("*")}
    # A setting that changes no template is no other work.
    assert main(["invert", str(done / "c.yaml"), "--set", "invert.fallback=false"]) == 0
    said = capsys.readouterr()
    assert said.err == f"invert: judge: done before, {place(done)} is up to date\n"
    assert said.out.splitlines() == [
        f"judge: {place(done)}",
        "  inverse  qa (overall, utility): 2 of 2 prompts usable, 2 of them quote every text; best -0.500",
        "  inverse  summarisation (fluency): 1 of 1 prompts usable, 1 of them quote every text; best -0.125",
        "  forward  qa (overall, utility): 2 of 2 prompts usable, 0 of them quote every text; best -2.000",
        "  forward  summarisation (fluency): 1 of 1 prompts usable, 0 of them quote every text; best -1.000",
    ]
    assert {path: path.stat().st_mtime_ns for path in place(done).rglob("*")} == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("invert.temperature=0.5", "another invert.temperature (0.95, now 0.5)"),
        ("invert.num_candidates=2", "another invert.num_candidates (1, now 2)"),
        ("invert.examples=[a]", "another invert.examples"),
        ("models.judge.garbage_share=0.5", "another judge.garbage_share (0.0, now 0.5)"),
        ("models.inv.garbage_share=0.5", "another inversion.garbage_share (0.0, now 0.5)"),
        ("seed=1", "another seed (0, now 1)"),
    ],
)
def test_other_work_in_the_same_place_is_refused_by_key(
    done: Path, capsys: pytest.CaptureFixture[str], setting: str, words: str
) -> None:
    assert main(["invert", str(done / "c.yaml"), "--set", setting]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_another_pool_in_the_same_place_is_refused_by_file(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = done / "pool.jsonl"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept + b"\n")
        assert main(["invert", str(done / "c.yaml")]) == 2
    finally:
        file.write_bytes(kept)
    assert f"another files.{file}" in capsys.readouterr().err


def test_a_changed_task_file_is_other_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = {
        "name": "emails",
        "intro": "You judge e-mails.",
        "fields": [{"name": "source", "title": "Request"}, {"name": "candidate", "title": "E-mail"}],
        "aspects": {"tone": {"question": "Kind?", "scale": [1, 3], "labels": {1: "no", 2: "so-so", 3: "yes"}}},
    }
    path = tmp_path / "emails.yaml"
    path.write_text(yaml.safe_dump(task))
    pool = [{**rated("a", ONIONS, tone=2), "task": None, "scale": [1, 3]}]
    # People's scale and the task's are one; the prompt states no scale.
    judge = scripted(
        {"contains": "Rate the tone", "label_logprobs": {"2": -0.5}},
        {"contains": "the judge was given", "reply": "Rate the tone of the e-mail. Say whether it is kind."},
    )
    config = configuration(tmp_path, judge=judge, pool=pool, sources=["forward"], examples=["a"], require_scale=False)
    options = ["--set", f"data.task={path}"]
    assert main(["invert", config, *options]) == 0
    assert files(tmp_path) == ["candidates/forward/emails.000.txt", "forward/emails.txt"]
    (template,) = load_templates(place(tmp_path) / "forward" / "emails.txt").values()
    assert (template.task, template.about["value"], template.about["groups"]) == (str(path), -0.5, [f"{path}//g-a"])
    capsys.readouterr()
    path.write_text(yaml.safe_dump({**task, "intro": "You judge letters."}))
    assert main(["invert", config, *options]) == 2
    assert f"another files.{path}" in capsys.readouterr().err


def test_one_template_an_aspect_where_they_are_not_together(tmp_path: Path) -> None:
    # The scores are left out, and a model that would see one fails.
    blind = scripted(
        {"contains": '_score"', "error": "error"}, {"contains": ONIONS[0], "reply": asking("alpha", ONIONS)}
    )
    options: dict[str, Any] = {"aspects_together": False, "with_score": False, "num_candidates": 2}
    config = configuration(tmp_path, inversion=blind, examples=["a"], sources=["inverse"], **options)
    assert main(["invert", config]) == 0
    assert files(tmp_path) == [
        *(
            f"candidates/inverse/qa.{aspect}.{number}.txt"
            for aspect in ("overall", "utility")
            for number in ("000", "001")
        ),
        "inverse/qa.overall.txt",
        "inverse/qa.utility.txt",
    ]
    for aspect, value in (("overall", -0.5), ("utility", -1.5)):
        templates = load_templates(place(tmp_path) / "inverse" / f"qa.{aspect}.txt")
        assert list(templates) == [aspect]
        # Its own aspect alone decides: people gave a 4 and a 2.
        assert templates[aspect].about["value"] == value
        assert not templates[aspect].several


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
        assert (
            f"invert: WARNING: judge: all 3 {source} prompts for qa were refused (3 times of the instruction"
            in said.err
        )
        assert (
            f"  {source:<8} qa (overall, utility): 0 of 3 prompts usable, 0 of them quote every text; ALL REFUSED"
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
    assert "ALL REFUSED" in said.out


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
        ({"error": "error"}, "the forward model gave no score: error"),
        # A judge whose endpoint tells no log-probabilities.
        ({}, "the forward model gave no score: low_label_mass"),
        ({"label_logprobs": {"1": -0.1}}, "no probability on the people's score"),
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
        f"invert: WARNING: judge: all 1 inverse prompts for qa were refused (1 times {why.split(':')[0]})" in said.err
    )
    assert "1 of 1 prompts usable, 1 of them quote every text; ALL REFUSED" in said.out
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


def test_a_damaged_stage_is_the_users_to_delete(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = refusing(tmp_path, sources=["forward"])
    assert main(["invert", config]) == 0
    (place(tmp_path) / "manifest.json").unlink()
    (place(tmp_path) / ".drafts-forward.json").write_text('{"replies": [')
    capsys.readouterr()
    assert main(["invert", config]) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), "is damaged: delete" in said) == (1, True)
