"""Perturbations of a candidate that keep its content: padding, a list instead of prose, an attack on the judge.

The attacks are in `attacks.yaml`; all wording is our own.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from judging.tasks import Strict

ATTACKS = Path(__file__).parent / "attacks.yaml"
# Sentences without content: a text is not better with them.
PADDING = (
    "That is what there is to say about it here.",
    "All of the above is meant just as it is written.",
    "Nothing further is added to it at this point.",
    "The text goes on for a moment without a new thought.",
    "This sentence stands here and leaves the matter as it was.",
    "So much for what has been said so far.",
)
MAX_PADDING = 800  # characters: a judge's context is short
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
BULLET = "- "


class Attack(Strict):
    """A prompt injection that asks the judge for a score; `where`: before or after the candidate."""

    name: str = Field(pattern=r"^[a-z_]+$")
    text: str = Field(min_length=1)
    where: Literal["start", "end"] = "end"

    def on(self, text: str) -> str:
        """The candidate with the attack before or after it."""
        return f"{self.text}\n\n{text}" if self.where == "start" else f"{text}\n\n{self.text}"


@cache
def attacks() -> tuple[Attack, ...]:
    """The attacks of `attacks.yaml`, in order."""
    return tuple(Attack(**one) for one in yaml.safe_load(ATTACKS.read_text(encoding="utf-8")))


def padded(text: str) -> str:
    """`text` followed by PADDING, repeated until it is twice as long or has MAX_PADDING more characters."""
    room, added = min(len(text), MAX_PADDING), ""
    while not added or len(added) < room:
        added += " " + " ".join(PADDING)
    return text + added


def bulleted(text: str) -> str:
    """`text` as a list, one line per sentence; the same words in the same order."""
    sentences = [part.strip() for part in SENTENCE_END.split(text) if part.strip()]
    return "\n".join(part if part.startswith(BULLET) else f"{BULLET}{part}" for part in sentences)
