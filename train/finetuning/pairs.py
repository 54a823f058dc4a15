"""Instructions with responses -> training pairs: swapped, filtered with counted reasons, split, as token ids.

An inverse pair has the response as prompt and its instruction as completion; a forward pair is the other way round.
Knows the tokenizer of a model, nothing else of it, and no training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from cluster.tokens import Encoder
from judging.template_checks import is_loop
from train.instructions import share

Direction = Literal["inverse", "forward"]
# What a model without a chat template reads before the instruction that it has to write.
INVERSE_PREFIX = "\nThe instruction that this text answers:\n"
MIN_PROMPT_TOKENS = 32  # with fewer prompt tokens left the completion cannot be predicted


class Answered(NamedTuple):
    """An instruction with a response; `flaw`: why the response is unusable ("cut_off", "error")."""

    id: str
    instruction: str
    answer: str
    flaw: str = ""


class Pair(NamedTuple):
    """`id`: of the instruction; it decides the split."""

    id: str
    prompt: str
    reply_prefix: str
    completion: str


class Encoded(NamedTuple):
    """Token ids of prompt and completion; the loss counts the ids from `num_prompt` on."""

    input_ids: list[int]
    num_prompt: int


class Candidate(NamedTuple):
    """A usable pair; `key` is the same for equal answers; `dev`: held out."""

    pair: Pair
    key: int
    dev: bool


def candidates(
    rows: Iterable[Answered], *, direction: Direction, chat: bool, dev_share: float, left_out: Counter[str]
) -> Iterator[Candidate]:
    """Filter, swap and split; `repeated` finds what is a duplicate of an earlier row.

    Left out: `error`, `cut_off` (a truncated response), `empty` and `repetition`.

    Args:
        rows: instructions with responses.
        direction: `inverse` (response -> instruction) or `forward`.
        chat: the trained model has a chat template, so that no text is needed between the two.
        dev_share: share of the instructions held out, 0 to 1.
        left_out: counts what is left out, by reason.

    Yields:
        The pairs in the order of the rows.
    """
    for row in rows:
        if reason := row.flaw or _flaw(row):
            left_out[reason] += 1
            continue
        if direction == "inverse":
            pair = Pair(row.id, *inverse_request(row.answer, chat=chat), row.instruction)
        else:
            pair = Pair(row.id, row.instruction, "", row.answer)
        yield Candidate(pair, _key(row.answer), share(row.id) < dev_share)


def repeated(keys: np.ndarray) -> np.ndarray:
    """Which rows repeat the answer of an earlier one: two instructions for one response train the mean of both.

    Args:
        keys: of the rows, in order (uint64).

    Returns:
        A boolean for each row.
    """
    found = np.ones(len(keys), dtype=bool)
    found[np.unique(keys, return_index=True)[1]] = False
    return found


def inverse_request(answer: str, *, chat: bool) -> tuple[str, str]:
    """Prompt and reply prefix of an inversion model, the same in training and at inference."""
    return answer, "" if chat else INVERSE_PREFIX


def _flaw(row: Answered) -> str:
    if not row.instruction.strip() or not row.answer.strip():
        return "empty"
    return "repetition" if is_loop(row.answer) else ""


def _key(text: str) -> int:
    """8 bytes for a text without case and spacing; two of a million texts collide once in 40 million runs."""
    plain = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest())


def encode(pairs: Iterable[Pair], encoder: Encoder, cutoff: int) -> Iterator[Encoded | None]:
    """Tokenise the pairs.

    A prompt that is too long is truncated at its beginning; a completion is never truncated. The two are tokenised
    apart, because generation starts after the ids of the prompt.

    Args:
        pairs: texts.
        encoder: of the trained model.
        cutoff: maximum number of tokens of a pair.

    Yields:
        Each pair as token ids; None if its completion leaves no room for the prompt.
    """
    for pair in pairs:
        completion = encoder.completion_ids(pair.completion)
        room = cutoff - len(completion)
        prompt = encoder.prompt_ids_cut(pair.prompt, pair.reply_prefix, room) if room >= MIN_PROMPT_TOKENS else None
        yield None if prompt is None else Encoded([*prompt, *completion], len(prompt))
