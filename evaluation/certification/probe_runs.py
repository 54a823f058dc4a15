"""Runs the probes: makes perturbed copies of the measured records and runs the judges on them, as `evaluate` does.

Below `{run}/certify/probes`: `pointwise/` (copies unchanged, padded, as lists, attacked) and `position/` (pairs of
texts in both orders), each with `records/` and `verdicts/` as in `{run}/evaluate`. An interrupted run resumes from
there. probe_results.py evaluates the verdicts.
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
from cluster.strict import Strict
from evaluation.batch.config import Evaluation, Prepared
from evaluation.batch.evaluate import judge_all
from evaluation.batch.inference import ask_all
from evaluation.batch.ingest import RECORD_SCHEMA
from evaluation.judges.aggregation import Ballot, VoteConfig
from judging.certificates.perturbations import attacks, bulleted, padded
from judging.comparison import in_order, pairwise
from judging.datasets import is_blank
from judging.records import Record, content_id

BASE, LENGTH, FORMAT = "base", "length", "format"
POINTWISE, POSITION = "pointwise", "position"
BLOCK_ROWS = 64


class ProbesConfig(Strict):
    """`certify.probes`: number of texts (or pairs) per task and data set for each probe; 0: the probe is off."""

    position: int = Field(
        60, ge=0, description="position bias: pairs of texts of one group, each judged in both orders"
    )
    length: int = Field(60, ge=0, description="verbosity bias: texts padded with sentences without content")
    format: int = Field(60, ge=0, description="format bias: texts rewritten as a list")
    injection: int = Field(20, ge=0, description="prompt injection: texts, each with every attack")
    rerun: int = Field(
        60, ge=0, description="test-retest consistency: texts judged again, with another seed and in another order"
    )
    own_family: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="self-preference bias: by judge, `system` patterns of its own model family, such as qwen*",
    )

    @property
    def num_texts(self) -> int:
        """Number of texts judged again unchanged, which is what every perturbed copy is compared with."""
        return max(self.length, self.format, self.injection, self.rerun)


class Copy(NamedTuple):
    """A record for a probe. `kind`: `base` (unchanged), `length`, `format`, or the name of an attack."""

    kind: str
    record: Record


def copies(records: Sequence[Record], config: ProbesConfig, seed: int) -> list[Copy]:
    """The perturbed copies, and the unchanged ones that they are compared with.

    A copy that is equal to its text (`format`) is left out.

    Args:
        records: those of one task and data set.
        config: how many records each probe takes.
        seed: of the sample of records.
    """
    chosen = _sampling_order(records, seed)
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
    """Pairs of records of one group. No record is in two pairs, and as many groups as possible have one.

    Args:
        records: those of one task and data set.
        config: `position` is the number of pairs.
        seed: of the order of the records.
    """
    groups: dict[str, list[Record]] = {}
    for record in _sampling_order(records, seed):
        groups.setdefault(record.group_key, []).append(record)
    largest = max(map(len, groups.values()), default=0)
    found = [
        (members[place], members[place + 1])
        for place in range(0, largest, 2)
        for members in groups.values()
        if len(members) > place + 1
    ]
    return found[: config.position]


def parts_by_dataset(records: Sequence[Record]) -> list[list[Record]]:
    """The records, split by task and data set."""
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
    """Run the judges on the copies and pairs, except where verdicts are on disk already. Ray must be running.

    Args:
        prepared: the finished evaluation.
        config: the configuration's `certify.probes`.
        records: the measured records, with the scores of selected aspects only.
        folder: where `pointwise/` and `position/` are written.
        seed: of the sample of records.
        judges: the judges to query; the panel's score is aggregated only if these are all judges.
    """
    run = prepared.evaluation.run
    evaluation = _of_judges(prepared, judges, folder / POINTWISE)
    wanted = list(dict.fromkeys((record.task, aspect) for record in records for aspect in record.scores))
    built = {name: evaluation.judge(name, wanted, prepared.pool) for name in evaluation.config.judges}
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
        # As in the served panel: pairs use the pairwise template, without few-shot examples. A fitted judge has learned
        # from prompts with one text.
        compared = {name: pairwise(judge, wanted) for name, judge in built.items() if not judge.is_fixed}
        ask_all(folder / POSITION, compared, evaluation.config.judges, run.models, aspects=None, seed=run.seed)


def _of_judges(prepared: Prepared, judges: Sequence[str], folder: Path) -> Evaluation:
    """The finished evaluation with `judges` only and its output in `folder`; without panel where one is missing."""
    run, config = prepared.evaluation.run, prepared.evaluation.config
    changes: dict[str, Any] = {"judges": {name: spec for name, spec in config.judges.items() if name in judges}}
    is_whole = len(changes["judges"]) == len(config.judges)
    if not is_whole:
        changes |= {"vote": VoteConfig(), "integrator": None}
    return dataclasses.replace(
        prepared.evaluation,
        # With the seed of `evaluate`, a second run on the same texts would repeat the first sample.
        run=run.model_copy(update={"seed": run.seed + 1}),
        config=config.model_copy(update={"aspects": None, **changes}),
        ballot=prepared.evaluation.ballot if is_whole else Ballot(VoteConfig()),
        folder=folder,
    )


def _sampling_order(records: Sequence[Record], seed: int) -> list[Record]:
    """Sorted by a hash of seed and id, so that a larger sample contains the smaller one. Without blank texts."""
    return sorted(
        (one for one in records if not is_blank(one.candidate)), key=lambda record: content_id(str(seed), record.id)
    )


def _changed(record: Record, candidate: str) -> Record:
    return dataclasses.replace(record, candidate=candidate)


def _write(folder: Path, records: Sequence[Record]) -> None:
    """Write `records/` as `evaluate` does: sorted by group, so that neighbours share a prompt prefix."""
    if (folder / "records").exists():
        return
    rows = [{**one.to_row(), "group_key": one.group_key} for one in sorted(records, key=lambda one: one.group_key)]
    folder.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder / "records") as beside:
        for number, start in enumerate(range(0, len(rows), BLOCK_ROWS)):
            table = pa.Table.from_pylist(rows[start : start + BLOCK_ROWS], schema=RECORD_SCHEMA)
            pq.write_table(table, beside / f"part-{number:06d}.parquet", compression="zstd")
