"""An index of examples on disk: embeddings in FAISS, ids in Parquet, and a manifest that is verified before both.

A folder holds `index.faiss`, `examples.parquet` (id, group) in the same order, and `manifest.json` (sha256 of both,
kind, dimension, metric, count, fingerprint of the model that made the embeddings). FAISS files are not a safe format,
so no file is read whose sha256 the manifest does not confirm. D dimensions, N examples, Q queries.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.artifacts import file_hash, whole_folder
from judging.errors import InputError

Kind = Literal["flat", "hnsw", "ivf"]
METRIC = "inner_product"
SCHEMA = pa.schema([("id", pa.string()), ("group", pa.string())])
FILES = ("index.faiss", "examples.parquet")
HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 200, 128
IVF_POINTS_A_LIST = 39  # the fewest that FAISS trains a list on without a warning
IVF_PROBED_SHARE = 0.1


AGAIN = "Delete the run's folder `index` and run `inverdict index` again."


class Example(NamedTuple):
    """A row of the index: a record's id and `Record.group_key`."""

    id: str
    group: str


class ExampleIndex:
    """Examples with embeddings of length 1; the score of a query with an example is their inner product."""

    def __init__(self, kind: Kind, made_by: str, index: Any, examples: Sequence[Example]) -> None:
        self.kind = kind
        self.made_by = made_by
        self.examples = list(examples)
        self._index = index
        self._is_mapped = False

    @classmethod
    def build(cls, embeddings_ND: np.ndarray, examples: Sequence[Example], *, kind: Kind, made_by: str) -> ExampleIndex:
        """Index the embeddings.

        Args:
            embeddings_ND: of length 1, a row an example.
            examples: in the order of the rows.
            kind: of FAISS index; `flat` is exact.
            made_by: fingerprint of the model that made the embeddings.

        Returns:
            The index, in memory.

        Raises:
            InputError: where there is no example, or an embedding with NaN or infinity.
        """
        import faiss

        vectors = _checked(embeddings_ND, len(examples))
        num, dimension = vectors.shape
        index: Any
        if kind == "flat":
            index = faiss.IndexFlatIP(dimension)
        elif kind == "hnsw":
            index = faiss.IndexHNSWFlat(dimension, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
        else:
            num_lists = max(1, min(int(4 * num**0.5), num // IVF_POINTS_A_LIST))
            index = faiss.index_factory(dimension, f"IVF{num_lists},Flat", faiss.METRIC_INNER_PRODUCT)
            index.train(vectors)
            index.nprobe = max(1, round(IVF_PROBED_SHARE * num_lists))
        index.add(vectors)
        return cls(kind, made_by, index, examples)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def __len__(self) -> int:
        return len(self.examples)

    def add(self, embeddings_ND: np.ndarray, examples: Sequence[Example]) -> None:
        """Append new examples to the existing ones. Raises InputError for a duplicate id or another dimension."""
        import faiss

        known = {example.id for example in self.examples}
        twice = [example.id for example in examples if example.id in known]
        if twice or len({example.id for example in examples}) < len(examples):
            repeated = twice or [id for id, num in Counter(example.id for example in examples).items() if num > 1]
            raise InputError(f"Duplicate example id {repeated[0]!r} in the index.", code="duplicate_id")
        vectors = _checked(embeddings_ND, len(examples))
        if vectors.shape[1] != self.dimension:
            raise InputError(
                f"The index has {self.dimension} dimensions, the new embeddings have {vectors.shape[1]}. "
                "Use the encoder that the index was built with.",
                code="other_configuration",
            )
        if self._is_mapped:  # adding to a mapped index would end the process in FAISS
            mapped, self._index = self._index, faiss.IndexFlatIP(self.dimension)
            self._index.add(mapped.reconstruct_n(0, mapped.ntotal))
            self._is_mapped = False
        self._index.add(vectors)
        self.examples += examples

    def search(self, queries_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores (float32) and rows (int64), both Q x min(k, N), best first; row -1: no further result."""
        vectors = np.ascontiguousarray(queries_QD, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"queries of shape {vectors.shape} do not match the index of {self.dimension} dimensions")
        if not np.isfinite(vectors).all():
            raise InputError(
                "A query's embedding has NaN or infinite values: the encoder is damaged. Use another encoder.",
                code="damaged_artifact",
            )
        scores, rows = self._index.search(vectors, min(k, len(self)))
        return scores, rows

    def save(self, folder: Path) -> None:
        """Write the folder atomically."""
        import faiss

        with whole_folder(folder) as beside:
            faiss.write_index(self._index, str(beside / "index.faiss"))
            rows = [example._asdict() for example in self.examples]
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), beside / "examples.parquet", compression="zstd")
            manifest = {**self._about(), "sha256": {name: file_hash(beside / name) for name in FILES}}
            (beside / "manifest.json").write_text(json.dumps(manifest, indent=1))

    def _about(self) -> dict[str, Any]:
        known = {"kind": self.kind, "dimension": self.dimension, "metric": METRIC}
        return {**known, "num_examples": len(self), "made_by": self.made_by}

    @classmethod
    def load(cls, folder: Path, *, made_by: str) -> ExampleIndex:
        """The verified index, memory-mapped where its kind allows it. Raises InputError where a check fails."""
        import faiss

        manifest = _manifest(folder)
        if manifest["made_by"] != made_by:
            raise InputError(
                f"The index in {folder} was made by another encoder than the one it is searched with. {AGAIN}",
                code="other_configuration",
            )
        for name in FILES:
            path = folder / name
            if not path.is_file() or file_hash(path) != manifest["sha256"].get(name):
                raise InputError(
                    f"{path} is missing or does not match its manifest. {AGAIN}",
                    code="damaged_artifact",
                )
        rows = pq.read_table(folder / "examples.parquet", schema=SCHEMA).to_pylist()
        flags = faiss.IO_FLAG_MMAP_IFC if manifest["kind"] == "flat" else 0
        index = faiss.read_index(str(folder / "index.faiss"), flags)
        loaded = cls(manifest["kind"], made_by, index, [Example(**row) for row in rows])
        loaded._is_mapped = bool(flags)
        is_ours = index.metric_type == faiss.METRIC_INNER_PRODUCT and index.ntotal == len(rows)
        if not is_ours or loaded._about() != {name: manifest[name] for name in loaded._about()}:
            raise InputError(
                f"The index in {folder} does not match its manifest.json. {AGAIN}",
                code="damaged_artifact",
            )
        return loaded


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        kinds = {"kind": str, "dimension": int, "metric": str, "num_examples": int, "made_by": str, "sha256": dict}
        if any(not isinstance(manifest[name], kind) for name, kind in kinds.items()):
            raise ValueError
    except FileNotFoundError:
        raise InputError(f"No index found in {folder}. Run `inverdict index` first.", code="missing_job") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder / 'manifest.json'} is not a valid index manifest. {AGAIN}",
            code="damaged_artifact",
        ) from None
    return manifest


def _checked(embeddings_ND: np.ndarray, num_examples: int) -> np.ndarray:
    vectors = np.ascontiguousarray(embeddings_ND, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != num_examples:
        raise ValueError(
            f"{num_examples} examples need {num_examples} embeddings, not an array of shape {vectors.shape}"
        )
    if not num_examples:
        raise InputError("There is no example to index. Add rated texts to data.pool.", code="no_records")
    if not np.isfinite(vectors).all():
        raise InputError(
            "An example's embedding has NaN or infinite values: the encoder is damaged. Use another encoder.",
            code="damaged_artifact",
        )
    return vectors


def recall(index: ExampleIndex, exact: ExampleIndex, queries_QD: np.ndarray, k: int) -> float:
    """Recall@k of an approximate index.

    Args:
        index: the approximate index.
        exact: the exact index of the same rows.
        queries_QD: embeddings of length 1.
        k: results a query.

    Returns:
        Share of the exact results that the index returns, mean over the queries.
    """
    found, true = index.search(queries_QD, k)[1], exact.search(queries_QD, k)[1]
    return float(np.mean([len(set(one) & set(other)) / len(other) for one, other in zip(found, true, strict=True)]))
