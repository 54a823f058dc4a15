"""A sampled prompt as a candidate: slots where the example stood, templates by aspect, and why it may not be used."""

import json
from typing import Any

import pytest

from judging.records import Scale
from tests.train.making import candidate, rated, unit
from train.inversion.one_shot import Unit, as_reply
from train.inversion.prompt_candidates import Candidate, first_reasons, kinds, make_candidate, reasons, to_line

EXAMPLE = rated(
    "r1",
    {"overall": 4, "utility": 2},
    source="Why do onions make your eyes water?",
    candidate="Cutting an onion sets a gas free that stings the eyes.",
)
ASK = "Rate the answer to the question from 1 to 5. Say whether it is right and clear."
QUOTED = f"{ASK}\n\nQuestion: {EXAMPLE.source}\nAnswer: {EXAMPLE.candidate}"


def draft(reply: str, **more: Any) -> dict[str, Any]:
    return {"number": 3, "example": "r1", "reply": reply, "finish_reason": "stop", "error": "", **more}


def made(
    reply: str, of: Unit | None = None, *, max_words: int = 400, tokens: tuple[str, ...] = (), **more: Any
) -> Candidate:
    return make_candidate("inverse", of or unit(EXAMPLE), draft(reply, **more), tokens, max_words=max_words)


def test_the_examples_texts_become_slots() -> None:
    found = made(QUOTED)
    assert found.is_verified
    assert found.problems == ()
    assert found.text == f"{ASK}\n\nQuestion: {{{{source}}}}\nAnswer: {{{{candidate}}}}\n\n{{{{reply_format}}}}"
    assert (found.number, found.example, found.raw) == (3, "r1", QUOTED)
    assert found.found == {"source": "exact", "candidate": "exact"}


def test_each_aspect_has_a_template_of_the_one_text() -> None:
    found = made(QUOTED)
    assert list(found.templates) == ["overall", "utility"]
    for aspect, template in found.templates.items():
        assert (template.text, template.task, template.aspect) == (found.text, "qa", aspect)
        assert (template.scale, template.origin, template.several) == (Scale(1, 5), "inverse", True)
        assert template.problems() == []
    alone = made(QUOTED, unit(EXAMPLE, aspects=("utility",)))
    assert [template.several for template in alone.templates.values()] == [False]


def test_a_prompt_that_quotes_nothing_shows_the_texts_in_blocks() -> None:
    found = made(ASK)
    assert found.is_verified
    assert found.found == {"source": "appended", "candidate": "appended"}
    prompt = found.templates["overall"].render({"source": "Q?", "candidate": "A."}, mode="expected").text
    assert prompt.startswith(f"{ASK}\n\nQuestion:\n<source>\nQ?\n</source>\nAnswer:\n<candidate>\nA.\n</candidate>")


def test_the_example_of_the_draft_is_the_one_that_is_looked_for() -> None:
    other = rated("r2", {"overall": 1, "utility": 1}, source="Who wrote this?", candidate="Nobody knows who wrote it.")
    both = unit(EXAMPLE, other)
    reply = f"{ASK}\n\nQuestion: {other.source}\nAnswer: {other.candidate}"
    assert set(made(reply, both, example="r2").found.values()) == {"exact"}
    assert made(reply, both, example="r2").example == "r2"
    assert set(made(reply, both, example="r1").found.values()) == {"appended"}


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "too little of the instruction is left"),
        ("Hello.", "too little of the instruction is left"),
        # The example alone, with nothing that says what to do.
        (f"{EXAMPLE.source}\n{EXAMPLE.candidate}", "too little of the instruction is left"),
        (QUOTED.replace("1 to 5", "1 to 10"), "it states a scale of 1 to 10, and the scale is 1 to 5"),
        (f"{ASK}\n" * 20, "it repeats itself"),
        (f"{ASK} <|im_end|>", "it holds the chat token '<|im_end|>'"),
        (f"{ASK} \x07", "it holds the character"),
    ],
)
def test_a_prompt_that_must_not_be_used_stays_a_candidate_with_its_problem(reply: str, problem: str) -> None:
    found = made(reply)
    assert not found.is_verified
    assert any(problem in one for one in found.problems)
    assert found.raw == reply


def test_a_prompt_of_too_many_words_is_refused_at_the_configured_number() -> None:
    # Ten words to the first stop, 1 and 5 counted, and seven to the second.
    assert made(ASK, max_words=17).is_verified
    assert any("17 words" in problem for problem in made(ASK, max_words=16).problems)


def test_a_problem_of_several_aspects_is_said_once() -> None:
    assert made(f"{ASK} <|im_end|>").problems == ("it holds the chat token '<|im_end|>'",)


def test_a_prompt_for_several_aspects_states_the_scale_of_each() -> None:
    example = rated("r1", {"understandability": 1, "naturalness": 2}, task="dialogue")
    reply = "Rate how the reply fits the conversation on a scale of 1 to 3 points."
    assert made(f"{reply} Rate its clarity on a scale of 0 to 1.", unit(example)).problems == ()
    assert made(reply, unit(example)).problems == ("it does not state the scale 0 to 1",)
    # For one of them alone it is the wrong one, and a third scale is always wrong.
    alone = made(reply, unit(example, aspects=("understandability",)))
    assert alone.problems == ("it states a scale of 1 to 3, and the scale is 0 to 1",)
    assert not made(reply.replace("3 points", "7 points"), unit(example)).is_verified


def test_a_prompt_must_state_the_scale_unless_it_need_not() -> None:
    reply = "Rate the answer to the question. Say whether it is right and clear."
    assert made(reply).problems == ("it does not state the scale 1 to 5",)
    draft_of = draft(reply)
    assert make_candidate("inverse", unit(EXAMPLE), draft_of, (), max_words=400, require_scale=False).is_verified


def test_a_prompt_that_repeats_the_judges_reply_asks_nothing() -> None:
    said = as_reply(unit(EXAMPLE), EXAMPLE, with_score=True)
    assert "it copies the judge's reply" in made(said).problems
    assert "it copies the judge's reply" in made(f"Well. {said.upper()} {ASK}").problems
    assert made(f"{ASK} Follow the evaluation guideline that you were given.").is_verified


@pytest.mark.parametrize(
    ("said", "is_leak"),
    [
        ("Overall score: 4", True),
        ("The answer was rated as 4 out of 5.", True),
        ("The judge gave the answer a 4.0.", True),
        ('{"tone": "dry", "quality rating": 4}', True),
        ("Its score was 3.", True),  # another one than the example's
        ("The quality of the answer to this question is 5.", True),
        ("The quality is 1 if it is wrong and 5 if it is right.", False),
        ("I gave it a score of 2.", True),
        ("Its score was 7.", False),  # which no judge can give
        ("Give a score out of 5.", False),
        ("Look at the score.\n3. Look at the answer.", False),  # the number of a list's item
        ("A score of 1 is bad, a score of 4 is good.", False),  # what scores mean
        ("Give a score from 1 to 4.", False),  # a scale; a wrong one, which is another fault
        ("Rate it in 4 steps.", True),  # the price: one number alone after a word of rating
        ("There were 4 of them.", False),
    ],
)
def test_a_prompt_that_states_a_score_is_refused(said: str, is_leak: bool) -> None:
    example = rated("r1", {"overall": 4})
    problems = made(f"{ASK} {said}", unit(example)).problems
    assert ("it states a score instead of asking for one" in problems) is is_leak


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"finish_reason": "length"}, "cut off at invert.max_tokens"),
        ({"error": "timeout"}, "the model failed: timeout"),
        ({"error": "too_long", "finish_reason": ""}, "the model failed: too_long"),
        ({"error": "error", "finish_reason": "length"}, "the model failed: error"),
    ],
)
def test_a_reply_that_is_not_whole_is_no_prompt(more: dict[str, Any], problem: str) -> None:
    found = made(QUOTED, **more)
    assert found == Candidate(3, "r1", QUOTED, "", {}, (), (problem,), {})
    assert not found.is_verified


def test_texts_are_looked_for_as_the_model_read_them() -> None:
    hostile = rated("r1", {"overall": 1}, candidate="The <|im_end|> answer says ENDOFTURN and nothing else.")
    read = "The < |im_end|> answer says E NDOFTURN and nothing else."
    reply = f"{ASK}\n\nQuestion: {hostile.source}\nAnswer: {read}"
    found = made(reply, unit(hostile), tokens=("ENDOFTURN",))
    assert found.found["candidate"] == "exact"
    assert found.is_verified
    assert "NDOFTURN" not in found.text


def test_slots_that_the_model_writes_itself_are_text() -> None:
    found = made(f"{ASK} Fill in {{{{candidate}}}} and {{{{secret}}}}.")
    assert found.is_verified
    prompt = found.templates["overall"].render({"source": "Q?", "candidate": "A."}, mode="expected").text
    assert "Fill in { {candidate} } and { {secret} }." in prompt


# ---------------------------------------------------------------------- reports


def test_kinds_are_problems_without_what_differs() -> None:
    problems = (
        "it holds words of an example: 'a b c d e'",
        "it copies the judge's reply",
        "it holds words of an example: 'f g'",
        "it holds the chat token '<s>'",
        "it states a scale of 1 to 10, and the scale is 1 to 5",
    )
    assert kinds(problems) == [
        "it holds words of an example",
        "it copies the judge's reply",
        "it holds the chat token",
        "it states a scale of",
    ]
    assert kinds([]) == []


def test_the_three_most_frequent_reasons_are_said() -> None:
    found = [
        candidate(number, unit(EXAMPLE), problems=problems)
        for number, problems in enumerate([("a: 1",), ("a: 2", "b"), ("c", "b"), ("a: 3", "a: 4"), ("d",)])
    ]
    assert first_reasons(reasons(found, {})) == "3 times a; 2 times b; 1 times c"
    assert first_reasons(reasons([candidate(0, unit(EXAMPLE))], {})) == ""


def test_a_usable_candidate_without_a_value_counts_with_its_reason() -> None:
    found = [candidate(0, unit(EXAMPLE)), candidate(1, unit(EXAMPLE)), candidate(2, unit(EXAMPLE), problems=("x: 1",))]
    assert reasons(found, {0: "not asked: timeout", 1: "not asked: error"}) == {"not asked": 2, "x": 1}
    # Notes on others' numbers are none of these.
    assert reasons(found[:1], {0: "not asked: timeout", 9: "not asked: error"}) == {"not asked": 1}


def test_a_line_says_what_became_of_a_candidate() -> None:
    good = made(QUOTED)
    line = to_line("inverse", unit(EXAMPLE), good, {3: -0.5, 1: -0.2}, {}, [1, 3])
    assert json.loads(json.dumps(line)) == {
        "source": "inverse",
        "task": "qa",
        "aspects": ["overall", "utility"],
        "number": 3,
        "example": "r1",
        "verified": True,
        "problems": [],
        "value": -0.5,
        "rank": 2,
        "slots": {"source": "exact", "candidate": "exact"},
        "removed": [],
        "text": good.text,
        "raw": QUOTED,
    }
    # One that could be used but has no value says why it has no rank.
    line = to_line("inverse", unit(EXAMPLE), good, {}, {3: "no probability on the human score"}, [])
    assert (line["verified"], line["value"], line["rank"]) == (True, None, None)
    assert line["problems"] == ["no probability on the human score"]
    refused = to_line("forward", unit(EXAMPLE), made(QUOTED, finish_reason="length"), {}, {}, [])
    assert (refused["verified"], refused["problems"]) == (False, ["cut off at invert.max_tokens"])
    assert (refused["text"], refused["raw"], refused["slots"]) == ("", QUOTED, {})
