"""The loss over completion tokens alone: no logits exist for any other token. Knows rows as batches of rows.py.

Legend: B rows of a batch, T tokens of a row, N loss tokens of a batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear, linear_cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import Trainer

from train.finetuning.rows import IGNORED, LengthGrouped

# Model families with these settings change the logits after the head, so their own head runs unchanged.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
# torch's default chunking is 20 to 40 times slower than this one on a CPU without AVX-512 (15.7 s against 0.4 s
# for 200 loss tokens of SmolLM2). 256 x 262,144 logits take 268 MB a copy.
CHUNK = 256
ON_CPU = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK, chunking_method=None)


class CompletionLoss:
    """Cross-entropy over the completion tokens of a causal model, without the logits of any other token.

    The model's head is replaced: in place of all logits it returns the summed loss of the N loss tokens, head and loss
    computed together in chunks, so that not even N x V logits exist at once (a vocabulary of 262,144 costs 1 MB a
    token). It does so inside the model's forward, where DDP sees the head's weight used and FSDP has gathered it.
    Where the model family changes its logits after the head, the head computes N x V and the loss follows.
    """

    def __init__(self, model: Any) -> None:
        self._head = model.get_output_embeddings()
        plain = type(self._head) is torch.nn.Linear and self._head.bias is None
        self._fused = plain and not any(getattr(model.config.get_text_config(), name, None) for name in LOGIT_CHANGES)
        self._labels_BT: torch.Tensor | None = None
        self._whole = self._head.forward
        self._head.forward = self._loss_head

    def _loss_head(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        assert self._labels_BT is not None
        # Each label is predicted from the token before it.
        hidden_ND = hidden_BTD[:, :-1][self._labels_BT != IGNORED]
        if not self._fused:
            return self._whole(hidden_ND[None])
        device = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        options = ON_CPU if device == "cpu" else torch.nn.LinearCrossEntropyOptions()
        labels_N = self._labels_BT[self._labels_BT != IGNORED]
        # A sum in bfloat16 has three digits, so there the losses of the tokens are summed in float32.
        reduction = "sum" if dtype == torch.float32 else "none"
        with torch.autocast(device, enabled=False):
            if device == "cpu" and dtype == torch.bfloat16:
                return _loss_in_chunks(hidden_ND.to(dtype), self._head.weight, labels_N)
            weight_VD = self._head.weight.to(dtype)
            loss = linear_cross_entropy(hidden_ND.to(dtype), weight_VD, labels_N, reduction=reduction, options=options)
        return loss.float().sum()

    def sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        """The summed loss (nats) of a batch and its number of loss tokens. `model` may be wrapped for DDP or FSDP."""
        self._labels_BT = inputs["labels"][:, 1:]
        seen = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        out = model(**seen, use_cache=False).logits
        labels_N = self._labels_BT[self._labels_BT != IGNORED]
        loss = out if self._fused else cross_entropy(out[0].float(), labels_N, reduction="sum")
        return loss, len(labels_N)


def _loss_in_chunks(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """The summed loss in bfloat16 on a CPU, where torch's own computes the head in float32, several times slower.

    The logits of a chunk are computed again for its gradients, so that those of one chunk exist at once. A weight that
    is trained is cast in every chunk, so that its gradient is summed over the chunks in float32.
    """
    if not weight_VD.requires_grad:
        weight_VD = weight_VD.to(hidden_ND.dtype)
    chunks = zip(hidden_ND.split(CHUNK), labels_N.split(CHUNK), strict=True)
    return torch.stack([checkpoint(_loss, *one, weight_VD, use_reentrant=False) for one in chunks]).sum()


def _loss(hidden_ND: torch.Tensor, labels_N: torch.Tensor, weight_VD: torch.Tensor) -> torch.Tensor:
    return cross_entropy(linear(hidden_ND, weight_VD.to(hidden_ND.dtype)).float(), labels_N, reduction="sum")


class CompletionTrainer(Trainer):
    """Hugging Face's Trainer with `CompletionLoss`, scaled by the loss tokens of the whole effective batch."""

    completion: CompletionLoss
    order: LengthGrouped

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
        return self.order

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of a batch, as the Trainer calls it.

        Args:
            model: as the Trainer has wrapped it.
            inputs: from `padded` or `padding_free`.
            return_outputs: not supported, never set here.
            num_items_in_batch: loss tokens of the effective batch over all workers; None: those of this batch.

        Returns:
            The loss, whose gradients DDP averages over the workers.
        """
        loss, num_tokens = self.completion.sum(model, inputs)
        # DDP averages gradients over the workers, while the number of tokens is summed over them.
        return loss * self.args.world_size / (num_items_in_batch if num_items_in_batch is not None else num_tokens)
