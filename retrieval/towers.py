"""Two towers: one encodes the text to be judged, the other rated examples; their product predicts the utility.

B queries of a batch, N examples of a batch, D dimensions. Embeddings have length 1; a score is the scaled cosine.
Every tower is a sentence-transformers model; `shared` makes both the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import normalize

from cluster.artifacts import whole_folder

Side = Literal["query", "example"]


class Towers(torch.nn.Module):
    """`scale` multiplies the cosine before the loss: without it no difference of scores exceeds 2."""

    def __init__(self, folder: str, *, shared: bool, max_length: int, scale: float) -> None:
        super().__init__()
        self.query = _model(folder, max_length)
        self.example = self.query if shared else _model(folder, max_length)
        self.scale = scale

    def embed(self, side: Side, texts: Sequence[str]) -> torch.Tensor:
        """Embeddings of the texts by that tower, one row a text, with gradients."""
        model: Any = getattr(self, side)
        features = model.preprocess(list(texts))
        placed = {
            name: value.to(model.device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }
        return normalize(model(placed)["sentence_embedding"].float(), dim=-1)

    def scores(self, query_BD: torch.Tensor, example_ND: torch.Tensor) -> torch.Tensor:
        """Scores (B x N) of embeddings."""
        return self.scale * query_BD @ example_ND.T

    def save(self, out: Path, card: str) -> None:
        """`out/query` and `out/example`, each a folder that SentenceTransformer loads, with a model card."""
        for side in ("query", "example"):
            model: Any = getattr(self, side)
            with whole_folder(out / side) as folder:
                model.save_pretrained(str(folder), create_model_card=False)
                (folder / "README.md").write_text(card.replace("SIDE", side), encoding="utf-8")


def _model(folder: str, max_length: int) -> Any:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder)
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model
