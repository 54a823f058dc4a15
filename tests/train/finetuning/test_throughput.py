"""FLOPs of a training worked out by hand, and the GPUs whose peak is known."""

from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.train.tiny import tiny_model
from train.finetuning.throughput import Weights, peak_flops, weights_of

# A layer of tests/train/tiny.py: q and o 64 x 64, k and v 64 x 32, gate, up and down 64 x 96, two norms of 64.
LAYER = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64
BODY = 2 * LAYER + 64
# Rank 4: inputs + outputs of each map: q, o 128; k, v 96; gate, up, down 160.
LORA = 2 * 4 * (2 * 128 + 2 * 96 + 3 * 160)


@pytest.mark.parametrize("tied", [True, False])
def test_the_weights_of_a_model(tied: bool, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path, tied=tied))
    head = model.config.vocab_size * 64
    assert weights_of(model) == Weights(0, BODY, head, True)
    lora = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert weights_of(lora) == Weights(BODY, LORA, head, False)


def test_the_flops_of_a_pass() -> None:
    # 10 tokens, of which the head sees 3: 10 x (4 x 100 + 6 x 20) + 3 x 4 x 50, and a trained head 3 x 6 x 50.
    assert Weights(100, 20, 50, False).flops(10, 3) == 5200 + 600
    assert Weights(0, 120, 50, True).flops(10, 3) == 7200 + 900


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
    ],
)
def test_the_peak_of_a_gpu(name: str, tflops: float) -> None:
    assert peak_flops(name) == tflops * 1e12


def test_of_other_devices_no_peak_is_known() -> None:
    assert peak_flops("Tesla T4") is None
    assert peak_flops("NVIDIA GeForce RTX 9999") is None
