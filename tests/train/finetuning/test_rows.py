"""Rows of token ids as a worker reads them from disk, and the order of its batches."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cluster.model_specs import VllmSpec
from cluster.tokens import Encoder
from tests.train.tiny import tiny_model
from train.finetuning.loss import CompletionLoss
from train.finetuning.pairs import Answered
from train.finetuning.prepare import Plan, _select, write_block
from train.finetuning.rows import IGNORED, LengthGrouped, Rows, layers_across_rows, padded, padding_free


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("llama"))


def prepared(place: Path, base: str, *blocks: list[Answered], dev_share: float = 0.0) -> None:
    """Write the blocks as parts, one after the other and without Ray."""
    plan = Plan(VllmSpec(source=base), "inverse", True, dev_share, cutoff=256)
    for number, block in enumerate(blocks):
        write_block(block, str(place / f"part-{number:05}.arrow"), plan)
    _select(place, is_inverse=True)


def test_a_swapped_pairs_loss_covers_exactly_the_instructions_tokens(folder: str, tmp_path: Path) -> None:
    known = Encoder(folder, "auto")
    prepared(tmp_path, folder, [Answered("x", "Rate the text from 1 to 5.", "A reply of some length, 4 of 5.")])
    row = Rows(str(tmp_path), "train")[0]
    counted = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert counted == [label for label in row["labels"] if label != IGNORED]
    assert known.tokenizer.decode(counted) == "Rate the text from 1 to 5.<eos>"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    _, number = CompletionLoss(model).sum(model, padded([row]))
    assert number == len(counted) == len(known.completion_ids("Rate the text from 1 to 5."))


def test_batches_are_padded_on_the_right_or_joined() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8, 9], "labels": [8, 9]}]
    assert {name: tensor.tolist() for name, tensor in padded(rows).items()} == {
        "input_ids": [[5, 6, 7], [8, 9, 0]],
        "labels": [[-100, 6, 7], [8, 9, -100]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
    }
    assert {name: tensor.tolist() for name, tensor in padding_free(rows).items()} == {
        "input_ids": [[5, 6, 7, 8, 9]],
        "labels": [[-100, 6, 7, -100, 9]],  # 8 would be predicted from 7
        "position_ids": [[0, 1, 2, 0, 1]],
    }


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        *((kind, "") for kind in ("llama", "gemma2", "gemma3_text", "qwen2", "qwen3", "mistral", "olmo2")),
        *(("lfm2", "conv"), ("falcon_h1", "mamba"), ("bamba", "mamba"), ("qwen3_next", "linear_attention")),
    ],
)
def test_a_model_whose_layers_read_across_joined_rows_is_known(kind: str, others: str) -> None:
    found = layers_across_rows(AutoConfig.for_model(kind))
    assert others in found
    assert bool(others) == bool(found)


def some(*numbers: int) -> list[Answered]:
    return [Answered(f"row {n}", f"Ask {n}.", f"It is {n}." + " More." * (n % 4)) for n in numbers]


def test_rows_are_numbered_over_all_parts(folder: str, tmp_path: Path) -> None:
    # The second part repeats an answer of the first; the third has no usable row at all.
    blocks = [some(0, 1, 2), [*some(1), *some(3)], [Answered("x", "Ask.", "", "error")], some(4)]
    prepared(tmp_path, folder, *blocks)
    rows, known = Rows(str(tmp_path), "train"), Encoder(folder, "auto")
    expected = [
        [*(known.prompt_ids(one.answer, "", 256) or []), *known.completion_ids(one.instruction)]
        for one in some(0, 1, 2, 3, 4)
    ]
    assert [rows[place]["input_ids"] for place in range(len(rows))] == expected
    assert rows.lengths.tolist() == [len(ids) for ids in expected]
    assert rows.num_tokens == sum(map(len, expected))
    assert rows.num_loss_tokens == sum(len(known.completion_ids(f"Ask {n}.")) for n in range(5))
    assert len(Rows(str(tmp_path), "dev")) == 0


def test_every_row_is_in_one_split(folder: str, tmp_path: Path) -> None:
    prepared(tmp_path, folder, some(*range(20)), some(*range(20, 40)), dev_share=0.4)
    train, dev = Rows(str(tmp_path), "train"), Rows(str(tmp_path), "dev")
    assert len(train) + len(dev) == 40 and len(dev) > 5
    ids = {tuple(part[place]["input_ids"]) for part in (train, dev) for place in range(len(part))}
    assert len(ids) == 40


def in_pure_python(lengths: list[int], batch: int, seed: int, epoch: int) -> list[int]:
    """The order as it is defined, with lists."""
    random = Random(f"{seed}/{epoch}")
    places = random.sample(range(len(lengths)), len(lengths))
    window = LengthGrouped.WINDOW_BATCHES * batch
    for start in range(0, len(places), window):
        places[start : start + window] = sorted(places[start : start + window], key=lambda n: -lengths[n])
    whole = len(places) - len(places) % batch
    batches = [places[start : start + batch] for start in range(0, whole, batch)]
    random.shuffle(batches)
    return [*(place for batch in batches for place in batch), *places[whole:]]


@pytest.mark.parametrize("number", [0, 3, 4, 403, 1000])
def test_the_order_is_the_defined_one(number: int) -> None:
    lengths = [n * 7 % 101 for n in range(number)]
    order = LengthGrouped(np.array(lengths, dtype=np.int32), batch=4, seed=5)
    order.set_epoch(2)
    assert list(order) == in_pure_python(lengths, 4, 5, 2)


def test_the_order_depends_on_seed_and_epoch_alone_and_joins_like_lengths() -> None:
    lengths = [n * 7 % 101 for n in range(403)]
    order = LengthGrouped(lengths, batch=4, seed=1)
    first = list(order)
    assert sorted(first) == list(range(403))
    assert list(LengthGrouped(lengths, batch=4, seed=1)) == first == list(order)
    order.set_epoch(1)
    assert list(order) != first
    assert list(LengthGrouped(lengths, batch=4, seed=2)) != first
    batches = [[lengths[place] for place in first[start : start + 4]] for start in range(0, 400, 4)]
    # 200 of 101 different lengths are sorted: a batch spans about two of them, random batches about sixty.
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 6
    longest = [max(batch) for batch in batches]
    assert longest != sorted(longest, reverse=True)  # the batches themselves come in any order
