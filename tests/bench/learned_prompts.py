"""Learned prompts judged as prompts: `python -m tests.bench.learned_prompts RUN`, after `invert` and `transfer`.

RUN is a run with `transfer.every_candidate`. For each source and model of the prompts, on the rows that `transfer`
judged: how many candidates are verified, and how many of their texts differ; the mean agreement of these, and of the
best and the worst with their text; how much of the spread is between examples, and how much of it another half of the
groups repeats, beside the range that 95 % of prompts shuffled within their groups give; and what the selection by
`invert` gives against the selection on labelled groups. That is held out: for each fifth of the groups the prompt that
is best on the others, mean of 20 divisions. 95 % intervals over groups, for these prompts; the selection is done again
in every resample. Prints Markdown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.measure.slices import labelled_slices
from judging.stats.bootstrap import Floats, percentile_interval, replicates
from judging.stats.correlation import ratio, row_correlations
from judging.template_io import load_templates

FOLDS, DIVISIONS, RESAMPLES, SHUFFLES, SEED = 5, 20, 2000, 200, 0
Values = Callable[[Floats], Floats]  # how often each group was drawn, weights_BG, to values_BG; NaN: undefined


class Measured(NamedTuple):
    """Within-group Spearman correlations: values_PG of the prompts, rubric_G, length_G; NaN: undefined."""

    lines: Sequence[Mapping[str, Any]]
    values_PG: Floats
    rubric_G: Floats
    length_G: Floats
    num_rows: int
    coverage: float


def main(arguments: Sequence[str]) -> int:
    run = Path(arguments[0]) if len(arguments) == 1 else None
    if run is None or not (run / "transfer/evaluate/scores.parquet").exists():
        print("usage: python -m tests.bench.learned_prompts RUN, a run folder after `invert` and `transfer`")
        return 2
    for (task, dataset, aspect, *_), rows in labelled_slices(run / "transfer/evaluate/scores.parquet").items():
        print(f"\n## {task} {dataset} {aspect}, group.spearman")
        for judge in sorted({name.split(".")[0] for name in rows[0] if name.endswith(".rubric.score")}):
            for folder in sorted((run / "invert").iterdir()):
                lines = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
                for source in sorted({line["source"] for line in lines}):
                    of_source = [one for one in lines if one["source"] == source]
                    _tell(f"{source} {folder.name}, judged by {judge}", of_source)
                    if measured := _measured(rows, judge, source, folder.name, of_source):
                        _measure(measured, load_templates(folder / source / f"{task}.txt")[aspect].about["chosen_by"])
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
    judged = {line["text"]: name for name, line in reversed(names.items()) if name in rows[0]}  # the first of its text
    judged = {name: names[name] for name in sorted(judged.values())}
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


def _measure(found: Measured, chosen_by: str) -> None:
    values_PG = found.values_PG
    means_P = np.nanmean(values_PG, axis=1)
    likely_G = values_PG[min(range(len(means_P)), key=lambda place: found.lines[place]["rank"])]
    every_G = np.nanmean(values_PG, axis=0)
    of_all, of_rubric = fixed(every_G), fixed(found.rubric_G)
    print(f"{found.num_rows} rows, {values_PG.shape[1]} groups, coverage {found.coverage:.3f}")
    print(f"selected by invert: {chosen_by}\n")
    print("| prompts | group.spearman | minus rubric | minus all |\n|---|---|---|---|")
    for name, values in {
        "rubric": of_rubric,
        "length": fixed(found.length_G),
        f"all {len(means_P)} that differ, mean": of_all,
        "selected by invert": fixed(likely_G),
        "selected on labelled groups": selected(values_PG),
    }.items():
        cells = [words(one, len(every_G)) for one in (values, minus(values, of_rubric), minus(values, of_all))]
        print(f"| {name} | {' | '.join(cells)} |")
    both = minus(selected(values_PG), fixed(likely_G))
    print(f"\nselected on labelled groups minus by invert: {words(both, len(every_G))}")
    value_P = np.array([line["value"] for line in found.lines], dtype=float)
    print(f"single prompts: {means_P.min():.2f} to {means_P.max():.2f}, standard deviation {means_P.std(ddof=1):.3f}")
    goes_with = _spearman(list(zip(means_P, value_P, strict=True)))
    print(f"correlation over prompts of what invert selects by and the agreement: {goes_with:.2f}")
    low, high = repeated_by_chance(values_PG)
    print(f"correlation of a prompt's agreement in two halves of the groups: {repeated(values_PG):.2f}", end="")
    print(f" (prompts shuffled within groups: {low:.2f} to {high:.2f})")
    share, chance = between(means_P, [line["example"] for line in found.lines])
    print(f"share of the variance between examples: {share:.2f} (by chance {chance:.2f})")
    for what, place in (("best", int(np.argmax(means_P))), ("worst", int(np.argmin(means_P)))):
        print(f"\n{what}, {means_P[place]:.2f}, likelihood {value_P[place]:.2f}:\n\n{found.lines[place]['text']}")


def words(values: Values, num_groups: int) -> str:
    """The mean over the groups where it is defined, with its 95 % interval over groups."""

    def mean(weights_BG: Floats) -> Floats:
        values_BG = values(weights_BG)
        known_BG = ~np.isnan(values_BG)
        total_B = (weights_BG * np.where(known_BG, values_BG, 0.0)).sum(axis=1)
        return ratio(total_B, (weights_BG * known_BG).sum(axis=1))[:, None]

    ends = percentile_interval(replicates(mean, num_groups, resamples=RESAMPLES, seed=SEED)[:, 0])
    return f"{mean(np.ones((1, num_groups)))[0, 0]:.2f} [{ends.low:.2f}, {ends.high:.2f}]"


def fixed(value_G: Floats) -> Values:
    """Values that do not depend on which groups were drawn."""
    return lambda weights_BG: np.broadcast_to(value_G, weights_BG.shape)


def minus(first: Values, second: Values) -> Values:
    return lambda weights_BG: first(weights_BG) - second(weights_BG)


def selected(values_PG: Floats) -> Values:
    """Held out: in each group that of the prompt which agrees best on the drawn groups of the other folds.

    The mean over random divisions into folds. A group that was drawn several times is in one fold, so that no prompt is
    measured on a group that selected it.
    """
    known_PG = ~np.isnan(values_PG)
    filled_PG = np.where(known_PG, values_PG, 0.0)
    num_groups = values_PG.shape[1]

    def of(weights_BG: Floats) -> Floats:
        sum_BG, count_BG = np.zeros(weights_BG.shape), np.zeros(weights_BG.shape)
        for division in range(DIVISIONS):
            fold_G = np.random.default_rng((SEED, division)).permutation(num_groups) % FOLDS
            for fold in range(FOLDS):
                others_BG = weights_BG * (fold_G != fold)
                means_BP = ratio(others_BG @ filled_PG.T, others_BG @ known_PG.T)
                best_B = np.argmax(np.where(np.isnan(means_BP), -np.inf, means_BP), axis=1)
                sum_BG[:, fold_G == fold] += filled_PG[best_B][:, fold_G == fold]
                count_BG[:, fold_G == fold] += known_PG[best_B][:, fold_G == fold]
        return ratio(sum_BG, count_BG)

    return of


def repeated(values_PG: Floats, divisions: int = 10 * DIVISIONS) -> float:
    """Correlation over prompts of the agreement on one half of the groups with that on the other, mean of divisions."""
    found = []
    for division in range(divisions):
        first_G = np.random.default_rng((SEED, division)).permutation(values_PG.shape[1]) % 2 == 0
        halves = [np.nanmean(values_PG[:, half_G], axis=1) for half_G in (first_G, ~first_G)]
        found.append(np.corrcoef(*halves)[0, 1])
    return float(np.nanmean(found))


def repeated_by_chance(values_PG: Floats) -> tuple[float, float]:
    """The middle 95 % of `repeated` where no prompt is better: its values shuffled over prompts within each group."""
    random = np.random.default_rng(SEED)
    drawn = [repeated(random.permuted(values_PG, axis=0), DIVISIONS) for _ in range(SHUFFLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


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
