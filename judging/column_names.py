"""The names that people give to columns of judged texts: word lists, and how a name is matched with them."""

from __future__ import annotations

import re
from typing import NamedTuple

from judging.columns import ENDS, FRONTS, LABELS, folded
from judging.wide import rest_of

# Each list begins with what is most often meant where several of its names are present.
SOURCE = (
    *("source", "question", "prompt", "instruction", "query", "input", "article", "document", "passage", "problem"),
    *("context", "dialogue", "dialog", "history", "post", "premise", "request", "user", "title", "src"),
)
CANDIDATE = (
    *("candidate", "answer", "response", "output", "completion", "generation", "reply", "summary", "translation"),
    *("prediction", "hypothesis", "story", "continuation", "generated", "assistant", "hyp", "mt"),
)
SYSTEM = ("system", "model", "engine", "llm", "generator", "bot", "variant", "participant")
GROUP = (
    *("group", "question", "prompt", "source", "document", "doc", "query", "item", "segment", "seg", "topic"),
    *("conversation", "article", "context", "dialogue", "problem", "task", "instruction", "q"),
)
IDS = ("", "u", "uu", "answer", "response", "output", "record", "row", "sample", "example", "completion")
REFERENCE = ("reference", "ref", "gold", "golden", "truth", "correct", "expected", "ideal", "target", "human")
CHAT = ("messages", "conversation", "conversations", "chat", "dialogue", "dialog")
PAIRS = (("chosen", "rejected"),)
PREFERENCE = ("winner", "preferred", "preference", "better")
# What stands behind the name of a text and is no system.
NOT_SYSTEMS = {
    *("text", "id", "ids", "type", "kind", "length", "len", "tokens", "words", "time", "date", "lang", "language"),
    *("source", "url", "count", "num", "index", "model", "system", "score", "scores", "rating", "ratings", "name"),
    *(
        "quality",
        "label",
        "style",
        "reason",
        "rationale",
        "explanation",
        "format",
        "raw",
        "clean",
        "comment",
        "comments",
    ),
    *("note", "notes", "remark", "remarks", "feedback", "category", "topic", "metadata"),
}


class Part(NamedTuple):
    """A column's name divided into a known word and the rest: `response_gpt-4` -> response, gpt-4."""

    word: str
    rest: str


def means(name: str, words: tuple[str, ...]) -> str | None:
    """The word of the list that the name means: it is the word (`Question`, `question_text`) or ends with it."""
    tokens = _tokens(name) or [""]
    last = tokens[-1]
    if last == "text" and len(tokens) > 1:
        last = tokens[-2]
    for word in words:
        if folded(name) == word or last in (word, f"{word}s"):
            return word
    return None


def is_id_of(name: str, words: tuple[str, ...]) -> bool:
    """Whether the name is that of an id of one of these, such as `question_id`, `qid` or `docId`."""
    short = folded(name)
    return any(short in (f"{word}id", f"{word}idx", f"{word}index") for word in words)


def is_system(name: str) -> bool:
    """Whether the name is that of the system that wrote a text: `model`, `model_name`, `system_id`."""
    short = folded(name)
    return any(short in (word, f"{word}name", f"{word}id", f"{word}version") for word in SYSTEM)


def is_reference(name: str) -> bool:
    """Whether a text of this name is a reference and not a system's text: `gold_answer`, `target`."""
    return bool(set(_tokens(name)) & set(REFERENCE))


def may_be_text(name: str) -> bool:
    """Whether the name is neither that of a reference nor of something about a text, such as `comment`."""
    return not is_reference(name) and folded(name) not in NOT_SYSTEMS - {"text"}


def is_score(name: str) -> bool:
    """Whether numbers of this name are scores: `gold_score` and `human_fluency` are, `gold` alone is a reference."""
    return not set(_tokens(name)) <= set(REFERENCE)


def aspect_of(name: str, aspects: tuple[str, ...]) -> str | None:
    """The aspect that a column of numbers is a score of; the first one for a general name such as `rating`."""
    short = folded(name.rpartition(".")[2] if "." in name else name)
    for aspect in aspects:
        if short in {folded(f"{front}{aspect}{end}") for front in (*FRONTS, "score_", "rating_") for end in ENDS}:
            return aspect
    return aspects[0] if short in LABELS and aspects else None


def parts(name: str, words: tuple[str, ...]) -> Part | None:
    """The name as one of the words with something before or behind it; None where it is not so."""
    for word, written in [(one, form) for one in words for form in (f"{one}s", one)]:
        front, behind = name[: len(written)], name[len(written) :]
        if front.lower() != written:
            front = name[-len(written) :]
        elif re.fullmatch(r"\d+|[A-Z]\w*", behind):
            return Part(word, behind) if behind.casefold() not in NOT_SYSTEMS else None
        if front.lower() == written and (rest := rest_of(name, front)):
            return Part(word, rest) if rest.casefold() not in NOT_SYSTEMS else None
    return None


def _tokens(name: str) -> list[str]:
    """The words of a name: `modelName_2` -> model, name, 2."""
    return [token.casefold() for token in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", name)]
