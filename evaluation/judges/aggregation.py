"""Aggregation of the judges' scores: a fixed rule, or what `inverdict panel` chose and learned on the dev part.

Batch and online use the same code. This file also reads the job's artefacts: `panel.yaml` and `votes.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, FiniteFloat, ValidationError

from cluster.artifacts import JobDir, read_json
from cluster.strict import Strict
from judging.comparison import both_orders
from judging.errors import InputError
from judging.records import Score, Verdict
from judging.stats.cascade import label_entropy
from judging.voting.stacked_vote import LearnedVote
from judging.voting.vote import TaughtRule, VoteRule, vote
from judging.voting.vote_io import load_votes

NOT_ASKED = "not_asked"
TAUGHT = ("learned", "best")  # rules that need the job `panel`
FOR_PAIRS = ("mean", "median", "weighted")  # rules that also aggregate preferences between two texts
Key = tuple[str, str]  # task and aspect


class CascadeConfig(Strict):
    """Query one judge first, and the others only for the texts where it is unsure."""

    first: str = Field(
        description="the judge to query first, with score_mode `expected`: its label probabilities give its certainty"
    )
    max_entropy: float = Field(
        ge=0,
        le=1,
        description="normalised entropy of the label probabilities, 0 (certain) to 1 (uniform); above it, or without a "
        "score, the other judges are queried",
    )

    def is_sure(self, score: float | None, probabilities: Sequence[float] | None) -> bool:
        """Whether the first judge's score is used alone."""
        return score is not None and bool(probabilities) and label_entropy(probabilities or ()) <= self.max_entropy

    def is_sure_of_pair(self, given: Verdict, turned: Verdict) -> bool:
        """Whether the first judge's preference is used alone: it is sure in both orders, which prefer the same text."""
        orders = (given, turned)
        return all(self.is_sure(one.score, one.label_probabilities) for one in orders) and bool(
            both_orders(*orders).is_consistent
        )


class VoteConfig(Strict):
    """How the judges' scores are aggregated to the panel's score."""

    rule: Literal["mean", "median", "majority", "weighted", "learned", "best"] = Field(
        "mean", description="learned, best: the weights or the judge that `inverdict panel` found on the dev part"
    )
    min_votes: int = Field(1, ge=1, description="minimum number of scores; below it: unscored `no_quorum`")
    weights: dict[str, FiniteFloat] = Field(default_factory=dict, description="weights by judge, for `weighted`")
    cascade: CascadeConfig | None = Field(None, description="query one judge first, and the others where it is unsure")


class Chosen(Strict):
    """One task and aspect of `panel.yaml`: the chosen judge, and why."""

    task: str
    aspect: str
    judge: str
    why: str
    num_rows: int
    num_groups: int
    candidates: dict[str, dict[str, Any]]


class PanelFile(Strict):
    """`panel.yaml`: for each task and aspect the judge chosen on the dev part."""

    criterion: str
    labels: str
    judges: dict[str, dict[str, Any]] = Field(description="configuration of every candidate judge")
    chosen: tuple[Chosen, ...]


@dataclass(frozen=True)
class Ballot:
    """Aggregates scores. `learned`, `best`: weights and chosen judges by (task, aspect), for these rules."""

    config: VoteConfig = field(default_factory=VoteConfig)
    learned: Mapping[Key, LearnedVote] = field(default_factory=dict)
    best: Mapping[Key, str] = field(default_factory=dict)

    def knows(self, rule: VoteRule | TaughtRule, task: str, aspect: str) -> bool:
        """Whether the rule can aggregate scores on that task and aspect.

        Args:
            rule: a fixed rule, which always can, or a learned one, which can where it was learned.
            task: the record's task.
            aspect: of the scores.
        """
        learned = {"learned": self.learned, "best": self.best}.get(rule)
        return learned is None or (task, aspect) in learned

    def check(self, wanted: Sequence[Key]) -> None:
        """Raises InputError where the configured rule was not learned for one of these tasks and aspects."""
        for task, aspect in wanted:
            if not self.knows(self.config.rule, task, aspect):
                raise InputError(
                    f"evaluate.vote.rule: {self.config.rule} was not learned for {task}/{aspect}. Run `inverdict "
                    "panel` on a dev part (data.dev or data.dev_share) with labels for it, or choose another rule.",
                    code="unknown_aspect",
                    key="evaluate.vote.rule",
                )

    def count(
        self,
        task: str,
        verdicts: Sequence[Verdict],
        *,
        rule: VoteRule | TaughtRule | None = None,
        min_votes: int | None = None,
    ) -> Score:
        """The panel's score of one aspect of one record.

        Args:
            task: the record's task.
            verdicts: of the judges, on one aspect. Without the best judge's, the rule `best` gives no score; judges
                that a cascade skipped do not count as missing.
            rule: overrides the configuration's.
            min_votes: overrides the configuration's.
        """
        verdicts = [verdict for verdict in verdicts if verdict.unscored != NOT_ASKED] or verdicts
        key = (task, verdicts[0].aspect)
        rule, min_votes = rule or self.config.rule, min_votes or self.config.min_votes
        best = self.best.get(key)
        if rule == "best" and not any(verdict.judge == best for verdict in verdicts):
            given = sum(verdict.score is not None for verdict in verdicts)
            return Score(verdicts[0].aspect, None, given, len(verdicts) - given, unscored="no_quorum")
        return vote(
            verdicts,
            rule,
            min_votes=min_votes,
            weights=self.config.weights,
            learned=self.learned.get(key),
            best=best,
        )


def pair_rule(rule: VoteRule | TaughtRule) -> VoteRule | TaughtRule:
    """The rule for preferences between two texts: the mean instead of one that counts labels or was learned."""
    return rule if rule in FOR_PAIRS else "mean"


def panel_folder(run: Path) -> Path:
    return run / "panel"


def load_panel(path: Path) -> PanelFile:
    """Read a `panel.yaml`. Raises InputError where it is missing or damaged."""
    try:
        return PanelFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror}. Run `inverdict panel` first.", code="missing_job"
        ) from error
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a valid panel file. Delete {path.parent} and run `inverdict panel` again.",
            code="damaged_artifact",
        ) from error


def ballot_of(
    run: Path,
    config: VoteConfig,
    judges: Mapping[str, Mapping[str, Any]],
    fitted: Mapping[str, Mapping[str, str]] | None = None,
) -> Ballot:
    """The aggregation that `config` describes; a learned rule is read from `{run}/panel`.

    Args:
        run: the run folder.
        config: the section `evaluate.vote`.
        judges: configuration by name, which must be that of the judges in `{run}/panel`.
        fitted: files of each fitted judge, name -> sha256, which must be those of the judges there.

    Raises:
        InputError: the job `panel` has not finished, or was run with other judges.
    """
    if config.rule not in TAUGHT:
        return Ballot(config)
    folder = panel_folder(run)
    if JobDir(run, "panel").manifest() is None:
        raise InputError(
            f"No finished `panel` found in {folder}, which the rule {config.rule} needs. Run `inverdict panel` first.",
            code="missing_job",
            key="evaluate.vote.rule",
        )
    known, fits = load_panel(folder / "panel.yaml"), _fits_of(folder)
    changed = [name for name, judge in judges.items() if known.judges.get(name) != judge]
    changed += [name for name, files in (fitted or {}).items() if fits.get(name) != files]
    if changed:
        raise InputError(
            f"evaluate.judges.{changed[0]} has changed since {folder} was made. Delete that folder and run `inverdict "
            "panel` again.",
            code="other_configuration",
            key=f"evaluate.judges.{changed[0]}",
        )
    best = {(one.task, one.aspect): one.judge for one in known.chosen}
    return Ballot(config, load_votes(folder / "votes.json"), best)


def _fits_of(folder: Path) -> Mapping[str, Any]:
    """The files of the fitted judges that the panel's votes were learned with."""
    known = read_json(folder / "evaluate" / "fingerprint.json") or {}
    found: Mapping[str, Any] = known.get("fitted") or {}
    return found


def panel_identity(run: Path, config: VoteConfig) -> Any:
    """What determines a learned rule, for fingerprints: the fingerprint of the job `panel`; None for other rules."""
    return read_json(panel_folder(run) / "fingerprint.json") if config.rule in TAUGHT else None


PANEL = "panel"
