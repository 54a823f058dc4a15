"""Instructions with responses -> training pairs: swapped, filtered with counted reasons, split, as token ids.

An inverse pair has the response as prompt and its instruction as completion; a forward pair is the other way round.
Knows the tokenizer of a model, nothing else of it, and no training.
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


@dataclass(frozen=True)
class Split:
    """The two parts of the pairs, and how many were left out, by reason."""

    train: list[Pair]
    dev: list[Pair]
    left_out: dict[str, int]


def make_pairs(rows: Iterable[Answered], *, direction: Direction, chat: bool, dev_share: float) -> Split:
    """Filter, swap and split.

    Left out: `error`, `cut_off` (a truncated response), `empty`, `repetition`, and `duplicate` (a repeated response:
    two instructions for one response train the mean of both).

    Args:
        rows: instructions with responses.
        direction: `inverse` (response -> instruction) or `forward`.
        chat: the trained model has a chat template, so that no text is needed between the two.
        dev_share: share of the instructions held out, 0 to 1.

    Returns:
        The two parts, and how many rows were left out by reason.
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
    """Prompt and reply prefix of an inversion model, the same in training and at inference."""
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
    """Tokenise the pairs.

    A prompt that is too long is truncated at its beginning; a completion is never truncated. The two are tokenised
    apart, because generation starts after the ids of the prompt.

    Args:
        pairs: texts.
        encoder: of the trained model.
        cutoff: maximum number of tokens of a pair.

    Returns:
        The pairs as token ids, and how many were left out because the completion leaves no room for the prompt.
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
