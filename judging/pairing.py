"""Which candidates are compared: pairs of records of one group by two systems. Knows no judge and no files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, groupby
from typing import NamedTuple

from judging.comparison import pair_id
from judging.datasets import is_blank
from judging.records import Record, content_id
from judging.tasks import load_task

EMPTY, OTHER_FIELDS = "empty", "other_fields"


class Against(NamedTuple):
    """Which pairs of a group: all, those with the system `system`, or at most `sample` comparable ones, by hash."""

    system: str | None = None
    sample: int | None = None


class Pair(NamedTuple):
    """Two candidates of one group, in the order of their systems' names."""

    first: Record
    second: Record

    @property
    def id(self) -> str:
        return pair_id(self.first.id, self.second.id)

    @property
    def unscored(self) -> str | None:
        """Why they cannot be compared, or None: a candidate is blank, or the further texts in the prompt differ."""
        if is_blank(self.first.candidate) or is_blank(self.second.candidate):
            return EMPTY
        one, other = self.first.fields, self.second.fields
        if one == other:
            return None
        shown = [field.name for field in load_task(self.first.task).fields]
        return None if all(one.get(name) == other.get(name) for name in shown) else OTHER_FIELDS

    @property
    def is_identical(self) -> bool:
        """Whether the texts differ in white space at most: a tie, about which no judge is queried."""
        return self.first.candidate.split() == self.second.candidate.split()

    @property
    def is_asked(self) -> bool:
        """Whether judges are queried about it."""
        return self.unscored is None and not self.is_identical

    def aspects(self, chosen: Sequence[str] | None) -> tuple[str, ...]:
        """The aspects to compare by: `chosen`; None: those rated on both, or else the task's first aspect."""
        if chosen is not None:
            return tuple(chosen)
        known = load_task(self.first.task).aspects
        both = self.first.scores.keys() & self.second.scores.keys()
        return tuple(aspect for aspect in known if aspect in both) or tuple(known)[:1]

    def labels(self, aspect: str) -> tuple[float, float] | None:
        """The human scores of both in points of the first's scale; None: one of them is not rated."""
        if aspect not in self.first.scores or aspect not in self.second.scores:
            return None
        return self.first.scores[aspect], self.second.score_on(aspect, self.first.scales[aspect])


def pairs_of(records: Iterable[Record], against: Against, seed: int) -> Iterator[Pair]:
    """The pairs of the groups among the records; a record without a system is in none.

    Neither the order of the records nor other groups change the pairs of a group.

    Args:
        records: whole groups, each contiguous.
        against: which pairs.
        seed: of the sample.
    """
    for _, members in groupby(records, key=lambda record: record.group_key):
        named = sorted((one for one in members if one.system), key=lambda one: (one.system, one.id))
        found = [Pair(*both) for both in combinations(named, 2) if both[0].system != both[1].system]
        if against.system is not None:
            found = [pair for pair in found if against.system in (pair.first.system, pair.second.system)]
        if against.sample is not None:
            by_id = {pair.id: pair for pair in found if pair.unscored is None}
            drawn = set(sorted(by_id, key=lambda id: content_id(str(seed), id))[: against.sample])
            found = [pair for id, pair in by_id.items() if id in drawn]
        yield from found
