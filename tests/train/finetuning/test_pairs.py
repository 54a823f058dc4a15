"""Pairs for training: swapped, filtered with counted reasons, split by hash, and the very ids of the generation."""

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

import numpy as np
import pytest

from cluster.generate import Sampling, _tokenise
from cluster.model_specs import VllmSpec
from cluster.tokens import Encoder
from judging.records import content_id
from tests.cluster.test_tokens import make
from train.finetuning.pairs import (
    INVERSE_PREFIX,
    MIN_PROMPT_TOKENS,
    Answered,
    Direction,
    Encoded,
    Pair,
    candidates,
    inverse_request,
    repeated,
)
from train.finetuning.pairs import encode as encode_each
from train.instructions import share


class Split(NamedTuple):
    train: list[Pair]
    dev: list[Pair]
    left_out: dict[str, int]


def make_pairs(rows: Iterable[Answered], *, direction: Direction, chat: bool, dev_share: float) -> Split:
    """What prepare.py does to texts, in one block."""
    left_out: Counter[str] = Counter()
    found = list(candidates(rows, direction=direction, chat=chat, dev_share=dev_share, left_out=left_out))
    again = repeated(np.array([one.key for one in found], dtype=np.uint64)) & (direction == "inverse")
    left_out.update({"duplicate": int(again.sum())} if again.any() else {})
    kept = [one for one, is_again in zip(found, again, strict=True) if not is_again]
    return Split([one.pair for one in kept if not one.dev], [one.pair for one in kept if one.dev], dict(left_out))


def encode(pairs: Iterable[Pair], known: Encoder, cutoff: int) -> tuple[list[Encoded], int]:
    found = list(encode_each(pairs, known, cutoff))
    kept = [one for one in found if one is not None]
    return kept, len(found) - len(kept)


LOOP = "The cat sat on the mat. " * 10


def answered(number: int, answer: str | None = None, flaw: str = "") -> Answered:
    text = f"Tell me about the number {number}."
    return Answered(content_id(text), text, f"It is {number}." if answer is None else answer, flaw)


@pytest.mark.parametrize(("chat", "prefix"), [(True, ""), (False, INVERSE_PREFIX)])
def test_an_inverse_pair_shows_the_answer_and_asks_for_the_instruction(chat: bool, prefix: str) -> None:
    split = make_pairs([answered(7)], direction="inverse", chat=chat, dev_share=0)
    assert split.train == [Pair(answered(7).id, "It is 7.", prefix, "Tell me about the number 7.")]
    assert (split.dev, split.left_out) == ([], {})
    # The inversion model is asked in just this way afterwards.
    assert inverse_request("It is 7.", chat=chat) == ("It is 7.", prefix)


@pytest.mark.parametrize("chat", [True, False])
def test_a_forward_pair_shows_the_instruction_and_asks_for_the_answer(chat: bool) -> None:
    split = make_pairs([answered(7)], direction="forward", chat=chat, dev_share=0)
    assert split.train == [Pair(answered(7).id, "Tell me about the number 7.", "", "It is 7.")]


def test_what_is_left_out_is_counted_by_reason() -> None:
    rows = [
        answered(0),
        answered(1, "Half of", flaw="cut_off"),
        answered(2, "", flaw="error"),
        answered(3, ""),
        answered(4, " \n\t "),
        Answered("x", "  ", "An answer to nothing."),
        answered(5, LOOP),
        # What stood before, but for case and white space.
        answered(6, "IT  is\n0."),
        answered(8, "It is 0."),
        answered(9),
    ]
    split = make_pairs(rows, direction="inverse", chat=True, dev_share=0)
    assert [pair.prompt for pair in split.train] == ["It is 0.", "It is 9."]
    assert split.left_out == {"cut_off": 1, "duplicate": 2, "empty": 3, "error": 1, "repetition": 1}
    assert len(rows) == len(split.train) + sum(split.left_out.values())


def test_the_writers_own_reason_goes_first_and_what_is_left_out_hides_no_other() -> None:
    rows = [
        answered(1, LOOP, flaw="cut_off"),
        answered(2, "", flaw="error"),
        # The same answer was seen, but on a row that is not used.
        answered(3, "Yes.", flaw="cut_off"),
        answered(4, "Yes."),
    ]
    split = make_pairs(rows, direction="inverse", chat=True, dev_share=0)
    assert split.left_out == {"cut_off": 2, "error": 1}
    assert [pair.completion for pair in split.train] == ["Tell me about the number 4."]


def test_a_forward_model_may_give_one_answer_twice() -> None:
    rows = [answered(1, "Yes."), answered(2, "yes."), answered(3, ""), answered(4, LOOP)]
    split = make_pairs(rows, direction="forward", chat=True, dev_share=0)
    assert len(split.train) == 2
    assert split.left_out == {"empty": 1, "repetition": 1}


def test_without_a_row_there_is_no_pair() -> None:
    split = make_pairs([], direction="inverse", chat=True, dev_share=0.5)
    assert (split.train, split.dev, split.left_out) == ([], [], {})


def test_the_hash_of_the_instruction_decides_the_split() -> None:
    rows = [answered(number) for number in range(300)]
    split = make_pairs(rows, direction="inverse", chat=True, dev_share=0.2)
    assert {pair.id for pair in split.dev} == {row.id for row in rows if share(row.id) < 0.2}
    # 300 draws with 0.2: 60, standard deviation 6.9; the hash is fixed, so this never wavers.
    assert 35 < len(split.dev) < 85
    assert len(split.dev) + len(split.train) == 300
    # The forward model is tested on just the instructions on which the inverse one is.
    forward = make_pairs(rows, direction="forward", chat=True, dev_share=0.2)
    assert [pair.id for pair in forward.dev] == [pair.id for pair in split.dev]


def test_the_split_stays_the_same_when_rows_are_added_or_shuffled() -> None:
    before = make_pairs((answered(n) for n in range(100)), direction="inverse", chat=True, dev_share=0.3)
    rows = [answered(number) for number in range(250)]
    Random(2).shuffle(rows)
    after = make_pairs(rows, direction="inverse", chat=True, dev_share=0.3)
    assert set(before.dev) < set(after.dev)
    assert set(before.train) < set(after.train)
    # A larger share takes rows from the training part and gives none back.
    larger = make_pairs((answered(n) for n in range(100)), direction="inverse", chat=True, dev_share=0.5)
    assert set(before.dev) < set(larger.dev)


# ---------------------------------------------------------------------- token ids

STYLES = {"chat": True, "completion": False}


@pytest.fixture(scope="module", params=STYLES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp(request.param), digits_apart=False, chat=STYLES[request.param])


@pytest.fixture
def known(folder: str) -> Encoder:
    return Encoder(folder, "auto")


def at_generation(folder: str, prompt: str, prefix: str) -> list[int]:
    """The ids that the engine of cluster.generate gets."""
    spec = VllmSpec(source=folder, max_model_len=100_000)
    batch = {"prompt": [prompt], "reply_prefix": [prefix], "labels": [[]]}
    ids: list[int] = _tokenise(batch, folder, spec, Sampling(max_tokens=1))["prompt_ids"][0]
    return ids


HARD = [
    ("A plain answer.", "Write a plain answer."),
    # Ends and beginnings that a tokenizer would like to merge over the boundary.
    ("Rate the text. Score:", " 4"),
    ("Score", ": 4\n"),
    ("Ends with blanks   ", "  begins with them"),
    ("Ends with a line\n", "\nbegins with one"),
    ("日本語、café 🙂", "🙂 naïve 日"),
    ("\u2063INVERDICT\u2063", "the mark of the frame"),
]


@pytest.mark.parametrize(("answer", "instruction"), HARD)
def test_a_swapped_pair_is_the_prompt_of_the_generation_and_the_instruction_with_its_end(
    folder: str, known: Encoder, answer: str, instruction: str
) -> None:
    row = Answered("x", instruction, answer)
    split = make_pairs([row], direction="inverse", chat=known.is_chat, dev_share=0)
    ((input_ids, num_prompt),), num_long = encode(split.train, known, 1024)
    assert num_long == 0
    # No boundary moves: the model is trained to go on from just what it will see.
    assert input_ids[:num_prompt] == at_generation(folder, *inverse_request(answer, chat=known.is_chat))
    alone = known.tokenizer(instruction, add_special_tokens=False).input_ids
    assert input_ids[num_prompt:] == [*alone, known.tokenizer.eos_token_id]
    assert known.tokenizer.decode(input_ids[num_prompt:]) == f"{instruction}<eos>"


def test_a_pair_in_words(known: Encoder) -> None:
    split = make_pairs([Answered("x", "Ask.", "Reply.")], direction="inverse", chat=known.is_chat, dev_share=0)
    ((input_ids, _),), _ = encode(split.train, known, 1024)
    assert known.tokenizer.decode(input_ids) == (
        "<bos><|user|>Reply.<|end|><|assistant|>Ask.<eos>"
        if known.is_chat
        else "<bos>Reply.\n\nThe instruction that this text answers:\nAsk.<eos>"
    )


@pytest.mark.parametrize("cutoff", [64, 100, 161, 240])
def test_a_prompt_that_is_too_long_loses_its_beginning_and_the_completion_nothing(
    folder: str, known: Encoder, cutoff: int
) -> None:
    answer = "".join(f"Rate the text {number}. Score: {number % 7}\n日本🙂 " for number in range(30)) + "The end."
    prompt, prefix = inverse_request(answer, chat=known.is_chat)
    pair = Pair("x", prompt, prefix, "Write thirty lines.")
    ((input_ids, num_prompt),), num_long = encode([pair], known, cutoff)
    assert num_long == 0
    assert len(input_ids) <= cutoff
    # A cut may part a token or a character, so a little room may stay; the lines above have tokens of up to 14 letters.
    assert len(input_ids) > cutoff - 14
    assert input_ids[num_prompt:] == known.completion_ids("Write thirty lines.")
    # What is left of the answer is an end of it, with the ids that this end has at generation.
    ends = [at_generation(folder, answer[start:], prefix) for start in range(1, len(answer))]
    assert ends.count(input_ids[:num_prompt]) >= 1
    assert "The end." in known.tokenizer.decode(input_ids[:num_prompt])


def test_a_pair_of_just_the_cutoff_is_whole(known: Encoder) -> None:
    pair = Pair("x", "Rate the text. " * 20, "", "Write.")
    ((whole, num_prompt),), _ = encode([pair], known, 1024)
    assert encode([pair], known, len(whole)) == ([Encoded(whole, num_prompt)], 0)
    ((cut, _),), _ = encode([pair], known, len(whole) - 1)
    assert len(cut) < len(whole)


def test_a_completion_that_leaves_no_room_is_left_out_and_counted(known: Encoder) -> None:
    # One token a letter and the end: with 31 letters 64 - 32 = 32 tokens are left to the prompt, the fewest allowed.
    assert MIN_PROMPT_TOKENS == 32
    fits, too_long, huge = (Pair(f"{n}", "zjqv" * 50, "", "k" * n) for n in (31, 32, 5000))
    kept, num_long = encode([too_long, fits, huge], known, 64)
    assert num_long == 2
    ((input_ids, num_prompt),) = kept
    assert input_ids[num_prompt:] == known.completion_ids("k" * 31)
    assert (len(input_ids), num_prompt) == (64, 32)


def test_a_prompt_without_a_text_that_could_be_shown_is_left_out(known: Encoder) -> None:
    # The words in between alone fill the room.
    assert encode([Pair("x", "zjqv", "k" * 60, "Write.")], known, 60) == ([], 1)
    assert encode([], known, 64) == ([], 0)
