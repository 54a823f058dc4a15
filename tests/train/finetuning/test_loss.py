"""The loss over completion tokens alone, against transformers' own loss with all logits as oracle."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import linear_cross_entropy
from transformers import AutoModelForCausalLM

from tests.train.tiny import tiny_model
from train.finetuning.loss import CompletionLoss
from train.finetuning.rows import IGNORED, padded, padding_free

# Llama's logits are its head's; Gemma 2 caps them afterwards, so that head and loss cannot run as one.
KINDS = {"llama": True, "gemma2": False}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp(kind), kind=kind)


def three_rows() -> list[dict[str, Any]]:
    """Of 9, 6 and 4 tokens; 4, 1 and 3 of them are completion: 8 loss tokens."""
    return [
        {"input_ids": list(range(10, 19)), "labels": [IGNORED] * 5 + [15, 16, 17, 18]},
        {"input_ids": list(range(30, 36)), "labels": [IGNORED] * 5 + [35]},
        {"input_ids": [40, 41, 42, 43], "labels": [IGNORED, 41, 42, 43]},
    ]


def batch() -> dict[str, torch.Tensor]:
    return padded(three_rows())


def load(folder: str) -> torch.nn.Module:
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


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


def test_a_batch_without_padding_has_the_same_loss_and_gradients(folder: str) -> None:
    one, other = load(folder), load(folder)
    expected, _ = CompletionLoss(one).sum(one, batch())
    total, number = CompletionLoss(other).sum(other, padding_free(three_rows()))
    assert number == 8
    assert float(total) == pytest.approx(float(expected), rel=1e-5)
    expected.backward()
    total.backward()
    for (name, ours), theirs in zip(other.named_parameters(), one.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None, name
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6), name


def test_rows_of_a_batch_without_padding_do_not_see_each_other(folder: str) -> None:
    model = load(folder)
    loss = CompletionLoss(model)
    rows = three_rows()
    alone = [float(loss.sum(model, padding_free([row]))[0]) for row in rows]
    assert float(loss.sum(model, padding_free(rows))[0]) == pytest.approx(sum(alone), rel=1e-5)


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


def test_the_head_sees_the_loss_tokens_only(folder: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(folder)
    seen: list[int] = []

    def counted(whole: Any, rows: int) -> Any:
        return lambda *given, **more: (seen.append(given[0].shape[rows]), whole(*given, **more))[1]

    head = model.get_output_embeddings()
    if KINDS[kind]:
        monkeypatch.setattr("train.finetuning.loss.linear_cross_entropy", counted(linear_cross_entropy, 0))
    else:
        monkeypatch.setattr(head, "forward", counted(head.forward, 1))
    CompletionLoss(model).sum(model, batch())
    assert seen == [8]


def test_in_bfloat16_the_loss_is_not_rounded_to_three_digits(folder: str) -> None:
    model = load(folder).to(torch.bfloat16)
    expected = load(folder)(**batch(), use_cache=False).loss
    total, number = CompletionLoss(model).sum(model, batch())
    assert total.dtype == torch.float32
    assert float(total.detach()) / number == pytest.approx(float(expected), rel=2e-3)


def test_on_a_cpu_in_bfloat16_loss_and_gradients_come_in_chunks_and_are_near_those_of_float32(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.finetuning.loss.CHUNK", 3)  # of the 8 loss tokens: 3, 3 and 2
    found = []
    for is_bfloat16 in (False, True):
        model = load(folder)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            total, number = CompletionLoss(model).sum(model, batch())
        total.backward()
        head = model.get_output_embeddings().weight  # type: ignore[operator]
        found.append((float(total.detach()) / number, head.grad.flatten()))
    (expected, gradient), (loss, other) = found
    assert loss == pytest.approx(expected, rel=5e-3) and loss != expected
    assert other.dtype == torch.float32
    assert not torch.equal(other, other.bfloat16().float())  # the sum over the chunks has float32's digits
    assert float(torch.cosine_similarity(gradient, other, dim=0)) > 0.999


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
