"""Job `optimise`: rewrite a judge's instruction, round by round, from the labelled texts with its largest errors.

The method is PanguIR's (arXiv 2503.04809). Below `{run}/optimise/{model}`: `optimised/` with one template file a task
and aspect, `rounds.jsonl` with every draft, its value on the dev part and why it was rejected, `manifest.json`. Only
the dev part (`data.dev_share`) is read, and of its groups a share: half of these show the errors, the other half
measures the drafts. The rest of the dev part is left for the job `panel`, which must not select by training data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster import runtime
from cluster.artifacts import JobDir, Outcome, file_hash
from cluster.config import RunConfig, section
from cluster.identity import input_hashes, model_identity, spec_of
from judging.data_config import DataConfig
from judging.datasets import read_dev
from judging.errors import InputError
from judging.hub import hub_hashes
from judging.records import Record, content_id
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import load_task, unknown_aspect
from judging.template import Template, rubric_template
from judging.template_io import file_name, load_templates
from train.optimisation.config import LEARNED, Config
from train.optimisation.rounds import Rounds, shared_groups, shown_groups, state_of


def main(run: RunConfig) -> Outcome:
    """Optimise the instructions of every configured judge; resume an interrupted run."""
    config, data = section(run, "optimise", Config), section(run, "data", DataConfig)
    if not data.has_dev:
        raise InputError(
            "`optimise` needs a labelled dev part that `evaluate` excludes. Set data.dev_share or data.dev.",
            code="missing_key",
            key="data.dev_share",
        )
    for name in config.models:
        spec_of(run, name, "optimise.models")
        spec_of(run, config.optimisers.get(name, name), f"optimise.optimisers.{name}")
    labelled = _labelled(data, config)
    return Outcome(0, {"models": {name: _optimise(run, config, data, name, labelled) for name in config.models}})


def _labelled(data: DataConfig, config: Config) -> dict[tuple[str, str], list[Record]]:
    """The rated records of the dev part by task and aspect, in the order of their ids."""
    found: dict[tuple[str, str], list[Record]] = {}
    for row in read_dev(data, check=unknown_aspect):
        for aspect in load_task(row.task).aspects:
            if aspect in row.scores and aspect in (config.aspects or (aspect,)):
                found.setdefault((row.task, aspect), []).append(row)
    if not found:
        raise InputError(
            "The dev part has no record with a human score on the aspects of `optimise`. Check optimise.aspects, "
            "and data.dev or data.dev_share.",
            code="no_scores",
            key="optimise.aspects" if config.aspects else "",
        )
    groups_of: dict[str, set[str]] = {}
    for (task, _), records in found.items():
        groups_of.setdefault(task, set()).update(record.group_key for record in records)
    used = {task: shared_groups(groups, config.share) for task, groups in groups_of.items()}
    found = {key: [one for one in records if one.group_key in used[key[0]]] for key, records in found.items()}
    for (task, aspect), records in found.items():
        groups = {record.group_key for record in records}
        if len(shown_groups(groups)) in (0, len(groups)):
            raise InputError(
                f"`optimise` has {len(groups)} group(s) of the dev part for {task}/{aspect}, but it needs some to show "
                "errors and others to measure. Raise optimise.share or enlarge the dev part (data.dev or "
                "data.dev_share).",
                code="not_enough_groups",
                key="optimise.share",
            )
        if len({record.scores[aspect] for record in records}) == 1:
            raise InputError(
                f"All labels of {task}/{aspect} in the dev part are equal, so the agreement is undefined. Add "
                "labelled texts with other scores.",
                code="infeasible",
            )
    return {key: sorted(records, key=lambda record: record.id) for key, records in sorted(found.items())}


def _optimise(
    run: RunConfig,
    config: Config,
    data: DataConfig,
    name: str,
    labelled: Mapping[tuple[str, str], Sequence[Record]],
) -> dict[str, Any]:
    judge, writer = run.models[name], run.models[config.optimisers.get(name, name)]
    starts = {key: _start_template(run, config, name, *key) for key in labelled}
    job = JobDir(run.run, f"optimise/{name}")
    files = sorted({*(data.dev or data.records), *data.task_files})
    fingerprint = {
        "optimise": json.loads(config.model_dump_json(exclude={"models", "optimisers"})),
        "data": data.identity(exclude={"part"}),
        "files": input_hashes(files, hub_hashes(files)),
        "labelled": {"/".join(key): content_id(*(one.id for one in records)) for key, records in labelled.items()},
        "start": {"/".join(key): one.fingerprint for key, one in starts.items()},
        "tasks": file_hash(TASK_FOLDER),
        "judge": model_identity(judge),
        "writer": model_identity(writer),
        "seed": run.seed,
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        job.claim()
        states = [state_of(key, starts[key], records) for key, records in labelled.items()]
        return Rounds(run, config, name, judge, writer, job.path).do(states)

    return job.complete(fingerprint, work, what=f"optimise: {name}")


def _start_template(run: RunConfig, config: Config, name: str, task: str, aspect: str) -> Template:
    if config.start == "rubric":
        return rubric_template(load_task(task), aspect)
    folder = run.run / "invert" / name / config.start if config.start in LEARNED else Path(config.start)
    files = [folder / file_name(task, aspect), folder / file_name(task)]
    found = next((file for file in files if file.exists()), None)
    template = load_templates(found).get(aspect) if found else None
    if template is None:
        is_learned = config.start in LEARNED
        raise InputError(
            f"`optimise.start`: no template for {task}/{aspect} found in {folder}."
            + (" Run `inverdict invert` first." if is_learned else ""),
            code="missing_job" if is_learned else "missing_file",
            key="optimise.start",
        )
    scale = load_task(task).scale_of(aspect)
    if template.scale != scale:
        raise InputError(
            f"`optimise.start`: {found} has the scale {template.scale}, but the task's is {scale}. Change one of "
            "the two.",
            code="conflict",
            key="optimise.start",
        )
    return template


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal: the gain of each instruction on the dev part, which also selected it."""
    lines = []
    for name, judge in summary["models"].items():
        lines.append(f"{name}: {judge['num_tokens']:,} tokens; stopped: {judge['stopped']}; {judge['folder']}")
        for one in judge["templates"]:
            values = [("none" if v is None else f"{v:.3f}") for v in (one["value_of_start"], one["value"])]
            kept = f"kept from round {one['round']}" if one["round"] else "the start is kept"
            lines.append(
                f"  {one['task']}/{one['aspect']}: group.spearman {values[0]} -> {values[1]} on {one['num_measured']} "
                f"texts that also selected it; {kept}; {one['num_refused']} of {one['num_drafts']} drafts rejected"
            )
    return "\n".join(lines)
