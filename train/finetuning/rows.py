"""Training pairs as a worker reads them: token ids memory-mapped from their parts, in batches of similar length.

Legend: B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch

from train.finetuning.prepare import open_part, parts

IGNORED = -100


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The pairs of one split, with labels on the completion alone.

    The token ids are memory-mapped, so that a worker needs 20 bytes of its own for each row: `lengths` (tokens,
    int32), the row's number and where it begins. Workers on one machine share the mapped pages.
    """

    def __init__(self, folder: str, split: Literal["train", "dev"]) -> None:
        tables = [open_part(path) for path in parts(Path(folder))]
        columns = [chunk for table in tables for chunk in table["input_ids"].chunks]
        self._ids = [column.values.to_numpy() for column in columns]
        self._offsets = [column.offsets.to_numpy() for column in columns]
        self._firsts = np.cumsum([0, *(len(column) for column in columns)])
        self._rows = np.load(Path(folder) / f"{split}.npy")
        none = np.empty(0, np.int32)
        prompts = (chunk.to_numpy() for table in tables for chunk in table["num_prompt"].chunks)
        self._num_prompt = np.concatenate([none, *prompts])[self._rows]
        self.lengths = np.concatenate([none, *map(np.diff, self._offsets)])[self._rows]
        self.num_tokens = int(self.lengths.sum(dtype=np.int64))
        self.num_loss_tokens = self.num_tokens - int(self._num_prompt.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        row = self._rows[place]
        part = int(np.searchsorted(self._firsts, row, side="right")) - 1
        start, end = self._offsets[part][row - self._firsts[part] :][:2]
        ids: list[int] = self._ids[part][start:end].tolist()
        num_prompt = int(self._num_prompt[place])
        return {"input_ids": ids, "labels": [IGNORED] * num_prompt + ids[num_prompt:]}


class LengthGrouped(torch.utils.data.Sampler[int]):
    """Row numbers in random order with neighbours of similar length; seed and epoch alone decide.

    So a resumed training continues in the same order (transformers' own sampler uses the global generator). Random
    windows of 50 batches are sorted by length, then the batches are shuffled.
    """

    WINDOW_BATCHES = 50

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = Random(f"{self._seed}/{self._epoch}")
        places = np.array(random.sample(range(len(self)), len(self)), dtype=np.int64)
        window = self.WINDOW_BATCHES * self._batch
        for start in range(0, len(places), window):
            there = places[start : start + window]
            places[start : start + window] = there[np.argsort(-self._lengths[there], kind="stable")]
        whole = len(places) - len(places) % self._batch
        order = list(range(whole // self._batch))
        random.shuffle(order)
        batches = places[:whole].reshape(-1, self._batch)[order]
        # The incomplete batch stays last.
        return map(int, np.concatenate([batches.ravel(), places[whole:]]))


def layers_across_rows(config: Any) -> str:
    """What a model has, by its configuration, that does not keep joined rows apart; "" for attention alone."""
    text = config.get_text_config()
    others = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    recurrent = re.compile("mamba|conv|ssm|rwkv|recurrent|linear_attn")
    others |= {key for key, value in text.to_dict().items() if recurrent.search(key) and value}
    return ", ".join(sorted(others))


def padding_free(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The rows one after the other, without padding: `input_ids`, `labels`, `position_ids`, each 1T, T of all rows.

    Positions begin again with each row, by which transformers keeps the rows' attention apart. No row's first token is
    a label, since the token before it is another row's.
    """

    def one_after_another(parts: Iterable[Sequence[int]]) -> torch.Tensor:
        return torch.tensor([[each for part in parts for each in part]])

    return {
        "input_ids": one_after_another(row["input_ids"] for row in rows),
        "labels": one_after_another([IGNORED, *row["labels"][1:]] for row in rows),
        "position_ids": one_after_another(range(len(row["input_ids"])) for row in rows),
    }


def padded(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """`input_ids`, `labels`, `attention_mask`, each BT, padded on the right."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

    mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": filled("input_ids", 0),
        "labels": filled("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }
