"""Evaluates the probes: verdicts on perturbed copies and pairs -> each probe's effect for one judge and slice.

Reads the output of probe_runs.py. The statistics are those of judging/stats/bias.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from evaluation.batch.scores import VerdictsOnDisk
from evaluation.certification.probe_runs import (
    BASE,
    FORMAT,
    LENGTH,
    POINTWISE,
    POSITION,
    ProbesConfig,
    copy_id,
    pairs,
)
from evaluation.judges.aggregation import PANEL, VoteConfig, pair_rule
from judging.certificates.certificate import Figure, ProbeResult
from judging.certificates.criteria import Limits
from judging.certificates.perturbations import attacks
from judging.comparison import pair_id
from judging.records import Record, Scale, Verdict
from judging.self_preference import own_family as is_of_family
from judging.stats.bias import (
    KINDS,
    ProbeName,
    first_preference,
    flip_share,
    is_biased,
    order_flip_share,
    own_family,
    raised_share,
    shift,
    worst_attack,
)
from judging.stats.estimate import Estimate
from judging.tasks import load_task
from judging.voting.vote import vote

OFF = "disabled in certify.probes"
NOT_SAMPLED = "no text of this slice was sampled"


@dataclass(frozen=True)
class Slice:
    """One task, data set and aspect: its labelled rows of scores.parquet, and their records."""

    task: str
    dataset: str
    aspect: str
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    records: Sequence[Record] = field(repr=False)

    @property
    def scale(self) -> Scale:
        """The scale of the labels."""
        return Scale(self.rows[0]["scale_low"], self.rows[0]["scale_high"])


class Found(NamedTuple):
    """A probe's effect, further statistics, and the effect of each attack alone."""

    effect: Estimate
    num_groups: int
    further: Mapping[str, Estimate] = MappingProxyType({})
    attacks: Mapping[str, Estimate] = MappingProxyType({})


class Probed:
    """The scores of the copies and pairs on disk, and the probes computed from them.

    Args:
        folder: where `probe_runs.judge_probes` wrote.
        config: the configuration's `certify.probes`.
        limits: effects up to these are not a bias.
        judges: the judges that were queried.
        rule: how the panel aggregates.
        seed: of the sample of records and of the bootstrap.
        resamples: bootstrap resamples of groups.
    """

    def __init__(
        self,
        folder: Path,
        config: ProbesConfig,
        limits: Limits,
        judges: Sequence[str],
        rule: VoteConfig,
        *,
        seed: int,
        resamples: int,
    ) -> None:
        self._config, self._limits, self._rule, self._seed = config, limits, rule, seed
        self._settings: dict[str, Any] = {"resamples": resamples, "seed": seed}
        scores = folder / POINTWISE / "scores.parquet"
        rows = pq.read_table(scores).to_pylist() if scores.exists() else []
        self._copies = {(row["id"], row["aspect"]): row for row in rows}
        compared = folder / POSITION / "verdicts"
        self._compared = {name: VerdictsOnDisk(compared / name) for name in judges if (compared / name).is_dir()}

    def results(self, part: Slice, column: str) -> tuple[ProbeResult, ...]:
        """All probes of the judge `column`, or of the panel, on one slice."""
        work: dict[ProbeName, Callable[[Slice, str], Found | str]] = {
            "position": self._position,
            "length": self._length,
            "format": self._format,
            "own_family": self._own_family,
            "injection": self._injection,
            "rerun": self._rerun,
        }
        return tuple(self._result(name, probe(part, column)) for name, probe in work.items())

    def _result(self, name: ProbeName, found: Found | str) -> ProbeResult:
        kind, limit = KINDS[name], self._limits.of(name)
        if isinstance(found, str):
            return ProbeResult(name=name, unit=kind.unit, limit=limit, skipped=found)
        worst = worst_attack(found.attacks, limit)
        return ProbeResult(
            name=name,
            unit=kind.unit,
            limit=limit,
            effect=Figure.of(found.effect),
            biased=True if worst else is_biased(found.effect, limit, one_sided=kind.one_sided),
            worst=worst,
            num_groups=found.num_groups,
            further={key: Figure.of(one) for key, one in {**found.further, **found.attacks}.items()},
        )

    def _length(self, part: Slice, column: str) -> Found | str:
        return self._shifted(self._config.length, LENGTH, part, column)

    def _format(self, part: Slice, column: str) -> Found | str:
        return self._shifted(self._config.format, FORMAT, part, column)

    def _shifted(self, number: int, kind: str, part: Slice, column: str) -> Found | str:
        if number == 0:
            return OFF
        before, after, group = self._before_and_after([kind], part, column)
        if not group:
            return "no perturbation changed a text of this slice"
        return Found(shift(before, after, group, width=part.scale.width, **self._settings), len(set(group)))

    def _injection(self, part: Slice, column: str) -> Found | str:
        if self._config.injection == 0:
            return OFF
        names = [attack.name for attack in attacks()]
        before, after, group = self._before_and_after(names, part, column)
        if not group:
            return NOT_SAMPLED
        width = part.scale.width
        raised = {"raised_share": raised_share(before, after, group, **self._settings)}
        alone = {
            name: shift(*self._before_and_after([name], part, column), width=width, **self._settings) for name in names
        }
        return Found(shift(before, after, group, width=width, **self._settings), len(set(group)), raised, alone)

    def _before_and_after(
        self, kinds: Sequence[str], part: Slice, column: str
    ) -> tuple[list[float | None], list[float | None], list[str]]:
        """Scores of the unchanged and of the changed copies, and their groups."""
        before: list[float | None] = []
        after: list[float | None] = []
        group: list[str] = []
        for row in part.rows:
            base = self._copies.get((copy_id(BASE, row["id"]), part.aspect))
            for kind in kinds if base else ():
                changed = self._copies.get((copy_id(kind, row["id"]), part.aspect))
                if base and changed:
                    before.append(base[f"{column}.score"])
                    after.append(changed[f"{column}.score"])
                    group.append(row["group"])
        return before, after, group

    def _rerun(self, part: Slice, column: str) -> Found | str:
        if self._config.rerun == 0:
            return OFF
        # Compare on the judge's own scale, where a label is one step; the scale of the human scores may be finer.
        own = load_task(part.task).scale_of(part.aspect)
        both_runs = [(row, self._copies.get((copy_id(BASE, row["id"]), part.aspect))) for row in part.rows]
        known = [(row, again) for row, again in both_runs if again]
        if not known:
            return NOT_SAMPLED
        first, second = (
            [None if one is None else part.scale.rescale(one, own) for one in column_of]
            for column_of in zip(
                *((row[f"{column}.score"], again[f"{column}.score"]) for row, again in known), strict=True
            )
        )
        group = [row["group"] for row, _ in known]
        return Found(flip_share(first, second, group, **self._settings), len(set(group)))

    def _own_family(self, part: Slice, column: str) -> Found | str:
        patterns = self._config.own_family.get(column)
        if not patterns:
            return "no patterns in certify.probes.own_family"
        is_own = [is_of_family(patterns, row["system"]) for row in part.rows]
        if all(is_own) or not any(is_own):
            return f"{'all' if any(is_own) else 'none'} of the texts are of the judge's own model family"
        if not any(own and row[f"{column}.score"] is not None for own, row in zip(is_own, part.rows, strict=True)):
            return "the judge scored no text of its own model family"
        group = [row["group"] for row in part.rows]
        score, human = [row[f"{column}.score"] for row in part.rows], [row["label"] for row in part.rows]
        effect = own_family(score, human, is_own, group, width=part.scale.width, **self._settings)
        return Found(effect, len(set(group)))

    def _position(self, part: Slice, column: str) -> Found | str:
        if self._config.position == 0:
            return OFF
        chosen = [
            (one, other)
            for one, other in pairs(part.records, self._config, self._seed)
            if part.aspect in one.scores and part.aspect in other.scores
        ]
        if not chosen:
            return "no group of this slice has two texts"
        if column not in (PANEL, *self._compared) or not self._compared:
            return "fitted judges and text features do not compare two texts"
        given = [self._preferred(column, one, other, part.aspect) for one, other in chosen]
        turned = [self._preferred(column, other, one, part.aspect) for one, other in chosen]
        group = [one.group for one, _ in chosen]
        flips = {"flip_share": order_flip_share(given, turned, group, **self._settings)}
        return Found(first_preference(given, turned, group, **self._settings), len(set(group)), flips)

    def _preferred(self, column: str, first: Record, second: Record, aspect: str) -> float | None:
        """1 to 2: the first or the second text is preferred. The panel uses `pair_rule`, as when it is served."""
        key = (pair_id(first.id, second.id), aspect)
        verdicts = {name: known.of([key])[key] for name, known in self._compared.items()}
        if column != PANEL:
            score: float | None = verdicts[column]["score"]
            return score
        votes = [Verdict(name, aspect, row["score"], row["mode"], row["unscored"]) for name, row in verdicts.items()]
        return vote(votes, pair_rule(self._rule.rule), min_votes=self._rule.min_votes, weights=self._rule.weights).score
