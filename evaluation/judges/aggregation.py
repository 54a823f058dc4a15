"""How the judges' scores become the panel's: a fixed rule, or what `inverdict panel` chose and learned on a dev part.

Batch and online count votes here alike. What the job leaves is read here: `panel.yaml` and `votes.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, FiniteFloat, ValidationError

from cluster.artifacts import JobDir, read_json
from cluster.config import Strict
from judging.errors import InputError
from judging.records import Score, Verdict
from judging.stats.cascade import label_entropy
from judging.voting.stacked_vote import LearnedVote
from judging.voting.vote import TaughtRule, VoteRule, vote
from judging.voting.vote_io import load_votes

NOT_ASKED = "not_asked"
TAUGHT = ("learned", "best")  # rules that the job `panel` decides
Key = tuple[str, str]  # task and aspect


class CascadeConfig(Strict):
    """One judge first; the others only about the texts where it is unsure."""

    first: str = Field(description="a judge in `expected` mode: its labels' probabilities say how sure it is")
    max_entropy: float = Field(
        ge=0,
        le=1,
        description="entropy of the labels, 0 sure to 1 no idea; above it, or unscored, the others are asked",
    )

    def is_sure(self, score: float | None, probabilities: Sequence[float] | None) -> bool:
        """Whether the first judge's answer stands alone."""
        return score is not None and bool(probabilities) and label_entropy(probabilities or ()) <= self.max_entropy


class VoteConfig(Strict):
    """How the judges' scores become the panel's."""

    rule: Literal["mean", "median", "majority", "weighted", "learned", "best"] = Field(
        "mean", description="learned, best: as `inverdict panel` learned and chose on the dev part"
    )
    min_votes: int = Field(1, ge=1, description="fewer scores than this: unscored no_quorum")
    weights: dict[str, FiniteFloat] = Field(default_factory=dict, description="by judge, for the rule `weighted`")
    cascade: CascadeConfig | None = Field(None, description="ask one judge first, the others where it is unsure")


class Chosen(Strict):
    """One task and aspect of `panel.yaml`: the judge that was chosen, and why."""

    task: str
    aspect: str
    judge: str
    why: str
    num_rows: int
    num_groups: int
    candidates: dict[str, dict[str, Any]]


class PanelFile(Strict):
    """`panel.yaml`: for each task and aspect the judge that the dev part chose."""

    criterion: str
    labels: str
    judges: dict[str, dict[str, Any]] = Field(description="configuration of each judge that could be chosen")
    chosen: tuple[Chosen, ...]


@dataclass(frozen=True)
class Ballot:
    """`learned` and `best` by task and aspect, for the rules of these names."""

    config: VoteConfig = field(default_factory=VoteConfig)
    learned: Mapping[Key, LearnedVote] = field(default_factory=dict)
    best: Mapping[Key, str] = field(default_factory=dict)

    def knows(self, rule: VoteRule | TaughtRule, task: str, aspect: str) -> bool:
        """Whether the rule can count votes on that task and aspect: a taught one only where it was learned."""
        taught = {"learned": self.learned, "best": self.best}.get(rule)
        return taught is None or (task, aspect) in taught

    def check(self, wanted: Sequence[Key]) -> None:
        """Raises InputError where the configured rule knows nothing of a task and aspect."""
        for task, aspect in wanted:
            if not self.knows(self.config.rule, task, aspect):
                raise InputError(
                    f"evaluate.vote.rule: {self.config.rule} knows no {task}/{aspect}, which is to be judged: the dev "
                    "part (data.dev_share) had no labels for it when `inverdict panel` was run"
                )

    def count(
        self,
        task: str,
        verdicts: Sequence[Verdict],
        *,
        rule: VoteRule | TaughtRule | None = None,
        min_votes: int | None = None,
    ) -> Score:
        """The panel's score of one aspect of one record. `rule`, `min_votes`: instead of the configuration's.

        A best judge that is not among the verdicts abstains; a judge that a cascade left out is no part of the panel.
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


def panel_folder(run: Path) -> Path:
    return run / "panel"


def load_panel(path: Path) -> PanelFile:
    """A `panel.yaml`. Raises InputError where it is missing or has been broken."""
    try:
        return PanelFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): run `inverdict panel` first") from error
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no panel file as `inverdict panel` writes it: run that job again") from error


def ballot_of(run: Path, config: VoteConfig, judges: Mapping[str, Mapping[str, Any]]) -> Ballot:
    """How votes are counted; for a taught rule with what `{run}/panel` holds.

    `judges`: configuration by name, which must be those that the panel was learned of. Raises InputError where the job
    has not been done, or for other judges.
    """
    if config.rule not in TAUGHT:
        return Ballot(config)
    folder = panel_folder(run)
    if JobDir(run, "panel").manifest() is None:
        raise InputError(f"{folder} holds no finished panel: run `inverdict panel` first")
    known = load_panel(folder / "panel.yaml")
    if changed := [name for name, judge in judges.items() if known.judges.get(name) != judge]:
        raise InputError(
            f"evaluate.judges.{changed[0]} is not as it was when {folder} was learned: run `inverdict panel` again"
        )
    best = {(one.task, one.aspect): one.judge for one in known.chosen}
    return Ballot(config, load_votes(folder / "votes.json"), best)


def panel_identity(run: Path, config: VoteConfig) -> Any:
    """What decides a taught rule, for fingerprints: the fingerprint of the job `panel`; None for other rules."""
    return read_json(panel_folder(run) / "fingerprint.json") if config.rule in TAUGHT else None


PANEL = "panel"
