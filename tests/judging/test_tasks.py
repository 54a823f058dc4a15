"""Tasks: the built-in ones, a task file, and what is refused in one, with which code and key."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from judging.records import Record, Scale
from judging.tasks import FOLDER, load_task, text_of, unknown_aspect
from judging.template import rubric_template
from tests.refusals import refused

BUNDLED = {
    "dialogue": ["overall", "understandability", "naturalness", "coherence", "engagingness", "groundedness"],
    "expansion": ["overall"],
    "qa": ["overall", "utility"],
    "story": ["overall", "relevance", "coherence", "empathy", "surprise", "engagement", "complexity"],
    "summarisation": ["overall", "coherence", "consistency", "fluency", "relevance"],
    "translation": ["quality", "overall"],
}


def own(**changes: Any) -> dict[str, Any]:
    """A task file's content that fits, with some keys changed; None takes a key away."""
    whole = {
        "name": "poem",
        "intro": "You judge a poem.",
        "fields": [{"name": "source", "title": "Subject"}, {"name": "candidate", "title": "Poem"}],
        "aspects": {"metre": {"question": "Does it scan?", "scale": [0, 1], "labels": {0: "No.", 1: "Yes."}}},
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def aspect(**changes: Any) -> dict[str, Any]:
    """The same with another aspect."""
    known = {"question": "Does it scan?", "scale": [0, 1], "labels": {0: "No.", 1: "Yes."}}
    return own(aspects={"metre": {name: value for name, value in {**known, **changes}.items() if value is not None}})


def write(tmp_path: Path, content: object) -> str:
    path = tmp_path / "poem.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def test_the_bundled_tasks() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(BUNDLED)
    for name, aspects in BUNDLED.items():
        task = load_task(name)
        assert (task.name, list(task.aspects)) == (name, aspects)


def test_the_task_file_for_research_reports() -> None:
    task = load_task(str(Path(__file__).parents[2] / "configs" / "tasks" / "deep_research.yaml"))
    assert list(task.aspects) == ["overall", "coverage", "insight", "support", "presentation"]
    text = rubric_template(task, "support").text
    assert "Research question:\n" in text and "from 1 to 5" in text and "\n5 - Every claim that matters" in text


def test_scales_and_fields_of_an_aspect() -> None:
    dialogue = load_task("dialogue")
    assert dialogue.scale_of("overall") == Scale(1, 5)
    assert dialogue.scale_of("naturalness") == Scale(1, 3)
    assert dialogue.scale_of("groundedness") == Scale(0, 1)
    assert [field.name for field in dialogue.fields_of("overall")] == ["source", "candidate"]
    assert [field.name for field in dialogue.fields_of("groundedness")] == ["source", "fact", "candidate"]


@pytest.mark.parametrize(("name", "aspects"), BUNDLED.items())
def test_every_prompt_ends_with_the_candidate(name: str, aspects: list[str]) -> None:
    task = load_task(name)
    for aspect in aspects:
        assert task.fields_of(aspect)[-1].name == "candidate"
        assert all(meaning.strip() for meaning in task.aspects[aspect].labels.values())


@pytest.mark.parametrize("name", BUNDLED)
def test_the_sentence_of_a_judges_own_reply(name: str) -> None:
    form = load_task(name).reply_form
    filled = form.format(aspects="coherence and fluency", scale="with a whole number between 1 and 5")
    assert filled.startswith(
        "Following the evaluation guideline I was given, I have rated the coherence and fluency of"
    )
    assert " with a whole number between 1 and 5. " in filled
    assert filled.endswith(" and my rating in JSON:")
    assert "\n" not in filled


def test_a_task_file_may_leave_the_sentence_out_or_have_its_own(tmp_path: Path) -> None:
    assert load_task(write(tmp_path, own())).reply_form.format(aspects="metre", scale="on the scales given") == (
        "Following the evaluation guideline I was given, I have rated the metre of this text on the scales given. "
        "Here is what I read and my rating in JSON:"
    )
    load_task.cache_clear()
    mine = "{scale} {aspects}"
    assert load_task(write(tmp_path, own(reply_form=mine))).reply_form == mine


def test_text_of_a_record() -> None:
    record = Record("i", "qa", "g", "the source", "the candidate", fields={"fact": "the fact", "source": "another"})
    assert [text_of(record, name) for name in ("source", "candidate", "fact", "reference")] == [
        "the source",
        "the candidate",
        "the fact",
        "",
    ]
    # Nothing else of the record is a text of it: its id, its scores and its methods are no field.
    assert [text_of(record, name) for name in ("id", "scores", "to_row", "__class__")] == ["", "", "", ""]


def test_an_own_task_file(tmp_path: Path) -> None:
    task = load_task(write(tmp_path, own()))
    assert (task.name, task.scale_of("metre")) == ("poem", Scale(0, 1))


@pytest.mark.parametrize(
    "name",
    [
        "poem",
        "QA",
        "qa ",
        "",
        ".",
        "/",
        "../prompts/qa",
        "rubric",
        "x" * 5000,
        "a\0b",
        "no/such.yaml",
        "x" * 5000 + ".yaml",
    ],
    ids=lambda name: repr(name[-12:]),
)
def test_a_task_that_is_not_there(name: str) -> None:
    with refused("unknown_task", naming=repr(name)):
        load_task(name)
    with refused("unknown_task", naming="dialogue, expansion, qa, story, summarisation, translation"):
        load_task(name)


def test_a_folder_is_no_task_file(tmp_path: Path) -> None:
    (tmp_path / "poem.yaml").mkdir()
    with refused("unknown_task", naming="poem.yaml"):
        load_task(str(tmp_path / "poem.yaml"))


@pytest.mark.parametrize(
    ("content", "code", "key", "naming"),
    [
        ("", "invalid_value", "", "mapping"),
        ("just a word", "invalid_value", "", "mapping"),
        ("- a\n- b", "invalid_value", "", "mapping"),
        ("name: [unclosed", "invalid_yaml", "", "line 1"),
        ("\tname: x", "invalid_yaml", "", "line 1"),
        ("a: !!python/object/apply:os.system [ls]", "invalid_yaml", "", "constructor"),
        (own(name=None), "missing_key", "name", ""),
        (own(aspects=None), "missing_key", "aspects", ""),
        (own(aspects={}), "invalid_value", "aspects", "at least 1"),
        (own(colour="red"), "unknown_key", "colour", ""),
        (own(reply_form=7), "invalid_value", "reply_form", "string"),
        *(
            (own(reply_form=form), "invalid_value", "reply_form", "{aspects} and {scale}, each once")
            for form in (
                "",
                "I rated it.",
                "I rated the {aspects}.",
                "I rated it {scale}.",
                "I rated the {aspects} and {aspects} {scale}.",
                "I rated the {aspects} {scale} {scale}.",
                "I rated the {aspects} of the {text} {scale}.",
                "I rated the {aspects} {scale} {}.",
                "I rated the {{aspects}} {scale}.",
                "I rated the { aspects } {scale}.",
                "I rated the {aspects!r} {scale}.",
                "I rated the {aspects:>9} {scale}.",
                "I rated the {aspects.x} {scale}.",
                'I rated the {aspects} {scale}: {"a": 1}',
                "I rated the {aspects} {scale}. }",
                "I rated the {aspects} {scale}. {",
            )
        ),
        (own(fields=[]), "invalid_value", "fields", "`candidate`"),
        (own(fields=[{"name": "source", "title": "S"}]), "invalid_value", "fields", "`candidate`"),
        (
            own(fields=[{"name": n, "title": "T"} for n in ("candidate", "source")]),
            "invalid_value",
            "fields",
            "`candidate`",
        ),
        (own(fields=[{"name": "candidate", "title": "T"}] * 2), "duplicate_key", "fields", "candidate"),
        (own(fields=[{"name": n, "title": "T"} for n in ("rubric", "candidate")]), "conflict", "fields", "'rubric'"),
        (own(fields=[{"name": "candidate"}]), "missing_key", "fields.0.title", ""),
        (own(fields=[{"name": "no slot", "title": "T"}]), "invalid_value", "fields.0.name", "pattern"),
        (aspect(question=None), "missing_key", "aspects.metre.question", ""),
        (aspect(scale=[1, 0]), "invalid_value", "aspects.metre", "1.0 to 0.0"),
        (aspect(scale=[0, float("inf")]), "invalid_value", "aspects.metre", "0.0 to inf"),
        (aspect(scale=[0]), "missing_key", "aspects.metre.scale.1", ""),
        (aspect(scale=[0.2, 0.8], labels={}), "invalid_value", "aspects.metre", "0.2 to 0.8 has 0"),
        (aspect(scale=[0.5, 1.5], labels={1: "x"}), "invalid_value", "aspects.metre", "0.5 to 1.5 has 1"),
        (aspect(labels={0: "No."}), "invalid_value", "aspects.metre", "[0, 1], not [0]"),
        (aspect(labels={0: "a", 1: "b", 2: "c"}), "invalid_value", "aspects.metre", "[0, 1], not [0, 1, 2]"),
        (aspect(labels={0: "a", "one": "b"}), "invalid_value", "aspects.metre.labels.one.[key]", "integer"),
        (aspect(fields=["fact", "candidate"]), "unknown_key", "aspects.metre.fields", "'fact'"),
        (aspect(fields=["source"]), "missing_key", "aspects.metre.fields", "`candidate`"),
    ],
)
def test_a_task_file_that_does_not_fit(tmp_path: Path, content: object, code: str, key: str, naming: str) -> None:
    path = write(tmp_path, content)
    with refused(code, key, naming=f"{path}: "):
        load_task(path)
    with refused(code, key, naming=naming):
        load_task(path)


def test_a_task_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "poem.yaml"
    path.write_bytes("name: Gedichtprüfung".encode("latin-1"))
    with refused("unreadable_file", naming="byte 0xfc"):
        load_task(str(path))


def test_a_duplicate_key_in_a_task_file(tmp_path: Path) -> None:
    text = Path(write(tmp_path, own())).read_text()
    with refused("duplicate_key", naming="poem.yaml"):
        load_task(write(tmp_path, f"{text}\n{text}"))


def test_a_score_on_an_aspect_that_the_task_lacks() -> None:
    known = Record("i", "qa", "g", "s", "c", scores={"overall": 4})
    assert unknown_aspect(known) is None
    error = unknown_aspect(replace(known, scores={"overall": 4, "Utlity": 2}))
    assert error is not None and (error.code, error.key) == ("unknown_aspect", "scores.Utlity")
    assert "'utility'" in str(error)
