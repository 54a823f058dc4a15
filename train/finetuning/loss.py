"""Rows of token ids, their order, and the loss over their completions alone: no logits exist for any other token.

Legend: B rows of a batch, T tokens of a row, N loss tokens of a batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pyarrow.parquet as pq
import torch
from torch.nn.functional import cross_entropy, linear_cross_entropy
from transformers import Trainer

IGNORED = -100
# Model families with these settings change the logits after the head, so their own head runs unchanged.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
# torch's default chunking is 20 to 40 times slower than this one on a CPU without AVX-512 (15.7 s against 0.4 s
# for 200 loss tokens of SmolLM2). 256 x 262,144 logits take 268 MB a copy.
ON_CPU = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=256, chunking_method=None)


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The token ids of a Parquet file, with labels on the completion alone."""

    def __init__(self, path: str) -> None:
        self._rows = pq.read_table(path).to_pylist()
        self.lengths = [len(row["input_ids"]) for row in self._rows]
        self.num_tokens = sum(self.lengths)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        ids, num_prompt = self._rows[place]["input_ids"], self._rows[place]["num_prompt"]
        labels = [IGNORED] * num_prompt + ids[num_prompt:]
        return {"input_ids": ids, "labels": labels}


class LengthGrouped(torch.utils.data.Sampler[int]):
    """Row numbers in random order with neighbours of similar length; seed and epoch alone decide.

    So a resumed training continues in the same order (transformers' own sampler uses the global generator). Random
    windows of 50 batches are sorted by length, then the batches are shuffled.
    """

    WINDOW_BATCHES = 50

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = Random(f"{self._seed}/{self._epoch}")
        places = random.sample(range(len(self)), len(self))
        window = self.WINDOW_BATCHES * self._batch
        for start in range(0, len(places), window):
            places[start : start + window] = sorted(places[start : start + window], key=lambda n: -self._lengths[n])
        whole = len(places) - len(places) % self._batch
        batches = [places[start : start + self._batch] for start in range(0, whole, self._batch)]
        random.shuffle(batches)
        # The incomplete batch stays last.
        return iter([*(place for batch in batches for place in batch), *places[whole:]])


def collate(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids`, `labels`, `attention_mask`, each BT, padded on the right."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

    mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": padded("input_ids", pad_id),
        "labels": padded("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }


class CompletionLoss:
    """Cross-entropy over the completion tokens of a causal model, without the logits of any other token.

    The model's head is bypassed: the model returns the hidden states of the N loss tokens, and head and loss are
    computed together in chunks, so that not even N x V logits exist at once (a vocabulary of 262,144 costs 1 MB a
    token). Where the model family changes its logits after the head, the head stays and computes N x V.
    """

    def __init__(self, model: Any) -> None:
        self._head = model.get_output_embeddings()
        plain = type(self._head) is torch.nn.Linear and self._head.bias is None
        self._fused = plain and not any(getattr(model.config.get_text_config(), name, None) for name in LOGIT_CHANGES)
        self._keep_BT: torch.Tensor | None = None
        whole = self._head.forward
        self._head.forward = lambda hidden: (lambda kept: kept if self._fused else whole(kept))(self._kept(hidden))

    def _kept(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        assert self._keep_BT is not None
        return hidden_BTD[self._keep_BT][None]

    def sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        """The summed loss (nats) of a batch and its number of loss tokens. `model` may be wrapped for DDP."""
        labels_BT = inputs["labels"][:, 1:]
        counted_BT = labels_BT != IGNORED
        # Each label is predicted from the token before it.
        self._keep_BT = torch.nn.functional.pad(counted_BT, (0, 1))
        out = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        labels_N, found = labels_BT[counted_BT], out.logits[0]
        if self._fused:
            options = ON_CPU if found.device.type == "cpu" else torch.nn.LinearCrossEntropyOptions()
            weight = self._head.weight.to(found.dtype)
            loss = linear_cross_entropy(found, weight, labels_N, reduction="sum", options=options)
        else:
            loss = cross_entropy(found.float(), labels_N, reduction="sum")
        return loss, len(labels_N)


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
            inputs: from `collate`.
            return_outputs: not supported, never set here.
            num_items_in_batch: loss tokens of the effective batch over all workers; None: those of this batch.

        Returns:
            The loss, whose gradients DDP averages over the workers.
        """
        loss, num_tokens = self.completion.sum(model, inputs)
        # DDP averages gradients over the workers, while the number of tokens is summed over them.
        return loss * self.args.world_size / (num_items_in_batch if num_items_in_batch is not None else num_tokens)
