"""The certificate of a judge or a panel for one task, data set and aspect: its content, its seal, its file.

A certificate holds the agreement with human scores, the training and test groups, what was tested
(fingerprints), the biases found, and whether the criteria are met. The seal is a checksum of the content: it detects
edits by hand. It is not a signature: whoever can write the file can seal it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError

from judging.certificates.criteria import Criteria
from judging.errors import InputError
from judging.file_errors import first_problem
from judging.stats.bias import ProbeName
from judging.stats.estimate import Estimate
from judging.tasks import Strict

FLOOR = "floor."
SHOWN_GROUPS = 20


class Figure(Strict):
    """A statistic with n, coverage and interval, as `estimate.Estimate`; null: undefined."""

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
    """One probe: its effect, and whether it is a bias (interval excludes 0, effect above the limit; or `worst`)."""

    name: ProbeName
    unit: str
    limit: float = Field(description="effects up to this limit are not a bias")
    effect: Figure | None = Field(None, description="null: not run, see `skipped`")
    biased: bool | None = Field(None, description="null: not run, or undefined")
    worst: str | None = Field(None, description="injection: the attack that alone surely exceeds the limit; null: none")
    num_groups: int = 0
    further: dict[str, Figure] = Field(default_factory=dict, description="shares of flips, each attack alone, ...")
    skipped: str | None = Field(None, description="why the probe was not run")


class Groups(Strict):
    """Groups (`Record.group_key`) of one kind: their number, a hash of all keys, and the first keys."""

    num_groups: int
    sha256: str
    first: tuple[str, ...]

    @staticmethod
    def of(keys: Iterable[str]) -> Groups:
        known = sorted(set(keys))
        return Groups(num_groups=len(known), sha256=_sha256(known), first=tuple(known[:SHOWN_GROUPS]))


class Split(Strict):
    """The groups used for training or selection, by source (pool, prompts, dev), and the measured ones; disjoint."""

    taught: dict[str, Groups]
    measured: Groups
    measured_ids_sha256: str


class Fingerprints(Strict):
    """What was tested, by short sha256: the certificate is valid only where the same is run."""

    code: str
    models: dict[str, str] = Field(description="by judge (and `integrator`)")
    templates: dict[str, str] = Field(description="by judge")
    settings: dict[str, str] = Field(description="by judge: score mode, examples, label mass, sampling")
    retriever: str | None = Field(description="pool and indexes, where a judge shows examples")
    weights: str | None = Field(description="the panel's vote: rule, weights, integrating model")


class Holding(Strict):
    """Whether the criteria are met; `met` and `failed` hold one sentence per criterion."""

    holds: bool
    met: tuple[str, ...]
    failed: tuple[str, ...]


class Sealed(Strict):
    """A file whose seal fits its content."""

    seal: str = Field("", description="sha256 of all other fields; detects edits, not a signature")

    def sealed(self) -> Self:
        return self.model_copy(update={"seal": self._digest()})

    @property
    def is_sealed(self) -> bool:
        """Whether the seal fits the content."""
        return self.seal == self._digest()

    def to_text(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"

    def _sealed_content(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"seal"})

    def _digest(self) -> str:
        text = json.dumps(self._sealed_content(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


class Certificate(Sealed):
    """The measured agreement and biases of one judge or panel on one task, data set and aspect."""

    format: Literal[1] = 1
    subject: str = Field(description="the judge's name, or `panel`")
    kind: Literal["judge", "panel"]
    judges: tuple[str, ...] = Field(description="the judge, or the panel's members")
    task: str
    dataset: str
    aspect: str
    scale: tuple[float, float]
    score_modes: dict[str, str] = Field(description="by judge: expected, parsed, fitted or feature")
    labels: Literal["human", "constructed"]
    date: str = Field(description="UTC")
    num_rows: int
    num_groups: int
    num_systems: int
    coverage: float = Field(description="scored rows among the rows with a label")
    unscored: dict[str, int]
    agreement: dict[str, Figure] = Field(description="by dotted name, such as group.spearman")
    chance: dict[str, Figure] = Field(description="the same statistics of shuffled scores; low, high: the middle 95 %")
    length: dict[str, Figure] = Field(description="the same, with the candidate's number of characters as the score")
    minus_length: dict[str, Figure] = Field(description="paired differences to the length baseline")
    human_ceiling: dict[str, Figure] | None = Field(description="one rater against the others; null: no single ratings")
    split: Split
    fingerprints: Fingerprints
    versions: dict[str, str] = Field(description="versions of packages; for information")
    probes: tuple[ProbeResult, ...]
    criteria: Criteria
    verdict: Holding

    @property
    def title(self) -> str:
        return f"{self.subject}: {self.task} / {self.dataset or 'records'} / {self.aspect}"

    def _sealed_content(self) -> dict[str, Any]:
        content = super()._sealed_content()
        for probe in content["probes"]:
            if probe["worst"] is None:  # files without the field keep their seal
                del probe["worst"]
        return content


class PairCertificate(Sealed):
    """How often one judge or panel prefers the text that people prefer, on one task, data set and aspect."""

    format: Literal[1] = 1
    subject: str = Field(description="the judge's name, or `panel`")
    judges: tuple[str, ...] = Field(description="the judge, or the panel's members that compare")
    task: str
    dataset: str
    aspect: str
    labels: Literal["human", "constructed"]
    date: str = Field(description="UTC")
    num_pairs: int = Field(description="pairs of two rated texts that people do not tie")
    num_groups: int
    num_systems: int
    coverage: float = Field(description="scored pairs among them")
    unscored: dict[str, int]
    accuracy: Figure = Field(description="share of the pairs where the judge prefers the same text, a tie half")
    length: Figure = Field(description="the same of preferring the longer text")
    minus_length: Figure = Field(description="paired difference")
    position: ProbeResult = Field(description="preference for the text shown first, over all pairs")
    tie_margin: float
    split: Split
    fingerprints: Fingerprints
    versions: dict[str, str] = Field(description="versions of packages; for information")
    criteria: Criteria
    verdict: Holding

    @property
    def title(self) -> str:
        return f"{self.subject}: {self.task} / {self.dataset or 'records'} / {self.aspect}: pairs"


Kind = TypeVar("Kind", Certificate, PairCertificate)


def load_certificate(path: Path, kind: type[Kind]) -> Kind:
    """The certificate in the file. Raises InputError where it is not one, or was edited after it was written."""
    try:
        found = kind.model_validate_json(path.read_bytes())
    except OSError as error:
        code = "missing_file" if isinstance(error, FileNotFoundError) else "unreadable_file"
        raise InputError(f"{path} cannot be read: {error.strerror}", code=code) from error
    except ValidationError as error:
        first = first_problem(error)
        raise InputError(
            f"{path} is not a valid certificate ({first.message}). Delete it and run `inverdict certify` again.",
            code="damaged_artifact",
            key=first.key,
        ) from error
    if not found.is_sealed:
        raise InputError(
            f"{path} was edited after it was written (its seal does not match). "
            "Delete it and run `inverdict certify` again.",
            code="damaged_artifact",
        )
    return found


def figures(found: Mapping[str, Estimate]) -> dict[str, Figure]:
    """Estimates as figures, without those of the chance baseline."""
    return {name: Figure.of(one) for name, one in found.items() if not name.startswith(FLOOR)}


def floor_figures(found: Mapping[str, Estimate]) -> dict[str, Figure]:
    """The figures of the chance baseline, by the names of the statistics they belong to."""
    return {name.removeprefix(FLOOR): Figure.of(one) for name, one in found.items() if name.startswith(FLOOR)}


def ids_hash(ids: Sequence[str]) -> str:
    """sha256 of the measured rows' ids, in any order."""
    return _sha256(sorted(ids))


def _sha256(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()
