"""The probes of a run's judges: changed copies of measured records, judged as `evaluate` judges.

Below `{run}/certify/probes`: `pointwise/` (copies as they are, padded, as lists, attacked) and `position/` (pairs of
texts in both orders), each with `records/` and `verdicts/` as in `{run}/evaluate`. A killed run goes on from there.
What the verdicts say is the business of probed.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cluster.artifacts import whole_folder
from cluster.config import Strict
from cluster.tokens import special_tokens_of
from evaluation.batch.config import Prepared
from evaluation.batch.evaluate import judge_all
from evaluation.batch.inference import ask_all
from evaluation.batch.ingest import RECORD_SCHEMA
from evaluation.judges.aggregation import Ballot, VoteConfig
from evaluation.judges.judge_config import build_judge
from judging.certificates.perturbations import attacks, bulleted, padded
from judging.datasets import is_blank
from judging.records import Record, content_id
from judging.request_templates import pair_template
from judging.tasks import load_task

BASE, LENGTH, FORMAT = "base", "length", "format"
POINTWISE, POSITION = "pointwise", "position"
BLOCK_ROWS = 64


class ProbesConfig(Strict):
    """`certify.probes`: how many texts (or pairs) of each task and data set are probed; 0: that probe is off."""

    position: int = Field(60, ge=0, description="pairs of texts of one group, each judged in both orders")
    length: int = Field(60, ge=0, description="texts that are padded with sentences that say nothing")
    format: int = Field(60, ge=0, description="texts that are written as a list")
    injection: int = Field(20, ge=0, description="texts that are attacked, each with every attack")
    rerun: int = Field(60, ge=0, description="texts that are judged again, with another seed and in another order")
    own_family: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="by judge: patterns of `system` that are of its own model family, as qwen*"
    )

    @property
    def num_texts(self) -> int:
        """How many texts are judged again as they are: every change is compared with that."""
        return max(self.length, self.format, self.injection, self.rerun)


class Copy(NamedTuple):
    """A record for a probe. `kind`: `base` (unchanged), `length`, `format`, or an attack's name."""

    kind: str
    record: Record


def copies(records: Sequence[Record], config: ProbesConfig, seed: int) -> list[Copy]:
    """The copies of the records of one task and data set. A change that leaves a text as it was is left out."""
    chosen = _in_drawn_order(records, seed)
    found = [Copy(BASE, one) for one in chosen[: config.num_texts]]
    found += [Copy(LENGTH, _changed(one, padded(one.candidate))) for one in chosen[: config.length]]
    found += [
        Copy(FORMAT, _changed(one, as_list))
        for one in chosen[: config.format]
        if (as_list := bulleted(one.candidate)) != one.candidate
    ]
    found += [
        Copy(attack.name, _changed(one, attack.on(one.candidate)))
        for one in chosen[: config.injection]
        for attack in attacks()
    ]
    return [Copy(kind, dataclasses.replace(record, id=copy_id(kind, record.id))) for kind, record in found]


def copy_id(kind: str, id: str) -> str:
    """The id of the copy of that kind of the record `id`."""
    return content_id("probe", kind, id)


def pairs(records: Sequence[Record], config: ProbesConfig, seed: int) -> list[tuple[Record, Record]]:
    """Pairs of records of one group, no record in two of them, from as many groups as there are."""
    groups: dict[str, list[Record]] = {}
    for record in _in_drawn_order(records, seed):
        groups.setdefault(record.group_key, []).append(record)
    largest = max(map(len, groups.values()), default=0)
    found = [
        (members[place], members[place + 1])
        for place in range(0, largest, 2)
        for members in groups.values()
        if len(members) > place + 1
    ]
    return found[: config.position]


def in_order(first: Record, second: Record) -> Record:
    """A pair as the template for pairs reads it, rated on the aspects that both are rated on."""
    scores = {aspect: score for aspect, score in first.scores.items() if aspect in second.scores}
    fields = {**first.fields, "other": second.candidate}
    return dataclasses.replace(first, id=pair_id(first.id, second.id), fields=fields, scores=scores)


def pair_id(first: str, second: str) -> str:
    """The id of the pair in that order."""
    return content_id("pair", first, second)


def parts_by_dataset(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each task and data set."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.task, record.dataset), []).append(record)
    return list(found.values())


def judge_probes(
    prepared: Prepared,
    config: ProbesConfig,
    records: Sequence[Record],
    folder: Path,
    seed: int,
    *,
    judges: Sequence[str],
) -> None:
    """Judge what the probes need below `folder`. `records`: the measured ones, with the scores of wanted aspects alone.

    `judges`: who is asked; the panel's vote is counted where that is everybody. Ray must run. What is there already is
    not judged again.
    """
    run, known = prepared.evaluation.run, prepared.evaluation.config
    asked: dict[str, Any] = {"judges": {name: spec for name, spec in known.judges.items() if name in judges}}
    if len(asked["judges"]) < len(known.judges):
        asked |= {"vote": VoteConfig(), "integrator": None}
    # With the seed of `evaluate` a second run of the same texts would be no second draw.
    evaluation = dataclasses.replace(
        prepared.evaluation,
        run=run.model_copy(update={"seed": run.seed + 1}),
        config=known.model_copy(update={"aspects": None, **asked}),
        ballot=Ballot(VoteConfig()) if "vote" in asked else prepared.evaluation.ballot,
        folder=folder / POINTWISE,
    )
    wanted = list(dict.fromkeys((record.task, aspect) for record in records for aspect in record.scores))
    built = {
        name: build_judge(
            name, spec, wanted, prepared.pool, special_tokens_of(run.models[spec.model]), evaluation.prompts[name]
        )
        for name, spec in evaluation.config.judges.items()
    }
    parts = parts_by_dataset(records)
    changed = [one.record for part in parts for one in copies(part, config, seed)]
    if changed:
        _write(folder / POINTWISE, changed)
        judge_all(evaluation, built, prepared.pool, run.models)
    both = [
        in_order(*pair)
        for part in parts
        for one, other in pairs(part, config, seed)
        for pair in ((one, other), (other, one))
    ]
    rated = [record for record in both if record.scores]
    if rated:
        _write(folder / POSITION, rated)
        # As online: two texts are compared by the template for pairs, without examples.
        templates = {(task, aspect): pair_template(load_task(task), aspect) for task, aspect in wanted}
        comparing = {
            name: dataclasses.replace(judge, templates=templates, examples={}, pool={}) for name, judge in built.items()
        }
        ask_all(folder / POSITION, comparing, evaluation.config.judges, run.models, aspects=None, seed=run.seed)


def _in_drawn_order(records: Sequence[Record], seed: int) -> list[Record]:
    """By a hash of seed and id: a larger sample holds the smaller one. Of blank texts there is nothing to change."""
    return sorted(
        (one for one in records if not is_blank(one.candidate)), key=lambda record: content_id(str(seed), record.id)
    )


def _changed(record: Record, candidate: str) -> Record:
    return dataclasses.replace(record, candidate=candidate)


def _write(folder: Path, records: Sequence[Record]) -> None:
    """`records/` as `evaluate` leaves it: groups whole, neighbours share a prefix."""
    if (folder / "records").exists():
        return
    rows = [{**one.to_row(), "group_key": one.group_key} for one in sorted(records, key=lambda one: one.group_key)]
    folder.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder / "records") as beside:
        for number, start in enumerate(range(0, len(rows), BLOCK_ROWS)):
            table = pa.Table.from_pylist(rows[start : start + BLOCK_ROWS], schema=RECORD_SCHEMA)
            pq.write_table(table, beside / f"part-{number:06d}.parquet", compression="zstd")
