"""The loss over completion tokens alone, against transformers' own loss with all logits as oracle."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from cluster.tokens import Encoder
from tests.train.tiny import tiny_model
from train.finetuning.loss import IGNORED, CompletionLoss, LengthGrouped, Rows, collate
from train.finetuning.pairs import Pair, encode
from train.finetuning.sft import PAIR_SCHEMA

# Llama's logits are its head's; Gemma 2 caps them afterwards, so that head and loss cannot run as one.
KINDS = {"llama": True, "gemma2": False}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp(kind), kind=kind)


def batch() -> dict[str, torch.Tensor]:
    """Three rows of 9, 6 and 4 tokens; 4, 1 and 3 of them are completion: 8 loss tokens."""
    rows = [
        {"input_ids": list(range(10, 19)), "labels": [IGNORED] * 5 + [15, 16, 17, 18]},
        {"input_ids": list(range(30, 36)), "labels": [IGNORED] * 5 + [35]},
        {"input_ids": [40, 41, 42, 43], "labels": [IGNORED, 41, 42, 43]},
    ]
    return collate(rows, pad_id=1)


def load(folder: str) -> torch.nn.Module:
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def test_collate_pads_on_the_right() -> None:
    padded = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}], pad_id=1)
    assert padded["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert padded["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_loss_and_gradients_are_those_of_transformers_with_all_logits(folder: str, kind: str) -> None:
    whole, ours = load(folder), load(folder)
    loss = CompletionLoss(ours)
    assert loss._fused is KINDS[kind]
    total, number = loss.sum(ours, batch())
    expected = whole(**batch(), use_cache=False).loss  # the mean over the loss tokens
    assert number == 8
    assert float(total) / number == pytest.approx(float(expected), rel=1e-5)
    (total / number).backward()
    expected.backward()
    compared = 0
    for (name, one), (_, other) in zip(ours.named_parameters(), whole.named_parameters(), strict=True):
        assert other.grad is not None and one.grad is not None, name
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-6), name
        compared += 1
    assert compared > 10


def test_lora_gradients_are_those_of_transformers_with_all_logits(folder: str) -> None:
    grads = []
    for is_ours in (True, False):
        torch.manual_seed(1)
        base = load(folder)
        model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at first: the gradient of lora_A would be zero as well
                torch.nn.init.normal_(parameter, std=0.1)
        if is_ours:
            total, number = CompletionLoss(base).sum(model, batch())
            (total / number).backward()
        else:
            model(**batch(), use_cache=False).loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert len(grads[0]) == 28  # 2 layers x 7 linear maps x 2
    for name, ours in grads[0].items():
        assert ours is not None and float(ours.abs().max()) > 0, name
        assert torch.allclose(ours, grads[1][name], rtol=1e-3, atol=1e-6), name


def test_the_head_sees_the_loss_tokens_only(folder: str) -> None:
    model = load(folder)
    loss = CompletionLoss(model)
    seen: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda module, given, out: seen.append(out.shape[-2]))
    loss.sum(model, batch())
    assert seen == [8]


def test_a_swapped_pairs_loss_covers_exactly_the_instructions_tokens(folder: str, tmp_path: Path) -> None:
    known = Encoder(folder, "auto")
    pair = Pair("x", "A reply of some length, 4 of 5.", "", "Rate the text from 1 to 5.")
    [encoded], num_long = encode([pair], known, cutoff=256)
    assert num_long == 0
    pq.write_table(pa.Table.from_pylist([encoded._asdict()], schema=PAIR_SCHEMA), tmp_path / "rows.parquet")
    row = Rows(str(tmp_path / "rows.parquet"))[0]
    counted = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert counted == [label for label in row["labels"] if label != IGNORED]
    assert known.tokenizer.decode(counted) == "Rate the text from 1 to 5.<eos>"
    _, number = CompletionLoss(model := load(folder)).sum(model, collate([row], pad_id=1))
    assert number == len(counted) == len(known.completion_ids("Rate the text from 1 to 5."))


def test_the_loss_is_that_of_the_labels_worked_out_place_by_place(folder: str) -> None:
    model = load(folder).eval()
    loss = CompletionLoss(model)
    with torch.no_grad():
        one = {"input_ids": torch.tensor([[10, 11, 12, 13]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
        right, number = loss.sum(model, {**one, "labels": torch.tensor([[IGNORED, IGNORED, 12, 13]])})
        logits = load(folder).eval()(input_ids=one["input_ids"]).logits[0]
    # Token 12 is predicted after place 1, token 13 after place 2.
    by_hand = -sum(float(torch.log_softmax(logits[place], 0)[label]) for place, label in ((1, 12), (2, 13)))
    assert (float(right), number) == (pytest.approx(by_hand, rel=1e-5), 2)


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
