"""A reasoning model's thinking apart from its answer, by the marks of the families, and never by an answer's words."""

from __future__ import annotations

import pytest

from cluster.exchange import Reply
from cluster.reasoning import CUT_OFF, apart

FAMILIES = [
    "<think>\n{}\n</think>\n\n",
    "\n<think>{}</think>",
    "<seed:think>{}</seed:think>",
    "[THINK]{}[/THINK]",
    "<|START_THINKING|>{}<|END_THINKING|>",
    "◁think▷{}◁/think▷",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
]


@pytest.mark.parametrize("form", FAMILIES)
def test_the_thinking_of_each_family_is_apart(form: str) -> None:
    found = apart(Reply(form.format("Fine.") + "Score: 4", "stop"))
    assert found.text == "Score: 4"
    assert found.reasoning.removesuffix("<|end|><|start|>assistant") == "Fine."
    assert found.finish_reason == "stop"


def test_harmony_without_its_special_tokens() -> None:
    found = apart(Reply("analysisWe rate it.assistantfinalScore: 4", "stop"))
    assert (found.text, found.reasoning) == ("Score: 4", "We rate it.")


@pytest.mark.parametrize(
    ("text", "opened", "thought"),
    [
        ("<think>\nScore: 2", "", "Score: 2"),
        ("Hm.\nScore: 2", "<think>", "Hm.\nScore: 2"),
        ("", "<think>", ""),
        ("[THINK]", "", ""),
    ],
)
@pytest.mark.parametrize("ending", ["stop", "length", "filtered"])
def test_a_reply_that_ends_within_its_thinking_has_no_text(text: str, opened: str, thought: str, ending: str) -> None:
    found = apart(Reply(text, ending), opened)  # type: ignore[arg-type]
    assert (found.text, found.reasoning, found.detail) == ("", thought, CUT_OFF)
    assert found.finish_reason == ("filtered" if ending == "filtered" else "length")


def test_the_engines_own_words_of_an_end_are_kept() -> None:
    assert apart(Reply("<think>", "filtered", detail="safety")).detail == "safety"


@pytest.mark.parametrize(
    ("text", "opened", "answer", "thought"),
    [
        # The prompt opened the thought: here it is known, over HTTP only the end is seen.
        ("Hm.\n</think>\n\n4", "<think>", "4", "Hm."),
        ("Hm.\n</think>\n\n4", "", "4", "Hm."),
        ("Hm.\n</think>", "", "", "Hm."),
        # The first end counts: an answer may be about the mark.
        ("<think>a</think>b </think>\nc", "", "b </think>\nc", "a"),
        ("<think>a <think> b</think>c", "", "c", "a <think> b"),
    ],
)
def test_where_the_answer_begins(text: str, opened: str, answer: str, thought: str) -> None:
    found = apart(Reply(text, "stop"), opened)
    assert (found.text, found.reasoning) == (answer, thought)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Score: 4",
        "I think so. <b>4</b>",
        "The mark `</think>` ends a thought.",
        "Write it so:\n<think>\nplan\n</think>\nanswer",
        "  indented\n",
        "[The reason is that] it rains.",
        "<thinking>of you</thinking>\nsong",
        "<details>\nmore\n</details>\nend",
        "analysis of the text",
        "The line [/THINK] is Mistral's",
    ],
)
@pytest.mark.parametrize("ending", ["stop", "length"])
def test_an_answer_about_marks_is_an_answer(text: str, ending: str) -> None:
    reply = Reply(text, ending)  # type: ignore[arg-type]
    assert apart(reply) == reply
