"""The certificate of a judge or a panel for one task, data set and aspect: what it holds, its seal, its file.

A certificate says how well the scores agree with people, what taught and what was measured, what exactly was tested
(fingerprints), which biases were found, and whether stated criteria are met. The seal is a checksum over the whole: it
shows that nobody edited the file by hand. It is no signature: whoever can write the file can seal it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from judging.certificates.criteria import Criteria
from judging.errors import InputError
from judging.stats.bias import ProbeName
from judging.stats.estimate import Estimate
from judging.tasks import Strict, first_reason

FLOOR = "floor."
SHOWN_GROUPS = 20


class Figure(Strict):
    """A statistic with its company, as `estimate.Estimate`; null: undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    coverage: float | None
    num_undefined: int = 0
    dropped_share: float | None = 0.0

    @staticmethod
    def of(found: Estimate) -> Figure:
        return Figure.model_validate(found.to_json())


class ProbeResult(Strict):
    """One probe: its effect, and whether that is a bias (interval without 0, effect above the limit; or `worst`)."""

    name: ProbeName
    unit: str
    limit: float = Field(description="an effect up to this is too small to matter")
    effect: Figure | None = Field(None, description="null: not run, see `skipped`")
    biased: bool | None = Field(None, description="null: not run, or undefined")
    worst: str | None = Field(None, description="injection: the attack that alone surely passes the limit; null: none")
    num_groups: int = 0
    further: dict[str, Figure] = Field(default_factory=dict, description="shares of flips, each attack alone, ...")
    skipped: str | None = Field(None, description="why it was not run")


class Groups(Strict):
    """Groups (`Record.group_key`) of one kind: how many, a hash of all, and the first of them."""

    num_groups: int
    sha256: str
    first: tuple[str, ...]

    @staticmethod
    def of(keys: Iterable[str]) -> Groups:
        known = sorted(set(keys))
        return Groups(num_groups=len(known), sha256=_sha256(known), first=tuple(known[:SHOWN_GROUPS]))


class Split(Strict):
    """Which groups have taught, by where (pool, prompts, dev), and which were measured; no group is in both."""

    taught: dict[str, Groups]
    measured: Groups
    measured_ids_sha256: str


class Fingerprints(Strict):
    """What was tested, by short sha256: the same things must run where the certificate is to count."""

    code: str
    models: dict[str, str] = Field(description="by judge (and `integrator`)")
    templates: dict[str, str] = Field(description="by judge")
    settings: dict[str, str] = Field(description="by judge: score mode, examples, label mass, sampling")
    retriever: str | None = Field(description="pool and indexes, where a judge shows examples")
    weights: str | None = Field(description="the panel's vote: rule, weights, integrating model")


class Holding(Strict):
    """Whether the criteria are met: `met` and `failed` list each criterion in a sentence."""

    holds: bool
    met: tuple[str, ...]
    failed: tuple[str, ...]


class Certificate(Strict):
    """All that is known of one judge or panel on one task, data set and aspect."""

    format: Literal[1] = 1
    subject: str = Field(description="the judge's name, or `panel`")
    kind: Literal["judge", "panel"]
    judges: tuple[str, ...] = Field(description="who scored: the judge, or the panel's members")
    task: str
    dataset: str
    aspect: str
    scale: tuple[float, float]
    score_modes: dict[str, str] = Field(description="by judge: expected or parsed")
    labels: Literal["human", "constructed"]
    date: str = Field(description="UTC")
    num_rows: int
    num_groups: int
    num_systems: int
    coverage: float = Field(description="scored rows among the rows with a label")
    unscored: dict[str, int]
    agreement: dict[str, Figure] = Field(description="by dotted name, such as group.spearman")
    chance: dict[str, Figure] = Field(description="the same statistics of shuffled scores; low, high: the middle 95 %")
    length: dict[str, Figure] = Field(description="the same with the candidate's number of characters as the score")
    minus_length: dict[str, Figure] = Field(description="paired differences to that baseline")
    human_ceiling: dict[str, Figure] | None = Field(description="one rater against the others; null: no ratings")
    split: Split
    fingerprints: Fingerprints
    versions: dict[str, str] = Field(description="packages; for information")
    probes: tuple[ProbeResult, ...]
    criteria: Criteria
    verdict: Holding
    seal: str = Field("", description="sha256 over all the rest; a check against edits, not a signature")

    @property
    def title(self) -> str:
        return f"{self.subject}: {self.task} / {self.dataset or 'records'} / {self.aspect}"

    def sealed(self) -> Certificate:
        return self.model_copy(update={"seal": self._digest()})

    @property
    def is_sealed(self) -> bool:
        """Whether the seal fits the content."""
        return self.seal == self._digest()

    def to_text(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"

    def _digest(self) -> str:
        content = self.model_dump(mode="json", exclude={"seal"})
        for probe in content["probes"]:
            if probe["worst"] is None:  # a file from before that field is no other file
                del probe["worst"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load_certificate(path: Path) -> Certificate:
    """The certificate in the file. Raises InputError where it is none, or was changed after it was written."""
    try:
        found = Certificate.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"{path} is no certificate ({first_reason(error)}): delete it and certify again") from error
    if not found.is_sealed:
        raise InputError(
            f"{path} was changed after it was written (its seal does not fit): "
            "delete it and run `inverdict certify` again"
        )
    return found


def figures(found: Mapping[str, Estimate]) -> dict[str, Figure]:
    """Estimates as figures, without the chance floor's."""
    return {name: Figure.of(one) for name, one in found.items() if not name.startswith(FLOOR)}


def floor_figures(found: Mapping[str, Estimate]) -> dict[str, Figure]:
    """The chance floor's, by the names of the statistics that they belong to."""
    return {name.removeprefix(FLOOR): Figure.of(one) for name, one in found.items() if name.startswith(FLOOR)}


def ids_hash(ids: Sequence[str]) -> str:
    """sha256 of the measured rows' ids, in any order."""
    return _sha256(sorted(ids))


def _sha256(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()
