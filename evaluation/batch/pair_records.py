"""The pairs among an evaluation's records: whether there are any, and both orders of each as records on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cluster.artifacts import whole_folder
from cluster.parts import parts_of, write_part
from evaluation.batch.config import Evaluation
from evaluation.batch.ingest import BlockWriter, iter_rows
from evaluation.batch.pairs_config import KEY, PairsConfig
from evaluation.batch.verdicts import NO_TOKENS, OWN_FAMILY, VERDICT_SCHEMA
from judging.comparison import in_order, pair_id
from judging.errors import InputError
from judging.judge import Judge
from judging.pairing import Pair, pairs_of
from judging.records import Record
from judging.self_preference import own_family
from judging.tasks import load_task

MAX_NAMES = 10  # of systems in an error


class Found(NamedTuple):
    """The pairs among the records. `keys`: their tasks and aspects; `num_alone`: groups without a pair."""

    keys: tuple[tuple[str, str], ...]
    num_pairs: int
    num_alone: int
    num_nameless: int


def pairs_section(evaluation: Evaluation) -> PairsConfig:
    """The section `evaluate.pairs`, which the configuration must have."""
    assert evaluation.config.pairs is not None
    return evaluation.config.pairs


def compared_aspects(evaluation: Evaluation) -> tuple[str, ...] | None:
    """The configured aspects; None: those that both texts of a pair are rated on."""
    return pairs_section(evaluation).aspects or evaluation.config.aspects


def pairs_by_part(evaluation: Evaluation) -> Iterator[tuple[list[Record], list[Pair]]]:
    """The records of each part, which has whole groups, and their pairs."""
    against, seed = pairs_section(evaluation).chosen_pairs(), evaluation.run.seed
    for part in parts_of(evaluation.folder / "records"):
        records = [Record.from_row(row) for row in iter_rows([part])]
        yield records, list(pairs_of(records, against, seed))


def both_keys(evaluation: Evaluation, pair: Pair) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """For each aspect of the pair its (record id, aspect) in the given and in the reversed order."""
    turned = pair_id(pair.second.id, pair.first.id)
    for aspect in pair.aspects(compared_aspects(evaluation)):
        yield (pair.id, aspect), (turned, aspect)


def find_pairs(evaluation: Evaluation) -> Found:
    """Count the pairs among the records. Raises InputError where there are none."""
    systems: set[str] = set()
    keys: dict[tuple[str, str], None] = {}
    paired: set[str] = set()
    num_groups = num_nameless = num_pairs = num_comparable = 0
    for records, pairs in pairs_by_part(evaluation):
        systems |= {record.system for record in records if record.system}
        num_nameless += sum(not record.system for record in records)
        num_groups += len({record.group_key for record in records})
        for pair in pairs:
            paired.add(pair.first.group_key)
            keys |= dict.fromkeys((pair.first.task, aspect) for aspect in pair.aspects(compared_aspects(evaluation)))
            num_pairs += 1
            num_comparable += pair.is_asked
    if problem := _problem(pairs_section(evaluation), systems, num_pairs, num_comparable) or _unknown_aspect(keys):
        raise problem
    return Found(tuple(keys), num_pairs, num_groups - len(paired), num_nameless)


def _problem(config: PairsConfig, systems: set[str], num_pairs: int, num_comparable: int) -> InputError | None:
    """Why nothing can be compared, or None."""
    names = ", ".join(sorted(systems)[:MAX_NAMES]) + (", ..." if len(systems) > MAX_NAMES else "")
    if not systems:
        what, code = "no record names its `system`. Add the column (data.columns), or remove the section", "no_systems"
    elif len(systems) == 1:
        what, code = f"all records are of the system {names}. Add candidates of another one", "not_enough_systems"
    elif (wanted := config.chosen_pairs().system) is not None and wanted not in systems:
        return InputError(
            f"`{KEY}.against`: unknown system {wanted!r}. The records have {names}.",
            code="unknown_system",
            key=f"{KEY}.against",
        )
    elif not num_pairs:
        what, code = "no group has candidates of two systems. Give those of one source the same `group`", "no_pairs"
    elif not num_comparable:
        what, code = (
            "in every pair a candidate is blank, or both have the same text or other further texts. Check the records",
            "no_pairs",
        )
    else:
        return None
    return InputError(f"`{KEY}`: {what}.", code=code, key=KEY)


def _unknown_aspect(keys: Iterable[tuple[str, str]]) -> InputError | None:
    for task, aspect in keys:
        if aspect not in (known := load_task(task).aspects):
            return InputError(
                f"`{KEY}.aspects`: the task {task!r} has no aspect {aspect!r}; it has {', '.join(known)}.",
                code="unknown_aspect",
                key=f"{KEY}.aspects",
            )
    return None


def write_pair_records(evaluation: Evaluation, folder: Path) -> None:
    """Both orders of each pair as records; those with the same first text follow each other, and share a prefix."""
    if folder.exists():
        return
    with whole_folder(folder) as beside, BlockWriter(beside, evaluation.config.block_rows) as blocks:
        for _, pairs in pairs_by_part(evaluation):
            asked = [pair for pair in pairs if pair.is_asked]
            orders = [both for pair in asked for both in ((pair.first, pair.second), (pair.second, pair.first))]
            for first, second in sorted(orders, key=lambda both: (both[0].group_key, both[0].id)):
                blocks.add({**in_order(first, second).to_row(), "group_key": first.group_key})


def leave_out_own_family(evaluation: Evaluation, judges: Mapping[str, Judge], folder: Path) -> None:
    """Write `own_family` verdicts on both orders of the pairs with a text of a system that a judge must not score."""
    for judge in judges.values():
        for _, pairs in pairs_by_part(evaluation) if judge.not_systems else ():
            own = [
                pair
                for pair in pairs
                if pair.is_asked and any(own_family(judge.not_systems, one.system) for one in (pair.first, pair.second))
            ]
            rows = [
                {"id": id, "aspect": aspect, "mode": judge.mode, "unscored": OWN_FAMILY, **NO_TOKENS}
                for pair in own
                for orders in both_keys(evaluation, pair)
                for id, aspect in orders
            ]
            if rows:
                (folder / judge.name).mkdir(parents=True, exist_ok=True)
                write_part(folder / judge.name, rows, VERDICT_SCHEMA, (f"{row['id']}/{row['aspect']}" for row in rows))
