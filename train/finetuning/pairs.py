"""Instructions with answers -> training pairs: swapped, filtered with counted reasons, split, as token ids.

An inverse pair shows the answer and asks for its instruction; a forward pair is the other way round. Knows no model but
its tokenizer, and no training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cluster.tokens import Encoder
from judging.template_checks import is_loop
from train.instructions import share

Direction = Literal["inverse", "forward"]
# What a model without chat turns reads before an instruction that it is to write.
INVERSE_PREFIX = "\nThe instruction that this text answers:\n"
MIN_PROMPT_TOKENS = 32  # with less of a prompt in view a completion is guesswork


class Answered(NamedTuple):
    """An instruction with an answer; `flaw`: why the answer is no good, as its writer says ("cut_off", "error")."""

    id: str
    instruction: str
    answer: str
    flaw: str = ""


class Pair(NamedTuple):
    """`id`: of the instruction, which decides the split."""

    id: str
    prompt: str
    reply_prefix: str
    completion: str


class Encoded(NamedTuple):
    """Token ids of prompt and completion; the loss counts the ids from `num_prompt` on."""

    input_ids: list[int]
    num_prompt: int


@dataclass(frozen=True)
class Split:
    """The two parts of the pairs, and how many were left out, by reason."""

    train: list[Pair]
    dev: list[Pair]
    left_out: dict[str, int]


def make_pairs(rows: Iterable[Answered], *, direction: Direction, chat: bool, dev_share: float) -> Split:
    """Filter, swap and split. `chat`: the trained model has chat turns, so that it needs no words in between.

    Left out: `error`, `cut_off` (an answer without its end is caused by its length), `empty`, `repetition`, and
    `duplicate` (an answer that stood before: two instructions for one answer teach the mean of both).
    """
    split = Split([], [], {})
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for row in rows:
        reason = row.flaw or _flaw(row, seen, direction)
        if reason:
            counts[reason] += 1
            continue
        seen.add(_plain(row.answer))
        if direction == "inverse":
            pair = Pair(row.id, *inverse_request(row.answer, chat=chat), row.instruction)
        else:
            pair = Pair(row.id, row.instruction, "", row.answer)
        (split.dev if share(row.id) < dev_share else split.train).append(pair)
    split.left_out.update(sorted(counts.items()))
    return split


def inverse_request(answer: str, *, chat: bool) -> tuple[str, str]:
    """Prompt and reply prefix with which an inversion model is asked, in training and afterwards alike."""
    return answer, "" if chat else INVERSE_PREFIX


def _flaw(row: Answered, seen: set[str], direction: Direction) -> str:
    if not row.instruction.strip() or not row.answer.strip():
        return "empty"
    if is_loop(row.answer):
        return "repetition"
    return "duplicate" if direction == "inverse" and _plain(row.answer) in seen else ""


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def encode(pairs: Sequence[Pair], encoder: Encoder, cutoff: int) -> tuple[list[Encoded], int]:
    """The pairs as token ids of at most `cutoff`, and how many were left out because their completion leaves no room.

    A prompt that is too long loses its beginning, a completion never loses anything. Prompt and completion are
    tokenised apart: generation sees the prompt's ids and begins after them.
    """
    found = list(_encoded(pairs, encoder, cutoff))
    kept = [one for one in found if one is not None]
    return kept, len(found) - len(kept)


def _encoded(pairs: Sequence[Pair], encoder: Encoder, cutoff: int) -> Iterator[Encoded | None]:
    for pair in pairs:
        completion = encoder.completion_ids(pair.completion)
        room = cutoff - len(completion)
        prompt = encoder.prompt_ids_cut(pair.prompt, pair.reply_prefix, room) if room >= MIN_PROMPT_TOKENS else None
        yield None if prompt is None else Encoded([*prompt, *completion], len(prompt))
