"""Systems and their differences -> one sentence that says what was found and how sure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evaluation.measure.formatting import one_line, with_interval
from judging.stats.additive_model import MIN_GROUPS
from judging.stats.estimate import Estimate
from judging.stats.systems import Difference, Ranking

MOST_NAMES = 4  # of systems in a list; more are counted
Named = Callable[[str], str]


def headline(ranking: Ranking, aspect: str, by: str = "", *, named: Named = one_line) -> str:
    """What one column of scores says about the systems, in one sentence.

    Args:
        ranking: by that column.
        aspect: its name.
        by: whose scores they are, such as `the panel`; empty: not said.
        named: a name as it is written in the sentence.
    """
    return sentence(
        [one.system for one in ranking.systems], ranking.differences, aspect, by, ranking.systems[0].mean, named=named
    )


def sentence(
    systems: Sequence[str],
    differences: Sequence[Difference],
    aspect: str,
    by: str = "",
    mean: Estimate | None = None,
    *,
    named: Named = one_line,
) -> str:
    """The same of any estimates.

    Args:
        systems: from the best to the worst.
        differences: of all pairs in that order.
        aspect: its name.
        by: whose scores they are; empty: not said.
        mean: of a single system.
        named: a name as it is written in the sentence.
    """
    found = _Found(systems, {(one.first, one.second): one for one in differences}, named(aspect), named, not by)
    words = found.only(mean) if len(systems) == 1 else found.words()
    return f"By {by}, {words}" if by else words


@dataclass(frozen=True)
class _Found:
    """`pairs`: by the raw names, in the order of `systems`. `aspect`: as it is written. `is_start`: of the sentence."""

    systems: Sequence[str]
    pairs: dict[tuple[str, str], Difference]
    aspect: str
    named: Named
    is_start: bool

    def only(self, mean: Estimate | None) -> str:
        of = f" a mean of {with_interval(mean)} on {self.aspect}" if mean else f" no mean on {self.aspect}"
        return f"{self.named(self.systems[0])} has{of}; no other system is compared."

    def words(self) -> str:
        first, *others = self.systems
        equals = [name for name in others if not self.pairs[first, name].is_told]
        better = [name for name in others if name not in equals]
        # Estimates pair by pair, as with few labels, may contradict the order.
        if not better or any(one.is_told and one.value.value < 0 for one in self.pairs.values()):
            return self._without_a_best()
        by = _by(self.pairs[first, better[0]])
        if not equals:
            than = "" if len(others) == 1 else f", than {self.named(others[0])}"
            return f"{self.named(first)} is better than {self._others()} on {self.aspect}{than} by {by}{self._rest()}."
        than = f", than {self.named(better[0])}" if len(better) > 1 else ""
        return (
            f"{self.named(first)} has the highest mean on {self.aspect} and cannot be told apart from "
            f"{self._listed(equals)}; it is better than {self._listed(better)}{than} by {by}."
        )

    def _without_a_best(self) -> str:
        """Of systems of which none can be told apart from the one with the highest mean."""
        told = [one for one in self.pairs.values() if one.is_told]
        if told:
            surest = min(told, key=lambda one: one.p)
            num = len(told) - 1
            more = f", and {num} more {'pair differs' if num == 1 else 'pairs differ'}" if num else ""
            if surest.value.value < 0:
                surest = replace(surest, first=surest.second, second=surest.first, value=surest.value.negative())
            return (
                f"{'No' if self.is_start else 'no'} system can be called the best on {self.aspect}; but "
                f"{self.named(surest.first)} is better than {self.named(surest.second)} by {_by(surest)}{more}."
            )
        is_pair = len(self.systems) == 2
        the = "The" if self.is_start else "the"
        which = self._listed(self.systems) if is_pair else f"{the} {len(self.systems)} systems"
        known = [one for one in self.pairs.values() if not math.isnan(one.value.low)]
        if not known:
            return f"{which} cannot be told apart on {self.aspect} (fewer than {MIN_GROUPS} shared groups)."
        largest = max(known, key=lambda one: abs(one.value.value))
        of_many = "" if is_pair else "largest difference: "
        names = f"{self.named(largest.first)} minus {self.named(largest.second)}"
        return f"{which} cannot be told apart on {self.aspect} ({of_many}{names}, {_by(largest)})."

    def _others(self) -> str:
        return self.named(self.systems[1]) if len(self.systems) == 2 else f"the other {len(self.systems) - 1} systems"

    def _rest(self) -> str:
        """Which neighbours among the others cannot be told apart."""
        neighbours = zip(self.systems, self.systems[1:], strict=False)
        open_pairs = [
            f"{self.named(first)} and {self.named(second)}"
            for first, second in neighbours
            if not self.pairs[first, second].is_told
        ]
        return f"; not told apart: {', '.join(open_pairs)}" if open_pairs else ""

    def _listed(self, names: Sequence[str]) -> str:
        """a; a and b; a, b and c; of many the first and the number of the others."""
        words = [*map(self.named, names)]
        if len(words) > MOST_NAMES:
            words = [*words[: MOST_NAMES - 1], f"{len(words) - MOST_NAMES + 1} others"]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _by(one: Difference) -> str:
    return f"{with_interval(one.value)} points"
