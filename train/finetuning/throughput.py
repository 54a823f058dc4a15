"""Model FLOPs of a training and their share of what its GPUs could do (MFU)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

# bfloat16, dense, in TFLOP/s, from NVIDIA's data sheets, by the name that torch.cuda gives; the first match counts.
PEAK_TFLOPS = (
    (r"B200", 2250.0),
    (r"H100 PCIe", 756.0),
    (r"H100 NVL", 835.0),
    (r"H100|H200|GH200", 989.0),
    (r"A100", 312.0),
    (r"L40S", 362.0),
    (r"L40\b", 181.0),
    (r"L4\b", 121.0),
    (r"A10G", 70.0),
    (r"A10\b", 125.0),
    (r"RTX A6000", 155.0),
)


class Weights(NamedTuple):
    """Numbers of weights: `frozen` and `trained` multiply every token, those of the `head` the loss tokens alone."""

    frozen: int
    trained: int
    head: int
    head_is_trained: bool

    def flops(self, num_tokens: int, num_loss_tokens: int) -> float:
        """FLOPs of one pass, forward and backward, without attention scores and recomputed activations.

        A weight costs 2 a token forward, 2 for the gradient of its input, and 2 for its own gradient if it is trained.

        Args:
            num_tokens: of the pass.
            num_loss_tokens: those of them that the head sees.
        """
        head = (6 if self.head_is_trained else 4) * self.head
        return float(num_tokens * (4 * self.frozen + 6 * self.trained) + num_loss_tokens * head)


def weights_of(model: Any) -> Weights:
    """The weights of a model with its LoRA layers, if any; embeddings are looked up, so they count only as the head."""
    head, embeddings = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    body = [weight for weight in model.parameters() if weight is not head and weight is not embeddings]
    trained = sum(weight.numel() for weight in body if weight.requires_grad)
    return Weights(sum(weight.numel() for weight in body) - trained, trained, head.numel(), head.requires_grad)


def peak_flops(name: str) -> float | None:
    """The peak rate of a GPU in FLOP/s, or None where it is not known."""
    return next((peak * 1e12 for pattern, peak in PEAK_TFLOPS if re.search(pattern, name)), None)
