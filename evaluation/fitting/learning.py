"""Hidden states and labels -> the regressions of a judge, and their honest agreement beside three baselines.

Every agreement is of held-out scores: `fitted` and `embeddings` are cross-validated over groups, `zero_shot` (the same
model's answer) and `length` have learned nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluation.fitting.config import MIN_GROUPS, MIN_ROWS, Config
from evaluation.fitting.labels import Source
from evaluation.fitting.states import State
from judging.errors import InputError
from judging.expected import expected_score
from judging.fitted.regression import Regression, regression_of
from judging.fitted.ridge import Choice, CrossValidated, Target, cross_validate
from judging.records import Record, Scale
from judging.stats.agreement import agreement, compare
from judging.stats.estimate import Estimate
from judging.stats.rows import Columns

Key = tuple[str, str]  # task, aspect
STATISTIC = "group.spearman"
POOLED = "dataset.spearman"
RESAMPLES = 2000


class Examples(NamedTuple):
    """The usable texts of one task and aspect, their groups (see `merged_groups`), and the scale of their labels.

    `num_unreadable`: labelled texts beside them without a hidden state, since their prompts are too long.
    """

    records: Sequence[Record]
    states: Sequence[State]
    groups: Sequence[str]
    label_N: np.ndarray
    scale: Scale
    num_unreadable: int


class Learned(NamedTuple):
    """`held_out`: the score of each text by column, `fitted` and the baselines; NaN or None: there is none.

    `agreements`: by column the estimates by statistic, and by `fitted - NAME`.
    """

    regression: Regression
    choice: Choice
    held_out: Mapping[str, np.ndarray | None]
    agreements: Mapping[str, Mapping[str, Estimate]]


def of_source(labels: Source) -> str:
    """The source of the labels in words."""
    return {"pool": "data.pool", "dev": "the dev part"}[labels]


def merged_groups(records: Iterable[Record]) -> dict[str, str]:
    """The groups of texts: those with a near copy of the same text are one, so that none is taught and held out.

    Returns:
        For each record's `group_key` the first key of all groups that are one with it.
    """
    root: dict[str, str] = {}
    holds: dict[str, str] = {}  # text -> a group that has it

    def find(key: str) -> str:
        while root[key] != key:
            key = root[key]
        return key

    for record in records:
        root.setdefault(record.group_key, record.group_key)
        one, other = find(record.group_key), find(holds.setdefault(record.text_hash, record.group_key))
        root[max(one, other)] = min(one, other)
    return {key: find(key) for key in root}


# Long because each of its three refusals says what is missing and the way out.
def usable(
    judge: str,
    key: Key,
    scale: Scale,
    records: Sequence[Record],
    states: Mapping[tuple[str, str], State],
    groups: Mapping[str, str],
    labels: Source,
) -> Examples:
    """The texts of a task and aspect that have a hidden state.

    Args:
        judge: its name.
        key: task and aspect.
        scale: of the judge.
        records: the labelled texts, of any task and aspect.
        states: by record id and aspect.
        groups: see `merged_groups`.
        labels: where the texts come from.

    Raises:
        InputError: there are too few texts or groups, or all labels are equal, or a state is not finite.
    """
    task, aspect = key
    rated = [record for record in records if record.task == task and aspect in record.scores]
    kept = [record for record in rated if not states[record.id, aspect].error]
    label_N = np.array([record.score_on(aspect, scale) for record in kept], dtype=float)
    group = [groups[record.group_key] for record in kept]
    num_groups = len(set(group))
    if len(kept) < MIN_ROWS or num_groups < MIN_GROUPS:
        raise InputError(
            f"`fit_judge`: {judge}: {task}/{aspect} has {len(kept)} labelled texts in {num_groups} groups (sources) "
            f"that fit the model; at least {MIN_ROWS} in {MIN_GROUPS} are needed. Add labels to {of_source(labels)}, "
            "or set fit_judge.aspects.",
            code="not_enough_groups",
            key=f"data.{labels}",
        )
    if np.ptp(label_N) == 0:
        raise InputError(
            f"`fit_judge`: all labels of {task}/{aspect} in {of_source(labels)} are equal, so there is nothing to "
            "learn. Set fit_judge.aspects, or add other labels.",
            code="constant_labels",
            key=f"data.{labels}",
        )
    found = [states[record.id, aspect] for record in kept]
    if any(not np.isfinite(one).all() for state in found for one in state.hidden):
        raise InputError(
            f"`fit_judge`: {judge}: the model returned hidden states that are not finite. Set its `dtype` to float32.",
            code="not_finite",
            key=f"evaluate.judges.{judge}.model",
        )
    return Examples(kept, found, group, label_N, scale, len(rated) - len(kept))


def learn(
    examples: Mapping[Key, Examples], embeddings: Mapping[str, np.ndarray], config: Config, seed: int
) -> dict[Key, Learned]:
    """The regressions of one judge.

    Args:
        examples: by task and aspect.
        embeddings: by record id, for the baseline; empty: none.
        config: the section.
        seed: of folds and resamples.
    """
    codes = {key: code for code, key in enumerate(_group_keys(examples))}
    targets = [_target(one, codes) for one in examples.values()]
    found = cross_validate(targets, seed=seed)
    baseline = _on_embeddings(examples, embeddings, targets, seed) if embeddings else [None] * len(targets)
    learned = {}
    for (key, one), target, crossed, other in zip(examples.items(), targets, found, baseline, strict=True):
        regression = regression_of(
            target, crossed, one.scale, level=config.level, max_novelty=config.max_novelty, seed=seed
        )
        scores = {
            "fitted": np.clip(crossed.score_N, one.scale.low, one.scale.high),
            "zero_shot": _zero_shot(one),
            "embeddings": None if other is None else np.clip(other.score_N, one.scale.low, one.scale.high),
            "length": np.array([len(record.candidate) for record in one.records], dtype=float),
        }
        learned[key] = Learned(regression, crossed.choice, scores, _agreements(one, scores, seed))
    return learned


def _group_keys(examples: Mapping[Key, Examples]) -> list[str]:
    return sorted({group for one in examples.values() for group in one.groups})


def _target(one: Examples, codes: Mapping[str, int]) -> Target:
    depths = [np.stack(states) for states in zip(*(state.hidden for state in one.states), strict=True)]
    return Target(depths, one.label_N, np.array([codes[group] for group in one.groups]))


def _on_embeddings(
    examples: Mapping[Key, Examples], embeddings: Mapping[str, np.ndarray], targets: Sequence[Target], seed: int
) -> list[CrossValidated]:
    made = [
        target._replace(depths_LND=[np.stack([embeddings[record.id] for record in one.records])])
        for one, target in zip(examples.values(), targets, strict=True)
    ]
    return cross_validate(made, seed=seed)


def _zero_shot(one: Examples) -> np.ndarray | None:
    """The model's own answers; None where its vocabulary does not have the labels."""
    labels = one.scale.labels()
    if one.scale.step != 1 or any(len(state.label_logprobs) != len(labels) for state in one.states):
        return None
    scores = [expected_score(state.label_logprobs, one.scale).score for state in one.states]
    return np.array([np.nan if score is None else score for score in scores], dtype=float)


def _agreements(one: Examples, scores: Mapping[str, np.ndarray | None], seed: int) -> dict[str, dict[str, Estimate]]:
    group = list(one.groups)
    found: dict[str, dict[str, Any]] = {}
    for name, score_N in scores.items():
        if score_N is None:
            continue
        columns = Columns(group=group, human=one.label_N, score=score_N)
        known = agreement(columns, levels=("dataset", "group"), resamples=RESAMPLES, seed=seed, shuffles=0)
        found[name] = {statistic: known[statistic] for statistic in (STATISTIC, POOLED)}
    held_out_N = scores["fitted"]
    assert held_out_N is not None
    fitted = Columns(group=group, human=one.label_N, score=held_out_N)
    for name in [name for name in found if name != "fitted"]:
        other = scores[name]
        assert other is not None
        difference = compare(fitted, other, levels=("dataset", "group"), resamples=RESAMPLES, seed=seed)
        found[f"fitted - {name}"] = {statistic: difference[statistic] for statistic in (STATISTIC, POOLED)}
    return found
