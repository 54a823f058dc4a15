"""Job `report`: the agreement with people -> `metrics.json`, a table on the terminal, one self-contained `report.html`.

Reads `{run}/evaluate`; writes `{run}/report`. Everything that a model or a data set wrote is escaped in the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster.artifacts import Outcome, file_hash, write_text
from cluster.config import RunConfig, Strict, section_or_default
from cluster.parts import parts_of
from cluster.tables import aligned
from cluster.terminal import say
from cluster.terminal import shown as visible
from evaluation.batch.config import earlier_evaluation
from evaluation.batch.ingest import iter_rows
from evaluation.judges.aggregation import PANEL
from evaluation.judges.prompt_sources import warnings
from evaluation.measure.example_baseline import Neighbours, means_of, neighbours
from evaluation.measure.formatting import shown, with_interval
from evaluation.measure.slices import Comparison, Slice, comparisons, measure, worst
from evaluation.measure.vote_comparison import CRITERION, Compared, compared
from evaluation.reporting.certificates_section import certificates_section
from evaluation.reporting.examples_section import section as neighbours_section
from evaluation.reporting.examples_section import table_rows as neighbours_rows
from evaluation.reporting.training_section import own_templates, prompts_section, retriever_section, training_section
from evaluation.reporting.votes_section import section, table_rows
from judging.records import UNSCORED_REASONS
from judging.stats.bootstrap import Method
from judging.stats.estimate import Estimate
from judging.template import Templates

# What the tables and the forest plot show; metrics.json holds every statistic.
SHOWN = ("dataset.spearman", "dataset.pearson", "group.spearman", "group.pairwise_accuracy", "system.spearman")
SHOWN_OF_PAIRS = ("dataset.spearman", "group.spearman")  # in the terminal's differences between judges
STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


class Config(Strict):
    """The configuration's `report` section."""

    resamples: int = Field(2000, ge=100, description="bootstrap resamples of groups")
    interval: Method = Field("percentile", description="how the bootstrap's interval is taken")
    num_worst: int = Field(5, ge=0, description="worst disagreements shown for each slice and column")


@dataclass(frozen=True)
class _More:
    """What stands below a slice's agreement: the rules of the vote, and what shown examples say without a judge."""

    votes: Compared | None
    neighbours: Mapping[str, Neighbours]

    def to_json(self) -> dict[str, Any]:
        return {
            "votes": self.votes.to_json() if self.votes else None,
            "neighbours": {judge: one.to_json() for judge, one in self.neighbours.items()},
        }


def main(run: RunConfig) -> Outcome:
    """Measure `scores.parquet` and write the report. Raises InputError where `evaluate` has not been done."""
    config = section_or_default(run, "report", Config)
    _, done = earlier_evaluation(run)
    folder = run.run / "report"
    scores = run.run / "evaluate" / "scores.parquet"
    say(f"report: measuring {done['summary']['num_scores']} scores, {config.resamples} resamples")
    judges = done["summary"]["judges"]
    templates = own_templates(run.run / "evaluate", judges)
    slices = measure(
        scores,
        resamples=config.resamples,
        seed=run.seed,
        interval=config.interval,
        pairs=comparisons(judges),
    )
    means = means_of(run.run, judges)
    settings: dict[str, Any] = {"resamples": config.resamples, "seed": run.seed}
    more = [
        _More(compared(run.run, part, **settings), neighbours(part, means, **settings, interval=config.interval))
        for part in slices
    ]
    summary = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "labels": done["fingerprint"]["data"]["labels"],
        "scores_sha256": file_hash(scores),
        "evaluation": done["summary"],
        "warnings": [line for name, own in templates.items() for line in warnings(name, own)],
        "versions": done["fingerprint"]["versions"],
        "resamples": config.resamples,
        "interval": config.interval,
        "slices": [{**part.to_json(), **one.to_json()} for part, one in zip(slices, more, strict=True)],
        "file": str((folder / "report.html").resolve()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    page = _page(run, config, summary, slices, more, templates)
    write_text(folder / "metrics.json", json.dumps(summary, indent=1))
    write_text(folder / "report.html", page)
    return Outcome(0, {**summary, "table": _table(slices, more, _label_name(summary))})


def render(summary: Mapping[str, Any]) -> str:
    """The report's place, what to be warned of, then the agreement table, for the terminal."""
    warned = "".join(f"WARNING: {line}\n" for line in summary["warnings"])
    return f"Report: {summary['file']}\n{warned}\n{summary['table']}"


def _label_name(summary: Mapping[str, Any]) -> str:
    return "constructed level" if summary["labels"] == "constructed" else "human score"


def _table(slices: Sequence[Slice], more: Sequence[_More], label: str) -> str:
    """The agreement as aligned text; under each value its interval."""
    if not slices:
        return "No record has a label, so there is no agreement to measure."
    blocks = []
    for part, one in zip(slices, more, strict=True):
        rows = [["", *SHOWN, "coverage"]]
        for name, found in part.estimates.items():
            known = [found.get(statistic) for statistic in SHOWN]
            rows.append([name, *(with_interval(one) for one in known), f"{found['group.spearman'].coverage:.3f}"])
        floor = part.estimates[PANEL]
        rows.append(["chance (panel)", *(with_interval(floor.get(f"floor.{statistic}")) for statistic in SHOWN), ""])
        if part.ceiling:
            rows.append(["human ceiling", *(with_interval(part.ceiling.get(statistic)) for statistic in SHOWN), ""])
        blocks.append(f"{part.title}: agreement with the {label}, {part.shape}\n{aligned(rows)}")
        if part.against_baseline:
            blocks.append(aligned([["paired difference", *SHOWN_OF_PAIRS], *_pair_rows(part)]))
        if one.neighbours:
            blocks.append(aligned(neighbours_rows(one.neighbours)))
        if one.votes:
            blocks.append(aligned(table_rows(one.votes)))
    return (
        "\n\n".join(blocks)
        + "\n\n[ ] 95 % interval, bootstrap over groups; length: the candidate's number of characters."
    )


def _pair_rows(part: Slice) -> list[list[str]]:
    return [
        [_named(pair), *(with_interval(found[statistic]) for statistic in SHOWN_OF_PAIRS)]
        for pair, found in part.against_baseline.items()
    ]


def _named(pair: Comparison) -> str:
    what = "rubric" if pair.what == "rubric" else f"{pair.what} examples".replace("none", "no")
    return f"{pair.judge} minus {pair.baseline} ({what})"


def _page(
    run: RunConfig,
    config: Config,
    summary: Mapping[str, Any],
    slices: Sequence[Slice],
    more: Sequence[_More],
    templates: Mapping[str, Templates],
) -> str:
    label = _label_name(summary)
    judges = summary["evaluation"]["judges"]
    texts = _texts(run.run, slices, config.num_worst)
    body = "".join(
        _slice(part, one, label, config, texts, place)
        for place, (part, one) in enumerate(zip(slices, more, strict=True))
    )
    body = body or "<p>No record has a label.</p>"
    warned = "".join(f"<p class=warning>{escape(line)}.</p>" for line in summary["warnings"])
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    constructed = (
        "<p class=note>The levels were constructed: each text was written for its level. They are not human ratings, "
        "and agreement with them says that the chain works, not that a judge agrees with people.</p>"
        if summary["labels"] == "constructed"
        else ""
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Inverdict: {escape(run.run.name)}</title><style>{STYLE}</style><main>"
        f"<h1>Agreement of the judges with the {label}s</h1>"
        f"<p class=meta>{escape(str(run.run))} · {summary['written']} · {escape(versions)}</p>{warned}{constructed}"
        f"{_overview(slices)}{_coverage(summary['evaluation'])}{body}"
        f"{certificates_section(run.run)}{prompts_section(judges, templates)}"
        f"{training_section(run.run)}{retriever_section(run.run, judges)}{_prompts(run.run)}</main></html>"
    )


def _coverage(evaluation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}<td>{judge['coverage']:.3f}<td>"
        + (", ".join(f"{n} {escape(why)} ({UNSCORED_REASONS[why]})" for why, n in judge["unscored"].items()) or "–")
        for name, judge in evaluation["judges"].items()
    )
    left_out = (
        f" {evaluation['num_left_out']} further records were left out, for all judges alike: "
        "a judge's prompt has seen human scores of their groups."
        if evaluation["num_left_out"]
        else ""
    )
    said = "".join(
        f"<tr><th>{escape(name)}<td>{one['count']}<td>{escape(one['unscored'])}<td>{escape(visible(one['detail']))}"
        for name, judge in evaluation["judges"].items()
        for one in judge.get("details", ())
    )
    return (
        f"<h2>Coverage</h2><p>{evaluation['num_scores']} scores of {evaluation['num_records']} records. "
        f"An unscored row stays unscored; it never becomes a number.{left_out}</p>"
        f"<table><tr><th>column<th>coverage<th>unscored{rows}</table>"
        + (
            f"<p>What was said of the rows without a score, the most frequent first.</p>"
            f"<table class=facts><tr><th>judge<th>rows<th>unscored<th>words{said}</table>"
            if said
            else ""
        )
    )


def _overview(slices: Sequence[Slice]) -> str:
    """All slices in one table, where there are several."""
    if len(slices) < 2:
        return ""
    names = list(dict.fromkeys(name for part in slices for name in part.estimates))
    rows = "".join(
        f"<tr><th><a href='#slice-{place}'>{escape(part.title)}</a>"
        + "".join(_html_cell(part.estimates.get(name, {}).get(CRITERION)) for name in names)
        + _html_cell(part.estimates[PANEL].get(f"floor.{CRITERION}"))
        for place, part in enumerate(slices)
    )
    head = "".join(f"<th>{escape(name)}" for name in names)
    return (
        f"<h2>At a glance</h2><p>{CRITERION}: how well the order of the texts of one group agrees with people, the "
        f"mean over groups; n: groups.</p><table><tr><th>{head}<th>chance (panel){rows}</table>"
    )


def _slice(
    part: Slice,
    more: _More,
    label: str,
    config: Config,
    texts: Mapping[str, Mapping[str, str]],
    place: int,
) -> str:
    from evaluation.reporting import plots

    statistics = [statistic for statistic in SHOWN if statistic in part.estimates[PANEL]]
    head = "".join(f"<th>{statistic}" for statistic in statistics)
    rows = "".join(
        f"<tr><th>{escape(name)}{''.join(_html_cell(found.get(statistic)) for statistic in statistics)}"
        f"<td>{found['group.spearman'].coverage:.3f}"
        for name, found in part.estimates.items()
    )
    rows += "<tr class=faint><th>chance (panel)" + "".join(
        _html_cell(part.estimates[PANEL].get(f"floor.{statistic}")) for statistic in statistics
    )
    if part.ceiling:
        rows += "<tr class=faint><th>human ceiling" + "".join(_html_cell(part.ceiling.get(s)) for s in statistics)
    differences = "".join(
        f"<tr><th>{escape(words)}{''.join(_html_cell(found.get(statistic)) for statistic in statistics)}"
        for words, found in (
            *((f"{name} minus length", found) for name, found in part.against_length.items()),
            *((f"panel minus {name}", found) for name, found in part.against_panel.items()),
            *((_named(pair), found) for pair, found in part.against_baseline.items()),
        )
    )
    modes = ", ".join(f"{escape(name)}: {mode}" for name, mode in part.modes.items())
    return (
        f"<h2 id=slice-{place}>{escape(part.title)}</h2>"
        f"<p>{part.shape}. Score modes: {modes}. Below each value its 95 % "
        f"interval (bootstrap over groups) and n. Length is the candidate's number of characters, a baseline.</p>"
        f"<table><tr><th>{head}<th>coverage{rows}</table>"
        f"<img alt='agreement with intervals' src='data:image/png;base64,{plots.forest(part, statistics)}'>"
        f"<p class=meta>Grey band: the middle 95 % of shuffled scores.</p>"
        f"<h3>Paired differences</h3><table><tr><th>{head}{differences}</table>"
        f"{neighbours_section(more.neighbours, label)}{section(more.votes) if more.votes else ''}<h3>Distributions</h3>"
        f"<img alt='score distributions' src='data:image/png;base64,{plots.distributions(part, label)}'>"
        f"<h3>Scores over the {label}s</h3>"
        f"<img alt='scores over labels' src='data:image/png;base64,{plots.against_labels(part, label)}'>"
        f"{_aeollm(part)}{_disagreements(part, label, config.num_worst, texts)}"
    )


def _aeollm(part: Slice) -> str:
    names = [name for name in part.estimates[PANEL] if name.startswith("aeollm.")]
    head = "".join(f"<th>{name.removeprefix('aeollm.')}" for name in names)
    rows = "".join(
        f"<tr><th>{escape(column)}{''.join(_html_cell(found.get(name)) for name in names)}"
        for column, found in part.estimates.items()
    )
    floor = "".join(_html_cell(part.estimates[PANEL].get(f"floor.{name}")) for name in names)
    return (
        "<details><summary>AEOLLM statistics (official: the absolute value of each question's correlation)</summary>"
        f"<table><tr><th>{head}{rows}<tr class=faint><th>chance (panel){floor}</table></details>"
    )


def _html_cell(one: Estimate | None) -> str:
    if one is None:
        return "<td>–"
    return f"<td>{shown(one.value)}<small>{shown(one.low)} to {shown(one.high)}, n {one.n}</small>"


def _disagreements(part: Slice, label: str, number: int, texts: Mapping[str, Mapping[str, str]]) -> str:
    if not number:
        return ""
    items = "".join(
        f"<details><summary>{label} {shown(row['label'])}, panel {shown(row[f'{PANEL}.score'])} "
        f"<span class=meta>({escape(row['system'] or row['id'])})</span></summary>"
        f"<p>{', '.join(f'{escape(name)} {_given(row, name)}' for name in part.modes)}</p>"
        f"<h4>Source</h4><pre>{escape(texts[row['id']]['source'])}</pre>"
        f"<h4>Candidate</h4><pre>{escape(texts[row['id']]['candidate'])}</pre></details>"
        for row in worst(part, PANEL, number)
    )
    return f"<h3>Worst disagreements of the panel</h3>{items}"


def _given(row: Mapping[str, Any], name: str) -> str:
    score = row[f"{name}.score"]
    reason = f" (“{escape(row[f'{name}.reason'])}”)" if row[f"{name}.reason"] else ""
    return f"{shown(score)}{reason}" if score is not None else f"unscored: {escape(row[f'{name}.unscored'])}"


def _texts(run: Path, slices: Sequence[Slice], number: int) -> dict[str, dict[str, str]]:
    """Source and candidate of the rows that the page shows."""
    wanted = {row["id"] for part in slices for row in worst(part, PANEL, number)}
    rows = iter_rows(parts_of(run / "evaluate" / "records"), ("id", "source", "candidate"))
    return {row["id"]: row for row in rows if row["id"] in wanted}


def _prompts(run: Path) -> str:
    files = sorted((run / "evaluate" / "templates").glob("*/*"))
    items = "".join(
        f"<details><summary>{escape(file.parent.name)}: {escape(file.name)}</summary>"
        f"<pre>{escape(file.read_text(encoding='utf-8'))}</pre></details>"
        for file in files
    )
    return f"<h2>Prompts</h2><p>What each judge was asked; double braces mark the slots.</p>{items}"
