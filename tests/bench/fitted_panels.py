"""What the judges of `tests.bench.families` are worth: `python -m tests.bench.fitted_panels DATA OUT [NAME ...]`.

For each data set (or those named) and aspect, group.spearman with people of the fitted judges, their models zero-shot,
embeddings and length; of the panel that the other groups choose (`chosen_panel`), with and without text features, and
its paired differences; how the fitted judges' agreement grows with labelled groups; and what is left of it on another
data set of the task. Everything is held out: no group's labels take part in its own scores. Prints Markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from cluster.parts import sound_rows
from judging.datasets import read_records
from judging.fitted.ridge import PENALTIES, Target, choose, cross_validate, fit, folds
from judging.records import Record, Scale
from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import Floats
from judging.stats.estimate import Estimate
from judging.stats.rows import Columns
from judging.tasks import load_task
from judging.text_features import Feature, measure
from judging.voting.stacking import stack
from tests.bench.families import FAMILIES, MODELS, size

STATISTIC, SEED, FOLDS, DRAWS = "group.spearman", 0, 5, 10
NUM_GROUPS = (5, 10, 20, 40)
FEATURES: tuple[Feature, ...] = ("length", "overlap", "novelty", "repetition")
TRANSFERS = (("asqa", "eli5"), ("eli5", "asqa"), ("wmt_en_de", "wmt_zh_en"), ("wmt_zh_en", "wmt_en_de"))


class Part(NamedTuple):
    """The rows of a data set and aspect. `scores`: by judge, on the scale; `states`: by judge, the hidden states of
    each depth.
    """

    records: Sequence[Record]
    label_N: Floats
    group_N: np.ndarray
    scale: Scale
    scores: Mapping[str, Floats]
    states: Mapping[str, Sequence[Floats]]

    @property
    def ends(self) -> tuple[float, float]:
        return self.scale.low, self.scale.high

    def only(self, keep_N: np.ndarray) -> Part:
        """These rows only."""
        return Part(
            [record for record, keeps in zip(self.records, keep_N, strict=True) if keeps],
            self.label_N[keep_N],
            self.group_N[keep_N],
            self.scale,
            {name: score_N[keep_N] for name, score_N in self.scores.items()},
            {name: [state_ND[keep_N] for state_ND in depths] for name, depths in self.states.items()},
        )

    def columns(self, score_N: Floats) -> Columns:
        return Columns(list(self.group_N), self.label_N, score_N)

    def of(self, score_N: Floats) -> Estimate:
        return agreement(self.columns(score_N), levels=("group",), seed=SEED, shuffles=0)[STATISTIC]

    def minus(self, score_N: Floats, other_N: Floats) -> Estimate:
        return compare(self.columns(score_N), other_N, levels=("group",), seed=SEED)[STATISTIC]


def main(arguments: Sequence[str]) -> int:
    data, out, *names = arguments
    parts = dict(_parts(Path(data), Path(out), names or list(FAMILIES)))
    print(f"\n{STATISTIC} with people, held out\n")
    names = [name for name in next(iter(parts.values())).scores if not name.startswith("feature")]
    print("| | rows, groups |", " | ".join(names), "| panel | panel without features |")
    print("|---" * (len(names) + 4) + "|")
    panels = {}
    for name, part in parts.items():
        panels[name] = {what: chosen_panel(part, features) for what, features in (("with", FEATURES), ("without", ()))}
        found = [_words(part.of(part.scores[judge])) if judge in part.scores else "" for judge in names]
        found += [_words(part.of(panel.score_N)) for panel in panels[name].values()]
        shape = f"{len(part.records)}, {len(set(part.group_N))}"
        print(f"| {name} | {shape} |", " | ".join(found), "|", flush=True)
    print("\nThe panel with features minus each, and what the folds chose\n")
    print("|  |", " | ".join(names), "| without features | chosen |")
    print("|---" * (len(names) + 3) + "|")
    for name, part in parts.items():
        panel, plain = panels[name].values()
        scores = [part.scores.get(judge) for judge in names] + [plain.score_N]
        others = ["" if one is None else _words(part.minus(panel.score_N, one)) for one in scores]
        print(f"| {name} |", " | ".join(others), f"| {', '.join(panel.chosen)} |", flush=True)
    _print_growth(parts)
    _print_transfer(parts)
    return 0


def _words(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


# ---------------------------------------------------------------------- reading


def _parts(data: Path, out: Path, names: Sequence[str]) -> Iterator[tuple[str, Part]]:
    for name, family in ((name, FAMILIES[name]) for name in names):
        file = out / f"{name}.jsonl" if family.where else data / family.file
        judges = [f"fitted-{size(model)}" for model in MODELS]
        folders = {judge: out / name / "fit_judge" / judge for judge in judges}
        done = {judge: folder for judge, folder in folders.items() if (folder / "manifest.json").exists()}
        if not done:
            continue
        records = {row.id: row for row in read_records([file]) if isinstance(row, Record)}
        for aspect in family.aspects:
            yield f"{name} {aspect}", _part(records, aspect, done)


def _part(records: Mapping[str, Record], aspect: str, folders: Mapping[str, Path]) -> Part:
    kept: list[Record] = []
    scores: dict[str, Floats] = {}
    states: dict[str, list[Floats]] = {}
    task = next(iter(records.values())).task
    scale = Scale(*load_task(task).aspects[aspect].scale)
    for judge, folder in folders.items():
        rows = {
            row["id"]: row for row in pq.read_table(folder / "held_out.parquet").to_pylist() if row["aspect"] == aspect
        }
        kept = kept or [records[id] for id in rows]
        model = judge.removeprefix("fitted-")
        for column, shown in (("fitted", judge), ("zero_shot", f"zero-shot-{model}"), ("embeddings", "embeddings")):
            known_N = np.array([rows[record.id][column] for record in kept], dtype=float)
            scores[shown] = np.clip(known_N, scale.low, scale.high)
        found = sound_rows(folder / "states", ("id", "aspect", "hidden_states"))
        of = {row["id"]: row["hidden_states"] for row in found if row["aspect"] == aspect}
        states[judge] = [np.array(one) for one in zip(*(of[record.id] for record in kept), strict=True)]
    scores["length"] = np.array([len(record.candidate) for record in kept], dtype=float)
    for feature in FEATURES:
        shares = [measure(feature, record.candidate, record.source) for record in kept]
        known_N = np.array([np.nan if share is None else share for share in shares], dtype=float)
        scores[f"feature {feature}"] = scale.low + (scale.high - scale.low) * known_N
    label_N = np.array([record.score_on(aspect, scale) for record in kept], dtype=float)
    return Part(kept, label_N, np.array([record.group_key for record in kept]), scale, scores, states)


# ---------------------------------------------------------------------- panels


class Panel(NamedTuple):
    """`score_N`: the scores of the panel that the other folds chose; `chosen`: what each fold's others chose."""

    score_N: Floats
    chosen: tuple[str, ...]


def chosen_panel(part: Part, features: Sequence[str]) -> Panel:
    """The best of single judges, the mean of the fitted ones and a learned vote of all, chosen on other groups.

    Each fifth of the groups is scored by what agrees best with people on the other four. Fitted judges and the learned
    vote learn on these four alone, and what they are chosen by is held out within them.
    """
    scores_N, chosen = np.full(len(part.label_N), np.nan), []
    groups = np.random.default_rng(SEED).permutation(np.unique(part.group_N))
    for fold in np.array_split(groups, FOLDS):
        out_N = np.isin(part.group_N, fold)
        labels, of_group = part.label_N[~out_N], list(part.group_N[~out_N])
        # By judge: the scores on the four fifths, held out, and on the fifth.
        offers = {name: (part.scores[name][~out_N], part.scores[name][out_N]) for name in part.scores}
        for judge in part.states:
            offers[judge] = _taught(part, judge, ~out_N)
        judges = [name for name in offers if name.startswith(("fitted", "zero-shot"))]
        voters = [*judges, *(f"feature {name}" for name in features)]
        dev_NJ, out_MJ = (np.stack([offers[name][side] for name in voters], axis=1) for side in (0, 1))
        stacked = stack(dev_NJ, labels, of_group, voters, scale=part.scale, seed=SEED)
        offers["learned vote"] = (stacked.dev_R, stacked.vote.scores(out_MJ, voters))
        both = [offers[name] for name in part.states]
        offers["mean of fitted"] = (
            np.mean([one for one, _ in both], axis=0),
            np.mean([one for _, one in both], axis=0),
        )
        candidates = [*judges, "mean of fitted", "learned vote"]
        worth = {name: _value(labels, of_group, offers[name][0]) for name in candidates}
        best = max(candidates, key=lambda name: -1 if np.isnan(worth[name]) else worth[name])
        scores_N[out_N] = offers[best][1]
        chosen.append(best)
    return Panel(scores_N, tuple(chosen))


def _taught(part: Part, judge: str, taught_N: np.ndarray) -> tuple[Floats, Floats]:
    """A fitted judge that learned from some rows: held-out scores of these, and the scores of the others."""
    codes_N = np.unique(part.group_N, return_inverse=True)[1]
    target = Target(part.states[judge], part.label_N, codes_N).rows(taught_N)
    [choice] = choose([target], PENALTIES, SEED)
    features_ND = np.asarray(target.depths_LND[choice.depth])
    own_N = np.full(len(target.score_N), np.nan)
    for fold in folds(target.group_N, SEED):
        rest_N = np.setdiff1d(np.arange(len(own_N)), fold)
        own_N[fold] = fit(features_ND[rest_N], target.score_N[rest_N], choice.penalty).predict(features_ND[fold])
    others_ND = np.asarray(part.states[judge][choice.depth])[~taught_N]
    others_N = fit(features_ND, target.score_N, choice.penalty).predict(others_ND)
    return np.clip(own_N, *part.ends), np.clip(others_N, *part.ends)


def _value(label_N: Floats, groups: Sequence[str], score_N: Floats) -> float:
    """The statistic alone; NaN where it is undefined, as for constant scores."""
    columns = Columns(list(groups), label_N, score_N)
    return agreement(columns, levels=("group",), resamples=2, shuffles=0)[STATISTIC].value


# ---------------------------------------------------------------------- labels


def _print_growth(parts: Mapping[str, Part]) -> None:
    print(f"\nBy number of labelled groups: mean over {DRAWS} draws of them, on all other groups [smallest, largest]\n")
    print("| |", " | ".join(map(str, NUM_GROUPS)), "|")
    print("|---" * (len(NUM_GROUPS) + 1) + "|")
    for name, part in parts.items():
        for judge in part.states:
            cells = []
            for num in NUM_GROUPS:
                drawn = list(_drawn(part, judge, num))
                values = [value for value in drawn if not np.isnan(value)]
                undefined = f", {len(drawn) - len(values)} undefined" if len(values) < len(drawn) else ""
                shown = f"{np.mean(values):.2f} [{min(values):.2f}, {max(values):.2f}]{undefined}" if values else ""
                cells.append(shown)
            print(f"| {name}, {judge} |", " | ".join(cells), "|", flush=True)


def _drawn(part: Part, judge: str, num: int) -> Iterator[float]:
    groups = np.unique(part.group_N)
    for draw in range(DRAWS if num <= len(groups) - 5 else 0):
        taught_N = np.isin(part.group_N, np.random.default_rng((SEED, draw)).permutation(groups)[:num])
        _, score_M = _taught(part, judge, taught_N)
        yield _value(part.label_N[~taught_N], list(part.group_N[~taught_N]), score_M)


# ---------------------------------------------------------------------- another data set


def _print_transfer(parts: Mapping[str, Part]) -> None:
    print("\nFitted to one data set, judging another of the task\n")
    print("| | rows, groups | learned there | learned here, held out | zero-shot | length |")
    print("|---" * 6 + "|")
    for one, other in TRANSFERS:
        try:
            part = _both(parts, one, other)
        except KeyError:
            continue  # not measured yet
        taught_N = np.array([one in record.dataset.lower() for record in part.records])
        here = part.only(~taught_N)
        for judge in part.states:
            target = Target(here.states[judge], here.label_N, np.unique(here.group_N, return_inverse=True)[1])
            [own] = cross_validate([target], seed=SEED)
            zero_shot = here.scores[judge.replace("fitted", "zero-shot")]
            shown = (
                _taught(part, judge, taught_N)[1],
                np.clip(own.score_N, *part.ends),
                zero_shot,
                here.scores["length"],
            )
            shape = f"{len(here.label_N)}, {len(set(here.group_N))}"
            print(
                f"| {one} to {other}, {judge} | {shape} | {' | '.join(_words(here.of(score_N)) for score_N in shown)} |"
            )


def _both(parts: Mapping[str, Part], one: str, other: str) -> Part:
    """The rows of both data sets: of one file, or of two."""
    of_one_file = parts.get("alce utility")
    if of_one_file and one in ("asqa", "eli5"):
        return of_one_file
    first, second = parts[f"{one} quality"], parts[f"{other} quality"]
    named = [replace(record, dataset=one) for record in first.records]
    named += [replace(record, dataset=other) for record in second.records]
    judges = [judge for judge in first.states if judge in second.states]
    return Part(
        named,
        np.concatenate([first.label_N, second.label_N]),
        np.concatenate([first.group_N, second.group_N]),
        first.scale,
        {name: np.concatenate([first.scores[name], second.scores[name]]) for name in first.scores},
        {
            judge: [np.concatenate(both) for both in zip(first.states[judge], second.states[judge], strict=True)]
            for judge in judges
        },
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
