"""The columns, tasks, data sets and aspects in the files of a run, compared with what the `data` section names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from judging.columns import trimmed
from judging.data_config import DataConfig
from judging.errors import InputError
from judging.records import Record


@dataclass
class Names:
    """The columns, tasks, data sets and aspects in the files of a run, to check its settings against."""

    columns: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    datasets: set[str] = field(default_factory=set)
    rated: set[tuple[str, str]] = field(default_factory=set)  # task, aspect

    def columns_of(self, raw: Mapping[str, Any]) -> None:
        self.columns.update(map(trimmed, raw))

    def add(self, record: Record) -> None:
        self.tasks.add(record.task)
        self.datasets.add(record.dataset)
        self.rated.update((record.task, aspect) for aspect in (*record.scores, *record.ratings))

    def problem(self, data: DataConfig) -> InputError | None:
        """The error for the first setting of `data` that names something no file has; None: there is none."""
        if missing := [name for name in data.columns if trimmed(name) not in self.columns]:
            return InputError(
                f"data.columns: no file has a column {missing[0]!r}. The files have {_listed(self.columns)}.",
                code="unknown_key",
                key="data.columns",
            )
        mapped = {trimmed(theirs): ours.strip() for theirs, ours in data.columns.items()}
        held = {mapped.get(name, name) for name in self.columns}
        if missing := [one for one in data.systems if not held & {one, f"{one}.candidate"}]:
            return InputError(
                f"data.systems: no file has a column {missing[0]!r}. The files have {_listed(self.columns)}.",
                code="unknown_key",
                key="data.systems",
            )
        for task, aspects in data.aspects.items():
            if task not in self.tasks:
                return InputError(
                    f"data.aspects: no record has the task {task!r}. The records have {_listed(self.tasks)}.",
                    code="unknown_task",
                    key="data.aspects",
                )
            rated = {aspect for of, aspect in self.rated if of == task}
            if missing := [aspect for aspect in aspects if aspect not in rated]:
                return InputError(
                    f"data.aspects.{task}: no record is rated on {missing[0]!r}. Rated aspects: {_listed(rated)}.",
                    code="unknown_aspect",
                    key=f"data.aspects.{task}",
                )
        shares = data.groups_share if isinstance(data.groups_share, dict) else {}
        if missing := [name for name in shares if name not in self.datasets]:
            return InputError(
                f"data.groups_share: no record is of the data set {missing[0]!r}. "
                f"The records have {_listed(self.datasets)}.",
                code="unknown_dataset",
                key="data.groups_share",
            )
        return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(repr, names))) or "none"
