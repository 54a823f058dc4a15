"""Few-shot examples retrieved for each record, whole examples within a judge's token budget, as Parquet parts.

Below `{run}/evaluate/examples/{judge}`: one part per block of records, under the block's name. Rows: id, aspect,
examples (ids, the most useful last), mean_score (of the examples' human scores, in points of the record's scale or
else of the judge's; null without examples), num_dropped. Existing parts are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cluster.generate import Batch
from cluster.model_specs import ModelSpec, VllmSpec
from cluster.models import ModelFolder
from cluster.parts import parts_of, sound_rows
from cluster.progress import progress
from cluster.run_store import beside_driver
from cluster.strict import Strict
from cluster.terminal import say
from cluster.tokens import encoder, encoder_of
from judging.errors import InputError
from judging.judge import shown
from judging.records import Record, ScoreMode
from judging.template import Prompt, Template, texts_for
from retrieval.retriever import Arm, Retriever

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("aspect", pa.string()),
        ("examples", pa.list_(pa.string())),
        ("mean_score", pa.float64()),
        ("num_dropped", pa.int64()),
    ]
)
CHARS_PER_TOKEN = 4  # for backends whose tokenizer is not available locally (http, scripted)


class IclConfig(Strict):
    """Few-shot examples of a judge, retrieved for each record."""

    arm: Arm = Field(
        "diverse",
        description="the retriever: random, bm25, semantic (needs `index`), trained or diverse (need `fit` and "
        "`index`), or none",
    )
    k: int = Field(4, ge=1, description="number of examples per record; for `diverse` it is k1 + k2")
    k1: int = Field(2, ge=0, description="for `diverse`: number of examples from the trained retriever")
    k2: int = Field(2, ge=0, description="for `diverse`: number of further examples from plain semantic search")
    max_tokens: int = Field(
        1200, ge=1, description="token budget of all examples together; the least useful examples are dropped whole"
    )

    @property
    def wanted(self) -> int:
        return 0 if self.arm == "none" else self.k1 + self.k2 if self.arm == "diverse" else self.k


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """Retrieves one judge's examples within its budget. Pickled to workers; opens the index on first use.

    `reply_tokens`: tokens of the model's context kept free for the reply. `index`: folder of the job `index`.
    `encoder`: of that index, see `semantic_encoder`. `tokenizer`: the reference of the model's folder; "": resolved
    where it is needed, without the commits of the run.
    """

    config: IclConfig
    spec: ModelSpec
    templates: Mapping[tuple[str, str], Template]
    pool: Mapping[str, Record]
    special_tokens: tuple[str, ...]
    mode: ScoreMode
    reply_tokens: int
    index: Path
    seed: int
    encoder: ModelFolder | None = None
    tokenizer: str = ""

    @cached_property
    def retriever(self) -> Retriever:
        has_index = (self.index / "manifest.json").exists()
        folder = self.index if has_index else None
        return Retriever(self.pool, folder=folder, seed=self.seed, encoder=self.encoder)

    @cached_property
    def _counting(self) -> tuple[Callable[[str], int], Callable[[Prompt], bool]]:
        return _counting(self.spec, self.tokenizer, self.reply_tokens)

    def choose(self, records: Sequence[Record], aspect: str) -> list[Chosen]:
        """The examples of each record for that aspect, the most useful last."""
        config = self.config
        found = self.retriever.retrieve(records, aspect, config.arm, k=config.k, k1=config.k1, k2=config.k2)
        return [
            self._fitting(record, self.templates[record.task, aspect], ids)
            for record, ids in zip(records, found, strict=True)
        ]

    def _fitting(self, record: Record, template: Template, ids: Sequence[str]) -> Chosen:
        """The last of `ids` that fit the budget and, with the record, the judge's context."""
        count, fits = self._counting
        examples = [shown(self.pool[id], template) for id in ids]
        sizes = [count(template.examples_text([example], self.special_tokens)) for example in examples]
        texts = texts_for(record, template)
        first = 0
        while first < len(ids):
            prompt = template.render(
                texts, mode=self.mode, examples=examples[first:], special_tokens=self.special_tokens
            )
            if sum(sizes[first:]) <= self.config.max_tokens and fits(prompt):
                break
            first += 1
        scores = [score for _, score in examples[first:]]
        own = record.scales.get(template.aspect, template.scale)
        mean = template.scale.rescale(float(np.mean(scores)), own) if scores else None
        return Chosen(list(ids[first:]), mean, first)


class Chosen(NamedTuple):
    """The examples of one record, the most useful last, their mean score, and how many others did not fit."""

    ids: list[str]
    mean_score: float | None
    num_dropped: int


def choose_examples(
    folder: Path,
    judge: str,
    chooser: Chooser,
    aspects_of: Callable[[Mapping[str, Any]], Sequence[str]],
    *,
    is_served: bool = False,
) -> None:
    """Complete `folder/examples/{judge}` for the blocks in `folder/records`; existing parts are skipped.

    Args:
        folder: of the evaluation.
        judge: the judge's name.
        chooser: retrieves the judge's examples.
        aspects_of: the aspects to judge for a row of `records/`.
        is_served: running evaluators answer, which may hold every CPU of the cluster: this waits for none.
    """
    out = folder / "examples" / judge
    out.mkdir(parents=True, exist_ok=True)
    list(sound_rows(out, ["id"]))  # removes parts that a killed run left unreadable
    parts = [part for part in parts_of(folder / "records") if not (out / part.name).exists()]
    if not parts:
        return
    import ray.data

    items = [{"part": str(part.resolve())} for part in parts]
    found = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Choose,
        fn_constructor_args=(chooser, aspects_of, out.resolve()),
        batch_size=None,
        concurrency=1,
        **{"num_cpus": 0 if is_served else 1, **beside_driver()},
    )
    total = sum(pq.read_metadata(part).num_rows for part in parts)
    with progress(f"evaluate: {judge}: retrieving examples ({chooser.config.arm})", total, 0) as bar:
        for batch in found.iter_batches(batch_size=None, prefetch_batches=0):
            bar.add(int(np.sum(batch["num_records"])))


class _Choose:
    """Input column: part (a file of records). Writes a part of examples; output column: num_records."""

    def __init__(self, chooser: Chooser, aspects_of: Callable[[Mapping[str, Any]], Sequence[str]], out: Path) -> None:
        self._chooser = chooser
        self._aspects_of = aspects_of
        self._out = out

    def __call__(self, batch: Batch) -> Batch:
        num_records = 0
        for part in map(Path, batch["part"]):
            rows = pq.read_table(part).to_pylist()
            num_records += len(rows)
            found = list(self._rows([(Record.from_row(row), self._aspects_of(row)) for row in rows]))
            beside = self._out / f".{part.name}"
            pq.write_table(pa.Table.from_pylist(found, schema=SCHEMA), beside)
            beside.rename(self._out / part.name)
        return {"num_records": [num_records]}

    def _rows(self, wanted: Sequence[tuple[Record, Sequence[str]]]) -> Iterator[dict[str, Any]]:
        for aspect in dict.fromkeys(aspect for _, aspects in wanted for aspect in aspects):
            records = [record for record, aspects in wanted if aspect in aspects]
            for record, chosen in zip(records, self._chooser.choose(records, aspect), strict=True):
                columns = {"examples": chosen.ids, "mean_score": chosen.mean_score, "num_dropped": chosen.num_dropped}
                yield {"id": record.id, "aspect": aspect, **columns}


def _counting(
    spec: ModelSpec, tokenizer: str, reply_tokens: int
) -> tuple[Callable[[str], int], Callable[[Prompt], bool]]:
    """Functions of this model: the number of tokens of a text, and whether a prompt fits the context with its reply."""
    if not isinstance(spec, VllmSpec):
        return lambda text: len(text) // CHARS_PER_TOKEN + 1, lambda prompt: True
    known = encoder(tokenizer, spec) if tokenizer else encoder_of(spec)
    room = spec.max_model_len - spec.reply_tokens(reply_tokens)
    return (
        lambda text: len(known.tokenizer(text, add_special_tokens=False).input_ids),
        lambda prompt: known.prompt_ids(prompt.text, prompt.reply_prefix, room) is not None,
    )


def chosen_examples(folder: Path, judge: str, part: Path) -> dict[tuple[str, str], list[str]] | None:
    """The example ids of a block of records by (record id, aspect); None where the judge has no retriever.

    Args:
        folder: of the evaluation.
        judge: the judge's name.
        part: the block's file in `records/`.
    """
    path = folder / "examples" / judge / part.name
    if not path.parent.is_dir():
        return None
    return {(row["id"], row["aspect"]): row["examples"] for row in pq.read_table(path, schema=SCHEMA).to_pylist()}


def mean_scores(folder: Path, judge: str) -> dict[tuple[str, str], float | None]:
    """Mean human score of a judge's examples by (record id, aspect); empty where it has no retriever."""
    columns = ["id", "aspect", "mean_score"]
    found: dict[tuple[str, str], float | None] = {}
    for part in parts_of(folder / "examples" / judge):
        try:
            rows = pq.read_table(part, schema=SCHEMA, columns=columns).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"Cannot read {part}: {str(error).splitlines()[0]}. Delete {folder / 'manifest.json'} and run "
                "`inverdict evaluate` again.",
                code="damaged_artifact",
            ) from error
        found |= {(row["id"], row["aspect"]): row["mean_score"] for row in rows}
    return found


def summary(folder: Path, judge: str, config: IclConfig) -> dict[str, Any]:
    """Counts of examples: per prompt, of those that did not fit, and of prompts without any.

    Args:
        folder: of the evaluation.
        judge: the judge's name.
        config: the judge's section `icl`.
    """
    rows = list(sound_rows(folder / "examples" / judge, ["examples", "num_dropped"]))
    numbers = [len(row["examples"]) for row in rows]
    return {
        "arm": config.arm,
        "wanted": config.wanted,
        "mean_examples": float(np.mean(numbers)) if numbers else 0.0,
        "num_dropped": int(sum(row["num_dropped"] for row in rows)),
        "num_prompts_without": int(sum(not number for number in numbers)),
        "num_prompts": len(rows),
    }


def say_what_is_missing(judge: str, found: Mapping[str, Any]) -> None:
    """Print one line where prompts have fewer examples than configured."""
    if found["mean_examples"] < found["wanted"]:
        say(
            f"evaluate: {judge}: {found['mean_examples']:.2f} examples per prompt instead of {found['wanted']} "
            f"({found['num_dropped']} did not fit; {found['num_prompts_without']} of {found['num_prompts']} prompts "
            "have none)"
        )
