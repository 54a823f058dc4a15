"""Evaluation templates: how slots are filled, what a prompt looks like, why a template cannot be used."""

import json
import re

import pytest

from judging.parse import parse_reply
from judging.records import Record, Scale, ScoreMode
from judging.tasks import FieldSpec, load_task
from judging.template import LABEL_PREFIX, Template, fill, nearest_label, rubric_template, texts_for
from tests.judging.templates import ALL, FIELDS, MODES, rubric, template
from tests.refusals import refused


def test_fill_goes_over_the_template_once() -> None:
    values = {"a": "{{b}}", "b": "{{a}} {{c}} {{", "c": r"\1 \g<0> $1 %s {0}"}
    assert fill("{{a}}|{{ b }}|{{\tc}}", values) == r"{{b}}|{{a}} {{c}} {{|\1 \g<0> $1 %s {0}"


def test_what_is_no_slot_stays_text() -> None:
    text = "{a} {{}} {{a b}} {{1a}} {{ä}} {{{ }}} {{a-b}} {% if %} ${a} %(a)s"
    assert fill(text, {"a": "WRONG", "b": "WRONG"}) == text


def test_slots_inside_data_stay_text() -> None:
    hostile = {"source": "{{candidate}} {{reply_format}} {0} %s", "candidate": r"{{source}} {{examples}} \g<0> {{x}}"}
    text = (
        template("{{examples}}Q: {{source}}\nA: {{candidate}}\n{{reply_format}}").render(hostile, mode="expected").text
    )
    # The data stand there as they are, the reply format once, where the template puts it.
    assert text == (
        "Q: {{candidate}} {{reply_format}} {0} %s\n"
        r"A: {{source}} {{examples}} \g<0> {{x}}"
        "\nReply with the score alone, in this form:\nScore: <a whole number from 1 to 5>"
    )


def test_a_rendered_rubric() -> None:
    prompt = rubric("qa", "overall").render({"source": "Why?", "candidate": "So."}, mode="expected")
    assert prompt.reply_prefix == "Score: "
    assert prompt.text == (
        "You read a question and an answer to it. You judge the answer.\n\n"
        "How good is the answer as a whole?\n"
        "Rate it with a whole number from 1 to 5:\n"
        "1 - Useless. Off topic or nonsense.\n"
        "2 - Poor. On topic, but mostly wrong or of no help.\n"
        "3 - Fair. Partly right, but vague or with a clear mistake.\n"
        "4 - Good. Right, but something that matters is missing or unclear.\n"
        "5 - Very good. Right, complete, clear and to the point.\n\n"
        "Reply with the score alone, in this form:\nScore: <a whole number from 1 to 5>\n\n"
        "Question:\n<source>\nWhy?\n</source>\n"
        "Answer:\n<candidate>\nSo.\n</candidate>"
    )


def test_examples_stand_between_the_instruction_and_the_text_to_judge() -> None:
    shown = [({"source": "Q1", "candidate": "A1"}, 2.0), ({"source": "Q2", "candidate": "A2"}, 4.5)]
    prompt = rubric("qa", "overall").render({"source": "Why?", "candidate": "So."}, mode="expected", examples=shown)
    assert prompt.text.endswith(
        "Example 1\nQuestion:\n<source>\nQ1\n</source>\nAnswer:\n<candidate>\nA1\n</candidate>\nScore: 2\n\n"
        "Example 2\nQuestion:\n<source>\nQ2\n</source>\nAnswer:\n<candidate>\nA2\n</candidate>\nScore: 5\n\n"
        "Now rate this one.\n"
        "Question:\n<source>\nWhy?\n</source>\nAnswer:\n<candidate>\nSo.\n</candidate>"
    )


def test_a_template_without_the_free_slots_gets_examples_in_front_and_the_format_at_the_end() -> None:
    prompt = template().render(
        {"source": "Why?", "candidate": "So."}, mode="parsed", examples=[({"source": "Q1", "candidate": "A1"}, 1)]
    )
    assert prompt == (
        "Example 1\nQuestion:\n<source>\nQ1\n</source>\nAnswer:\n<candidate>\nA1\n</candidate>\nScore: 1\n\n"
        "Now rate this one.\n"
        "Q: Why?\nA: So.\n\n"
        "Reply with one JSON object and nothing else, in this form:\n"
        '{"reason": "<one or two sentences>", "overall_score": <a whole number from 1 to 5>}',
        "",
    )


def test_one_of_several_aspects_is_asked_for_by_name() -> None:
    texts = {"source": "Why?", "candidate": "So."}
    joint = template("Rate coherence and fluency.\n{{source}}\n{{candidate}}", aspect="fluency", several=True)
    assert joint.render(texts, mode="expected") == (
        "Rate coherence and fluency.\nWhy?\nSo.\n\n"
        "Reply with the score for fluency alone, in this form:\nScore: <a whole number from 1 to 5>",
        "Score: ",
    )
    # A parsed reply names its aspect anyway.
    alone = template(joint.text, aspect="fluency")
    assert joint.render(texts, mode="parsed") == alone.render(texts, mode="parsed")


def test_the_name_of_an_aspect_is_no_slot() -> None:
    joint = template("{{source}} {{candidate}}", aspect="{{source}}", several=True)
    assert (
        "Reply with the score for {{source}} alone"
        in joint.render({"source": "s", "candidate": "c"}, mode="expected").text
    )


def test_the_groups_that_made_a_template() -> None:
    assert template().seen_groups == frozenset()
    assert template(about={"groups": ["qa//g1", "qa/d/g2", "qa//g1"]}).seen_groups == {"qa//g1", "qa/d/g2"}


def test_an_empty_text_is_shown_as_none() -> None:
    text = rubric("dialogue", "groundedness").render({"source": "s", "fact": "", "candidate": ""}, mode="expected").text
    assert "<fact>\n(none)\n</fact>" in text and text.endswith("<candidate>\n(none)\n</candidate>")


def test_the_reply_schema_holds_the_reason_first_and_only_the_labels() -> None:
    schema = json.loads(rubric("dialogue", "naturalness").reply_schema())
    assert list(schema["properties"]) == schema["required"] == ["reason", "naturalness_score"]
    assert schema["properties"]["naturalness_score"]["enum"] == [1, 2, 3]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("score", "label"),
    [(1, "1"), (2.4, "2"), (2.5, "3"), (2.6, "3"), (4.5, "5"), (0, "1"), (9, "5")],  # the higher one at a half
)
def test_nearest_label(score: float, label: str) -> None:
    assert nearest_label(score, Scale(1, 5)) == label


def test_texts_for_takes_what_the_template_shows() -> None:
    record = Record("i", "dialogue", "g", "the source", "the candidate", fields={"fact": "the fact"})
    assert texts_for(record, rubric("dialogue", "overall")) == {"source": "the source", "candidate": "the candidate"}
    assert texts_for(record, rubric("dialogue", "groundedness"))["fact"] == "the fact"
    # A learned template may show more than the rubric's aspect does, and its task may be one of the user's own files.
    fields = (*FIELDS, FieldSpec(name="fact", title="F"), FieldSpec(name="reference", title="R"))
    assert texts_for(record, template(task="my own", fields=fields)) == {
        "source": "the source",
        "candidate": "the candidate",
        "fact": "the fact",
        "reference": "",
    }


def test_a_scale_of_half_points_is_asked_for_in_steps() -> None:
    half = template(scale=Scale(0.5, 5))
    texts = {"source": "Why?", "candidate": "So."}
    shown = half.render(texts, mode="parsed", examples=[(texts, 3.4)]).text
    assert "<a number from 0.5 to 5 in steps of 0.5>" in shown and "whole number" not in shown
    assert "Score: 3.5\n" in shown
    score = json.loads(half.reply_schema())["properties"]["overall_score"]
    assert score == {"type": "number", "enum": [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]}
    whole = json.loads(template().reply_schema())["properties"]["overall_score"]
    assert whole == {"type": "integer", "enum": [1, 2, 3, 4, 5]}


@pytest.mark.parametrize(("task", "aspect"), ALL)
@pytest.mark.parametrize("mode", MODES)
def test_records_of_one_group_share_the_prompt_up_to_the_candidate(task: str, aspect: str, mode: ScoreMode) -> None:
    known = rubric(task, aspect)
    shared = {spec.name: f"the {spec.name} of the group" for spec in known.fields}
    examples = [({spec.name: f"example {spec.name}" for spec in known.fields}, 1.0)]
    one, other = (
        known.render({**shared, "candidate": text}, mode=mode, examples=examples).text
        for text in ("Yes.", "An answer.")
    )
    assert one.endswith("<candidate>\nYes.\n</candidate>")
    assert one.removesuffix("Yes.\n</candidate>") == other.removesuffix("An answer.\n</candidate>")


@pytest.mark.parametrize(("task", "aspect"), ALL)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("several", [False, True])
def test_a_prompt_sent_back_as_reply_is_no_score(task: str, aspect: str, mode: ScoreMode, several: bool) -> None:
    known = rubric(task, aspect)
    texts = {spec.name: f"some {spec.name}" for spec in known.fields}
    bare = known.render(texts, mode=mode).text
    shown = known.render(texts, mode=mode, examples=[(texts, 1.0), (texts, known.scale.high)]).text
    learned = Template("{{source}} {{candidate}}", task, aspect, known.scale, FIELDS, several=several).render(
        {"source": "s", "candidate": "c"}, mode=mode, examples=[({"source": "s", "candidate": "c"}, 1.0)]
    )
    for reply in (known.text, bare, shown, learned.text, *known.text.splitlines(), *bare.splitlines()):
        for prefix in ("", LABEL_PREFIX, "```json\n"):
            assert parse_reply(prefix + reply, aspect, known.scale).score is None


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("{{source}} {{candidate}}", []),
        ("{{ source }} {{candidate}} {{examples}} {{reply_format}}", []),
        ("{{candidate}}", ["slot 'source' is missing"]),
        ("{source} {{candidate}}", ["slot 'source' is missing"]),
        ("", ["slot 'source' is missing", "slot 'candidate' is missing"]),
        ("{{source}} {{candidate}} {{candidate}}", ["slot 'candidate' is used 2 times"]),
        ("{{source}} {{candidate}} {{reply_format}} {{reply_format}}", ["slot 'reply_format' is used 2 times"]),
        ("{{source}} {{candidate}} {{fact}}", ["slot 'fact' must be one of ['source', 'candidate']"]),
        (
            "{{source}} {{x}} {{x}}",
            [
                "slot 'candidate' is missing",
                "slot 'x' is used 2 times",
                "slot 'x' must be one of ['source', 'candidate']",
            ],
        ),
    ],
)
def test_problems(text: str, problems: list[str]) -> None:
    assert template(text).problems() == problems


def test_problems_of_fields_and_scale() -> None:
    clash = template("{{examples}}", fields=(FieldSpec(name="examples", title="E"),))
    assert clash.problems() == ["field 'examples' has a reserved slot name"]
    assert template(scale=Scale(0.2, 1.2)).problems() == ["the scale 0.2 to 1.2 has fewer than two whole numbers"]


@pytest.mark.parametrize(("task", "aspect"), ALL)
def test_every_rubric_has_no_problem(task: str, aspect: str) -> None:
    known = rubric(task, aspect)
    assert known.problems() == []
    assert known.text.isascii() or re.search(r"\w", known.text)


def test_a_rubric_for_an_aspect_that_the_task_lacks() -> None:
    with refused("unknown_aspect", naming="'fluency'"):
        rubric("qa", "fluency")


def test_a_task_file_with_a_slot_of_its_own_makes_no_template() -> None:
    task = load_task("qa").model_copy(update={"intro": "You judge {{something}}."})
    with refused("invalid_template", naming="task 'qa', aspect 'overall': slot 'something'"):
        rubric_template(task, "overall")


def test_the_fingerprint_tells_what_decides_the_prompt() -> None:
    base = template()
    others = [
        template("Q: {{source}}\nA:  {{candidate}}"),
        template(task="story"),
        template(aspect="utility"),
        template(scale=Scale(1, 3)),
        template(fields=FIELDS[::-1]),
        template(fields=(FIELDS[0], FieldSpec(name="candidate", title="Reply"))),
        template(several=True),
    ]
    assert len({known.fingerprint for known in (base, *others)}) == 8
    assert template(origin="inverse", about={"seed": 1}).fingerprint == base.fingerprint
