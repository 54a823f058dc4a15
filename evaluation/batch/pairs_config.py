"""The configuration's `evaluate.pairs`, and which judges it queries. No records here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from cluster.strict import Strict
from evaluation.judges.aggregation import VoteConfig
from evaluation.judges.judge_config import FEATURE, FITTED, JudgeConfig
from judging.columns import number_as_text
from judging.comparison import TIE_MARGIN
from judging.errors import InputError
from judging.pairing import Against

KEY = "evaluate.pairs"
ALL = "all"
# Settings without an effect on a comparison, which has its own prompt without examples.
UNUSED = {"prompt", "examples", "icl"}


class TieConfig(Strict):
    """When a comparison is a tie."""

    label: bool = Field(False, description="offer the judge a third label, for a tie; false: two labels, as over HTTP")
    margin: float = Field(
        TIE_MARGIN, ge=0, lt=0.5, description="a preference (0 to 1) that is at most this far from 0.5 is a tie"
    )


class SampledPairs(Strict):
    """Some pairs of each group."""

    sample: int = Field(ge=1, description="pairs of each group, chosen by hash")


class PairsConfig(Strict):
    """Compare candidates of one group two at a time, each pair in both orders."""

    judges: tuple[str, ...] = Field(
        (), description="judges to query; none: all that can compare, one of those that differ only in their examples"
    )
    against: str | SampledPairs = Field(
        ALL,
        description="all: each pair of systems; a system (not one named all): each pair with it; {sample: K}: K pairs "
        "of each group",
    )
    aspects: tuple[str, ...] | None = Field(
        None, min_length=1, description="aspects to compare by; unset: those of `evaluate`"
    )
    tie: TieConfig = TieConfig()

    @field_validator("against", mode="before")
    @classmethod
    def _is_one_of_three(cls, value: Any) -> Any:
        """One error in words instead of one for each type that the value could have."""
        value = number_as_text(value)
        number = value.get("sample") if isinstance(value, Mapping) and len(value) == 1 else None
        is_sample = isinstance(value, SampledPairs) or (type(number) is int and number >= 1)
        if not (is_sample or (isinstance(value, str) and value)):
            raise InputError("must be all, the name of a system, or {sample: K} with K from 1", code="invalid_value")
        return value

    def chosen_pairs(self) -> Against:
        """The setting `against`."""
        if isinstance(self.against, SampledPairs):
            return Against(sample=self.against.sample)
        return Against() if self.against == ALL else Against(system=self.against)

    def check(self, judges: Sequence[str]) -> None:
        """Raises InputError where the section names a judge that is not in `judges`, or something twice."""
        for key, names in (("judges", self.judges), ("aspects", self.aspects or ())):
            if len(set(names)) != len(names):
                raise InputError("contains a duplicate. Remove it.", code="invalid_value", key=f"pairs.{key}")
        if unknown := [name for name in self.judges if name not in judges]:
            raise InputError(
                f"unknown judge {unknown[0]!r}; `evaluate.judges` has {', '.join(judges)}.",
                code="unknown_judge",
                key="pairs.judges",
            )

    def comparing(self, judges: Mapping[str, JudgeConfig], vote: VoteConfig) -> dict[str, JudgeConfig]:
        """The judges that compare.

        Args:
            judges: all of the configuration, as `with_fitted` resolves them.
            vote: of the panel.

        Raises:
            InputError: a judge of the section cannot compare two texts, none can, or too few can for the vote.
        """
        able = {name: one for name, one in judges.items() if one.score_mode not in (FITTED, FEATURE)}
        if fixed := [name for name in self.judges if name not in able]:
            raise InputError(
                f"`{KEY}.judges`: {fixed[0]!r} is a fitted judge or a text feature, which rates single texts. Remove "
                "it.",
                code="unsupported",
                key=f"{KEY}.judges",
            )
        if not able:
            raise InputError(
                f"`{KEY}`: all judges are fitted or text features, which rate single texts. Add a judge with "
                "score_mode expected or parsed, or remove the section.",
                code="unsupported",
                key=KEY,
            )
        first = vote.cascade.first if vote.cascade else None
        if first and self.judges and first not in self.judges:
            raise InputError(
                f"`{KEY}.judges`: the cascade's first judge {first!r} is missing. Add it, or remove "
                "`evaluate.vote.cascade`.",
                code="conflict",
                key=f"{KEY}.judges",
            )
        # Of judges that would repeat each other the first is kept: the cascade's must be.
        names = sorted(self.judges or able, key=lambda name: name != first)
        chosen = self._distinct({name: able[name] for name in names})
        _check_votes(list(chosen), vote)
        return chosen

    def _distinct(self, able: Mapping[str, JudgeConfig]) -> dict[str, JudgeConfig]:
        """One of those judges whose answers would be the same. Raises InputError where the section names several."""
        first: dict[str, str] = {}
        for name, judge in able.items():
            known = first.setdefault(judge.model_dump_json(exclude=UNUSED), name)
            if known != name and self.judges:
                raise InputError(
                    f"`{KEY}.judges`: {name!r} would repeat {known!r}: they differ in prompt or examples, which a "
                    "comparison does not use. Remove one.",
                    code="conflict",
                    key=f"{KEY}.judges",
                )
        return {name: able[name] for name in first.values()}


def _check_votes(names: Sequence[str], vote: VoteConfig) -> None:
    """Raises InputError where the judges that compare are too few for the vote, or have no weight."""
    if vote.rule == "weighted" and not any(vote.weights[name] for name in names):
        raise InputError(
            f"`evaluate.vote.weights`: {', '.join(names)}, which compare the pairs, have no weight. Give one of them a "
            f"weight, or name other judges in `{KEY}.judges`.",
            code="conflict",
            key="evaluate.vote.weights",
        )
    if vote.min_votes > len(names):
        raise InputError(
            f"`evaluate.vote.min_votes`: {vote.min_votes} votes are not possible with the {len(names)} judge(s) of "
            f"{KEY}. Lower it, or add judges that can compare.",
            code="infeasible",
            key="evaluate.vote.min_votes",
        )
