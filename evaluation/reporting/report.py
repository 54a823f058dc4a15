"""Job `report`: compares systems, measures agreement with labels; writes `metrics.json`, self-contained `report.html`.

Reads `{run}/evaluate`; writes `{run}/report`. The page's template is `templates/report.html`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import Field

from cluster.artifacts import JobDir, Outcome, file_hash, write_text
from cluster.config import RunConfig, section_or_default
from cluster.parts import readable
from cluster.strict import Strict
from cluster.tables import aligned
from cluster.terminal import say
from evaluation.batch.config import earlier_evaluation
from evaluation.batch.pairs import FOLDER as PAIRS
from evaluation.batch.pairs import has_pairs
from evaluation.batch.pairs_table import TABLE
from evaluation.judges.aggregation import PANEL
from evaluation.judges.prompt_sources import warnings
from evaluation.measure.example_baseline import Neighbours, means_of, neighbours
from evaluation.measure.formatting import shown, with_interval
from evaluation.measure.pair_comparison import compared_pairs
from evaluation.measure.slices import Comparison, Slice, comparisons, measure, worst
from evaluation.measure.system_comparison import compare_systems
from evaluation.measure.vote_comparison import CRITERION, Compared, compared
from evaluation.reporting.answer_section import Answer, answer_html, answer_text, answers, more_tables
from evaluation.reporting.certificates_section import certificates_section, current_certificates
from evaluation.reporting.examples_section import section as neighbours_section
from evaluation.reporting.examples_section import table_rows as neighbours_rows
from evaluation.reporting.fitted_section import fitted_section
from evaluation.reporting.pages import inline, label_name, policy, rendered
from evaluation.reporting.pairs_section import pairs_section, tables
from evaluation.reporting.record_rows import records_of
from evaluation.reporting.records import write_records
from evaluation.reporting.training_section import own_templates, prompts_section, retriever_section, training_section
from evaluation.reporting.votes_section import feature_rows, section, table_rows
from judging.errors import InputError
from judging.records import UNSCORED_REASONS
from judging.stats.bootstrap import Method
from judging.template import Templates

# Statistics in the tables and the forest plot; metrics.json has all of them.
SHOWN = ("dataset.spearman", "dataset.pearson", "group.spearman", "group.pairwise_accuracy", "system.spearman")
SHOWN_OF_PAIRS = ("dataset.spearman", "group.spearman")  # in the terminal's table of differences between judges
LOST = {"source": "(text cannot be read)", "candidate": "(text cannot be read)"}


class Config(Strict):
    """The configuration's `report` section."""

    resamples: int = Field(2000, ge=100, description="bootstrap resamples of groups")
    interval: Method = Field("percentile", description="how the bootstrap interval is computed")
    num_worst: int = Field(5, ge=0, description="number of the panel's largest errors shown per slice")
    records: int = Field(
        20_000,
        ge=0,
        le=100_000,
        description="maximum rows of records.html; of more, those with the largest disagreement and a random sample; "
        "0: no such page",
    )


@dataclass(frozen=True)
class _More:
    """What follows the agreement of a slice: the aggregation rules, and the example baseline of each judge."""

    votes: Compared | None
    neighbours: Mapping[str, Neighbours]

    def to_json(self) -> dict[str, Any]:
        return {
            "votes": self.votes.to_json() if self.votes else None,
            "neighbours": {judge: one.to_json() for judge, one in self.neighbours.items()},
        }


# Long: one measurement after the other, each with the files whose damage it tells.
def main(run: RunConfig) -> Outcome:
    """Measure `scores.parquet` and write the report.

    Raises:
        InputError: `evaluate` has not finished, or it or its pairs are those of another configuration.
        UserError: a file of the evaluation is damaged.
    """
    config = section_or_default(run, "report", Config)
    job, done = earlier_evaluation(run)
    with_pairs, unfinished = _has_pairs(run)
    folder = run.run / "report"
    scores = job.path / "scores.parquet"
    say(f"report: measuring {done['summary']['num_scores']} scores with {config.resamples} bootstrap resamples")
    judges = done["summary"]["judges"]
    settings: dict[str, Any] = {"resamples": config.resamples, "seed": run.seed}
    with readable(scores, job.path, "evaluate"):
        templates = own_templates(job.path, judges)
        slices = measure(
            scores,
            **settings,
            interval=config.interval,
            pairs=comparisons(judges),
            features={name: judge["feature"] for name, judge in judges.items() if "feature" in judge},
        )
        parts = compare_systems(scores, **settings)
    found = answers(parts, slices, current_certificates(run.run), done["fingerprint"]["data"]["labels"])
    with readable(job.path / "verdicts", job.path, "evaluate"):
        means = means_of(run.run, judges)
        more = [
            _More(compared(run.run, part, **settings), neighbours(part, means, **settings, interval=config.interval))
            for part in slices
        ]
    with readable(job.path / PAIRS / TABLE, job.path / PAIRS, "evaluate"):
        pairs = compared_pairs(run.run) if with_pairs else []
    summary = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "labels": done["fingerprint"]["data"]["labels"],
        "scores_sha256": file_hash(scores),
        "evaluation": done["summary"],
        "warnings": [*unfinished, *(line for name, own in templates.items() for line in warnings(name, own))],
        "versions": done["fingerprint"]["versions"],
        "resamples": config.resamples,
        "interval": config.interval,
        "systems": [answer.to_json() for answer in found],
        "slices": [{**part.to_json(), **one.to_json()} for part, one in zip(slices, more, strict=True)],
        "pairs": [part.to_json() for part in pairs],
        "file": str((folder / "report.html").resolve()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    label = label_name(summary["labels"])
    page = _page(run, config, summary, found, slices, more, templates, pairs_section(pairs, label))
    write_records(run.run, config.records)
    write_text(folder / "report.html", page)
    write_text(folder / "metrics.json", json.dumps(summary, indent=1))  # last: it says whose report is there
    texts = {
        "answer": "\n\n".join([*(answer_text(answer, label) for answer in found), *tables(pairs, label)]),
        "table": "\n\n".join([*more_tables(found, label), _table(slices, more, label)]),
        "pair_tables": "\n\n".join(tables(pairs, label, rest=True)),
    }
    return Outcome(0, {**summary, **texts})


def _has_pairs(run: RunConfig) -> tuple[bool, list[str]]:
    """Whether there are finished pairs; and a warning where they are not finished.

    Raises InputError where they are those of another configuration.
    """
    try:
        return has_pairs(run), []
    except InputError:
        if JobDir(run.run / "evaluate", PAIRS).manifest() is not None:
            raise
    what = "The pairs of this configuration are not finished, so this report has none."
    return False, [f"{what} Run `inverdict evaluate`, then `inverdict report` again."]


def render(summary: Mapping[str, Any], *, verbose: bool = False) -> str:
    """For the terminal: what was found about the systems, and the agreement where that is asked for or all there is.

    Args:
        summary: of `main`.
        verbose: whether to print the agreement of every judge and all tables of pairs too.
    """
    warned = "".join(f"WARNING: {line}\n" for line in summary["warnings"])
    has_more = bool(summary["slices"])
    shows_table = verbose or (has_more and not any(part["rankings"] for part in summary["systems"]))
    blocks = [summary["answer"]]
    if shows_table:
        blocks.append(summary["table"])
    if verbose and summary["pair_tables"]:
        blocks.append(summary["pair_tables"])
    if not verbose and (summary["pair_tables"] or not shows_table):
        blocks.append("[ ]: 95 % intervals. `--verbose` prints what each judge says; the report has all details.")
    return "\n\n".join([*([warned.rstrip()] if warned else []), *blocks, f"Report: {summary['file']}"])


def _table(slices: Sequence[Slice], more: Sequence[_More], label: str) -> str:
    """The agreement as aligned text, each value with its interval."""
    if not slices:
        return "No record has a label, so there is no agreement to measure."
    blocks = []
    for part, one in zip(slices, more, strict=True):
        rows = [["", *SHOWN, "coverage"]]
        for name, found in part.estimates.items():
            known = [found.get(statistic) for statistic in SHOWN]
            rows.append(
                [part.named(name), *(with_interval(one) for one in known), f"{found['group.spearman'].coverage:.3f}"]
            )
        chance = part.estimates[PANEL]
        rows.append(["chance (panel)", *(with_interval(chance.get(f"floor.{statistic}")) for statistic in SHOWN), ""])
        if part.ceiling:
            rows.append(["human ceiling", *(with_interval(part.ceiling.get(statistic)) for statistic in SHOWN), ""])
        blocks.append(f"{part.title}: agreement with the {label}, {part.shape}\n{aligned(rows)}")
        if part.against_baseline:
            blocks.append(aligned([["paired difference", *SHOWN_OF_PAIRS], *_pair_rows(part)]))
        if one.neighbours:
            blocks.append(aligned(neighbours_rows(one.neighbours)))
        if one.votes:
            blocks.append(aligned(table_rows(one.votes, part)))
            blocks += [aligned(rows) for rows in [feature_rows(one.votes)] if rows]
    return (
        "\n\n".join(blocks)
        + "\n\n[ ]: 95 % bootstrap interval over groups. length: baseline, the candidate's number of characters."
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
    found: Sequence[Answer],
    slices: Sequence[Slice],
    more: Sequence[_More],
    templates: Mapping[str, Templates],
    pairs: str,
) -> str:
    label = label_name(summary["labels"])
    judges = summary["evaluation"]["judges"]
    texts = _texts(run.run, slices, config.num_worst)
    style = inline("report.css")
    return rendered(
        "report.html",
        policy=Markup(f"{policy(style=style)}; img-src data:"),
        style=style,
        run=run.run,
        summary=summary,
        label=label,
        versions=", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
        dtypes=summary["evaluation"].get("dtypes", {}),
        criterion=CRITERION,
        answers=[answer_html(answer, label, slices) for answer in found],
        has_records=config.records > 0,
        columns={name: part.named(name) for part in slices for name in part.estimates},
        reasons=UNSCORED_REASONS,
        details=[{"judge": name, **one} for name, judge in judges.items() for one in judge.get("details", ())],
        slices=[
            {"number": number, **_slice(part, one, label, config, texts)}
            for number, (part, one) in enumerate(zip(slices, more, strict=True))
        ],
        pairs=pairs,
        certificates=certificates_section(run.run),
        learned_prompts=prompts_section(judges, templates),
        fitted=fitted_section(run.run, judges),
        training=training_section(run.run),
        retriever=retriever_section(run.run, judges),
        prompts=[
            {"judge": file.parent.name, "name": file.name, "text": file.read_text(encoding="utf-8")}
            for file in sorted((run.run / "evaluate" / "templates").glob("*/*"))
        ],
    )


def _slice(
    part: Slice, more: _More, label: str, config: Config, texts: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """The values of `slice.html`."""
    from evaluation.reporting import plots

    chance = part.estimates[PANEL]
    statistics = [statistic for statistic in SHOWN if statistic in chance]
    aeollm = [name for name in chance if name.startswith("aeollm.")]
    return {
        "part": part,
        "statistics": statistics,
        "chance": chance,
        "chance_names": [f"floor.{statistic}" for statistic in statistics],
        "aeollm": aeollm,
        "aeollm_chance_names": [f"floor.{name}" for name in aeollm],
        "differences": [
            *((f"{part.named(name)} minus length", found) for name, found in part.against_length.items()),
            *((f"panel minus {part.named(name)}", found) for name, found in part.against_panel.items()),
            *((_named(pair), found) for pair, found in part.against_baseline.items()),
        ],
        "neighbours": neighbours_section(more.neighbours, label),
        "votes": section(more.votes, part) if more.votes else "",
        "forest": plots.forest(part, statistics),
        "distributions": plots.distributions(part, label),
        "against_labels": plots.against_labels(part, label),
        "num_worst": config.num_worst,
        "worst": [
            _largest_error(part, row, texts.get(row["id"], LOST)) for row in worst(part, PANEL, config.num_worst)
        ],
    }


def _largest_error(part: Slice, row: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "label": row["label"],
        "panel": row[f"{PANEL}.score"],
        "name": row["system"] or row["id"],
        "given": {part.named(name): _given(row, name) for name in part.modes},
        "source": texts["source"],
        "candidate": texts["candidate"],
    }


def _given(row: Mapping[str, Any], name: str) -> str:
    score = row[f"{name}.score"]
    reason = f" (“{row[f'{name}.reason']}”)" if row[f"{name}.reason"] else ""
    return f"{shown(score)}{reason}" if score is not None else f"unscored: {row[f'{name}.unscored']}"


def _texts(run: Path, slices: Sequence[Slice], number: int) -> dict[str, Mapping[str, str]]:
    """Source and candidate of the rows with the largest errors, by id."""
    wanted = {row["id"] for part in slices for row in worst(part, PANEL, number)}
    return records_of(run / "evaluate" / "records", wanted, ("id", "source", "candidate"))
