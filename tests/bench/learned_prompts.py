"""Learned prompts judged as prompts: `python -m tests.bench.learned_prompts RUN`, after `invert` and `transfer`.

RUN is a run with `transfer.every_candidate`. For each source and model of the prompts, on the rows that `transfer`
judged: how many candidates are verified; the mean agreement of all, and of the best and the worst with their text; how
much of the spread is between examples, and how much of it another half of the groups repeats; and what the selection by
the example's likelihood gives against the selection on labelled groups. Everything is held out: `dev` is selected on
the other groups of five folds, mean of 20 divisions. Prints Markdown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.measure.slices import labelled_slices
from judging.stats.bootstrap import Floats, percentile_interval, replicates
from judging.stats.correlation import ratio, row_correlations

FOLDS, DIVISIONS, RESAMPLES, SEED = 5, 20, 2000, 0


class Measured(NamedTuple):
    """Within-group Spearman correlations: values_PG of the prompts, rubric_G, length_G; NaN: undefined."""

    lines: Sequence[Mapping[str, Any]]
    values_PG: Floats
    rubric_G: Floats
    length_G: Floats
    num_rows: int
    coverage: float


def main(arguments: Sequence[str]) -> int:
    (run,) = map(Path, arguments)
    for (task, dataset, aspect, *_), rows in labelled_slices(run / "transfer/evaluate/scores.parquet").items():
        print(f"\n## {task} {dataset} {aspect}, group.spearman")
        for judge in sorted({name.split(".")[0] for name in rows[0] if name.endswith(".rubric.score")}):
            for folder in sorted((run / "invert").iterdir()):
                lines = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
                for source in sorted({line["source"] for line in lines}):
                    of_source = [one for one in lines if one["source"] == source]
                    _tell(f"{source} {folder.name}, judged by {judge}", of_source)
                    if measured := _measured(rows, judge, source, folder.name, of_source):
                        _measure(measured)
    return 0


def _tell(title: str, lines: Sequence[Mapping[str, Any]]) -> None:
    verified = sum(line["verified"] for line in lines)
    why: dict[str, int] = {}
    for line in lines:
        for problem in line["problems"][:1]:
            why[problem.split(":")[0]] = why.get(problem.split(":")[0], 0) + 1
    print(f"\n### {title}\n\n{verified} of {len(lines)} prompts verified; {why or 'none rejected'}")


def _measured(
    rows: Sequence[Mapping[str, Any]], judge: str, source: str, owner: str, lines: Sequence[Mapping[str, Any]]
) -> Measured | None:
    """The prompts of one source that `transfer` judged with; None: there are none."""
    names = {f"{judge}.{source}.{owner}.{line['number']:03d}.score": line for line in lines}
    judged = {name: line for name, line in names.items() if name in rows[0]}
    if not judged:
        return None
    scores = [[row[name] for row in rows] for name in judged]
    coverage = float(np.mean([score is not None for column in scores for score in column]))
    return Measured(
        list(judged.values()),
        np.array([_within(rows, column) for column in scores]),
        _within(rows, [row[f"{judge}.rubric.score"] for row in rows]),
        _within(rows, [row["candidate_chars"] for row in rows]),
        len(rows),
        coverage,
    )


def _within(rows: Sequence[Mapping[str, Any]], scores: Sequence[float | None]) -> Floats:
    """Spearman's correlation of the scores with the labels in each group, without its unscored rows."""
    groups: dict[str, list[tuple[float, float]]] = {row["group"]: [] for row in rows}
    for row, score in zip(rows, scores, strict=True):
        if score is not None:
            groups[row["group"]].append((row["label"], score))
    return np.array([_spearman(pairs) for pairs in groups.values()])


def _spearman(pairs: Sequence[tuple[float, float]]) -> float:
    if len(pairs) < 2:
        return float("nan")
    label_N, score_N = np.array(pairs).T
    return float(row_correlations(label_N[None], score_N[None]).spearman[0])


def _measure(found: Measured) -> None:
    values_PG = found.values_PG
    means_P = np.nanmean(values_PG, axis=1)
    likely_G = values_PG[min(range(len(means_P)), key=lambda place: found.lines[place]["rank"])]
    dev_G = selected_on_dev(values_PG)
    every_G = np.nanmean(values_PG, axis=0)
    print(f"{found.num_rows} rows, {values_PG.shape[1]} groups, coverage {found.coverage:.3f}\n")
    print("| prompts | group.spearman | minus rubric | minus all |\n|---|---|---|---|")
    for name, value_G in {
        "rubric": found.rubric_G,
        "length": found.length_G,
        f"all {len(means_P)}, mean": every_G,
        "selected by likelihood": likely_G,
        "selected on dev": dev_G,
    }.items():
        print(f"| {name} | {words(value_G)} | {words(value_G - found.rubric_G)} | {words(value_G - every_G)} |")
    print(f"\nselected on dev minus by likelihood: {words(dev_G - likely_G)}")
    likelihood_P = np.array([line["value"] for line in found.lines], dtype=float)
    print(f"single prompts: {means_P.min():.2f} to {means_P.max():.2f}, standard deviation {means_P.std(ddof=1):.3f}")
    goes_with = _spearman(list(zip(means_P, likelihood_P, strict=True)))
    print(f"correlation of likelihood and agreement over prompts: {goes_with:.2f}")
    print(f"correlation of a prompt's agreement in two halves of the groups: {repeated(values_PG):.2f}")
    share, chance = between(means_P, [line["example"] for line in found.lines])
    print(f"share of the variance between examples: {share:.2f} (by chance {chance:.2f})")
    for what, place in (("best", int(np.argmax(means_P))), ("worst", int(np.argmin(means_P)))):
        print(f"\n{what}, {means_P[place]:.2f}, likelihood {likelihood_P[place]:.2f}:\n\n{found.lines[place]['text']}")


def words(value_G: Floats) -> str:
    """The mean over the groups where it is defined, with its 95 % interval."""

    def resample(weights_BG: Floats) -> Floats:
        known_G = ~np.isnan(value_G)
        return ratio(weights_BG @ np.where(known_G, value_G, 0.0), weights_BG @ known_G)[:, None]

    ends = percentile_interval(replicates(resample, len(value_G), resamples=RESAMPLES, seed=SEED)[:, 0])
    return f"{np.nanmean(value_G):.2f} [{ends.low:.2f}, {ends.high:.2f}]"


def selected_on_dev(values_PG: Floats) -> Floats:
    """value_G of the prompt that agrees best on the groups of the other folds, mean over random divisions."""
    num_groups = values_PG.shape[1]
    found = np.zeros((DIVISIONS, num_groups))
    for division in range(DIVISIONS):
        fold_G = np.random.default_rng((SEED, division)).permutation(num_groups) % FOLDS
        for fold in range(FOLDS):
            best = np.argmax(np.nanmean(values_PG[:, fold_G != fold], axis=1))
            found[division, fold_G == fold] = values_PG[best, fold_G == fold]
    return np.asarray(np.nanmean(found, axis=0))


def repeated(values_PG: Floats) -> float:
    """Correlation over prompts of the agreement on one half of the groups with that on the other, mean of 200."""
    found = []
    for division in range(10 * DIVISIONS):
        first_G = np.random.default_rng((SEED, division)).permutation(values_PG.shape[1]) % 2 == 0
        halves = [np.nanmean(values_PG[:, half_G], axis=1) for half_G in (first_G, ~first_G)]
        found.append(np.corrcoef(*halves)[0, 1])
    return float(np.nanmean(found))


def between(means_P: Floats, examples: Sequence[str]) -> tuple[float, float]:
    """Share of the prompts' variance between their examples (eta squared), and its mean with shuffled examples."""

    def share(of: np.ndarray) -> float:
        parts = [means_P[of == one] for one in np.unique(of)]
        return float(
            sum(len(part) * (part.mean() - means_P.mean()) ** 2 for part in parts) / (len(means_P) * means_P.var())
        )

    known = np.array(examples)
    random = np.random.default_rng(SEED)
    return share(known), float(np.mean([share(random.permutation(known)) for _ in range(1000)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
