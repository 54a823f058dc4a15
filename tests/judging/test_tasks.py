from pathlib import Path
from typing import Any

import pytest
import yaml

from judging.errors import InputError
from judging.records import Record, Scale
from judging.tasks import FOLDER, load_task, text_of

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
    with pytest.raises(InputError) as caught:
        load_task(name)
    assert str(caught.value) == (
        f"there is no task {name!r}: give one of dialogue, expansion, qa, story, summarisation, translation, "
        "or the path of a task file (.yaml)"
    )


def test_a_folder_is_no_task_file(tmp_path: Path) -> None:
    (tmp_path / "poem.yaml").mkdir()
    with pytest.raises(InputError, match="there is no task"):
        load_task(str(tmp_path / "poem.yaml"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "must be a mapping"),
        ("just a word", "must be a mapping"),
        ("- a\n- b", "must be a mapping"),
        ("name: [unclosed", "expected ',' or ']', but got '<stream end>', line 1"),
        ("\tname: x", r"found character '\\t' that cannot start any token, line 1"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (own(name=None), "name: Field required"),
        (own(aspects=None), "aspects: Field required"),
        (own(aspects={}), "aspects: Dictionary should have at least 1 item"),
        (own(colour="red"), "colour: Extra inputs are not permitted"),
        (own(reply_form=7), "reply_form: Input should be a valid string"),
        *(
            (own(reply_form=form), r"poem.yaml: reply_form: it needs \{aspects\} and \{scale\}, each once")
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
        (own(fields=[]), "poem.yaml: fields: the last one must be `candidate`"),
        (own(fields=[{"name": "source", "title": "S"}]), "the last one must be `candidate`"),
        (own(fields=[{"name": n, "title": "T"} for n in ("candidate", "source")]), "the last one must be `candidate`"),
        (own(fields=[{"name": "candidate", "title": "T"}] * 2), "a name stands twice"),
        (own(fields=[{"name": "candidate"}]), "fields.0.title: Field required"),
        (own(fields=[{"name": "no slot", "title": "T"}]), "fields.0.name: String should match pattern"),
        (aspect(question=None), "aspects.metre.question: Field required"),
        (aspect(scale=[1, 0]), "a scale goes from a lower to a higher finite number"),
        (aspect(scale=[0, float("inf")]), "a scale goes from a lower to a higher finite number"),
        (aspect(scale=[0]), "aspects.metre.scale"),
        (aspect(scale=[0.2, 0.8], labels={}), "it needs at least two whole numbers, and 0.2 to 0.8 has 0"),
        (aspect(scale=[0.5, 1.5], labels={1: "x"}), "it needs at least two whole numbers, and 0.5 to 1.5 has 1"),
        (aspect(labels={0: "No."}), r"labels must be the whole numbers of the scale, \[0, 1\], not \[0\]"),
        (aspect(labels={0: "a", 1: "b", 2: "c"}), r"\[0, 1\], not \[0, 1, 2\]"),
        (aspect(labels={0: "a", "one": "b"}), "aspects.metre.labels.one"),
        (aspect(fields=["fact", "candidate"]), "aspects.metre.fields: 'fact' is none of the task's fields"),
        (aspect(fields=["source"]), "aspects.metre.fields: `candidate` is missing"),
    ],
)
def test_a_task_file_that_does_not_fit(tmp_path: Path, content: object, reason: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=reason) as caught:
        load_task(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_task_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "poem.yaml"
    path.write_bytes("name: Gedichtprüfung".encode("latin-1"))
    with pytest.raises(InputError, match="can't decode byte 0xfc"):
        load_task(str(path))


def test_a_name_that_stands_twice_in_a_task_file(tmp_path: Path) -> None:
    text = Path(write(tmp_path, own())).read_text()
    with pytest.raises(InputError, match=r"'name' stands twice, line \d+|'\w+' stands twice, line \d+"):
        load_task(write(tmp_path, f"{text}\n{text}"))
