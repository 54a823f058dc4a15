"""Job `invert`: one rated example -> sampled prompts -> slots -> checks -> the judge's own evaluation template.

Below `{run}/invert/{model}`: `inverse/` and `forward/` (the baseline: the judge's model is prompted for a prompt), each
with one template file per task; `candidates/` with every verified candidate as a template file; `candidates.jsonl` with
all candidates, their outcome and the reason; `manifest.json`. Completed stages are kept, so an interrupted job repeats
only the current one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster import runtime
from cluster.artifacts import JobDir, Outcome
from cluster.config import RunConfig, section
from cluster.identity import input_hashes, model_identity, spec_of
from cluster.model_specs import ModelSpec, VllmSpec
from judging.data_config import DataConfig
from judging.datasets import Empty, Rejected, read_pool, read_records
from judging.errors import InputError
from judging.hub import hub_hashes
from judging.records import Record
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import unknown_aspect
from train.finetuning.sft import folder_of
from train.inversion.config import Config
from train.inversion.one_shot import Unit, units
from train.inversion.stages import Inversion

EXIT_FALLBACK = 3


def main(run: RunConfig) -> Outcome:
    """Learn the templates of every configured judge; resume an interrupted run."""
    config, data = section(run, "invert", Config), section(run, "data", DataConfig)
    if not data.pool:
        raise InputError(
            "`data.pool` is missing. Set it to the files of rated texts.", code="missing_key", key="data.pool"
        )
    if (config.examples if isinstance(config.examples, int) else len(config.examples)) < 1:
        raise InputError(
            "`invert.examples`: at least one example is required.", code="invalid_value", key="invert.examples"
        )
    for name in config.models:
        _specs(run, config, name)  # so that an unknown name fails before any judge's work starts
    pool = read_pool(data, check=unknown_aspect)
    dev = list(_records(data, config.dev))
    wanted = units(pool, config.examples, aspects=config.aspects, together=config.aspects_together, seed=run.seed)
    _check_dev(config, wanted, dev)
    found = {name: _invert(run, config, data, name, wanted, dev) for name in config.models}
    fell_back = any(one["fallback"] for judge in found.values() for one in judge["templates"])
    return Outcome(EXIT_FALLBACK if fell_back and not config.fallback else 0, {"models": found})


def _records(data: DataConfig, files: Sequence[str]) -> Iterable[Record]:
    for row in read_records(files, check=unknown_aspect, **data.reading()):
        if isinstance(row, Empty):
            continue
        if isinstance(row, Rejected):
            raise row.error()
        yield row


def _check_dev(config: Config, wanted: Sequence[Unit], dev: Sequence[Record]) -> None:
    for unit in wanted if config.dev else ():
        rated = [r for r in dev if r.task == unit.task and any(aspect in r.scores for aspect in unit.aspects)]
        if not rated:
            raise InputError(
                f"`invert.dev`: no record of {unit.task} is rated on {', '.join(unit.aspects)}.",
                code="no_scores",
                key="invert.dev",
            )


def _invert(
    run: RunConfig, config: Config, data: DataConfig, name: str, wanted: Sequence[Unit], dev: Sequence[Record]
) -> dict[str, Any]:
    judge, inversion = _specs(run, config, name)
    job = JobDir(run.run, f"invert/{name}")
    files = [*data.pool, *config.dev, *data.task_files]
    apart = {"models", "inversion", "fallback"}
    if config.inversion_prompt is None:
        apart.add("inversion_prompt")  # a key that came later: runs of before stay valid
    fingerprint = {
        "invert": json.loads(config.model_dump_json(exclude=apart)),
        "data": data.identity(
            include={"pool", "pool_share", "columns", "systems", "aspects", "format", "task", "dataset", "scale"}
        ),
        "files": input_hashes(files, hub_hashes(files)),
        "tasks": input_hashes([str(TASK_FOLDER)])[str(TASK_FOLDER)],
        "judge": model_identity(judge),
        "inversion": model_identity(inversion) if inversion else None,
        "seed": run.seed,
        "versions": runtime.versions(),
    }

    def work() -> dict[str, Any]:
        job.claim()
        return Inversion(run, config, name, judge, inversion, job.path).do(wanted, dev)

    return job.complete(fingerprint, work, what=f"invert: {name}")


def _specs(run: RunConfig, config: Config, name: str) -> tuple[ModelSpec, ModelSpec | None]:
    """The judge, and its inversion model where `inverse` is among the sources."""
    judge = spec_of(run, name, "invert.models")
    return judge, _inversion_spec(run, config, name) if "inverse" in config.sources else None


def _inversion_spec(run: RunConfig, config: Config, name: str) -> ModelSpec:
    """The inversion model: a configured one, or the one trained by `sft`."""
    if name in config.inversion:
        return spec_of(run, config.inversion[name], f"invert.inversion.{name}")
    sft = getattr(run, "sft", None)
    folder = folder_of(run, name, "inverse")
    if sft is None or name not in sft.models or JobDir(folder.parent, "inverse").manifest() is None:
        raise InputError(
            f"No finished `sft` found in {folder}. Run `inverdict sft` first, or set invert.inversion.{name}.",
            code="missing_job",
            key=f"invert.inversion.{name}",
        )
    base = run.models[sft.models[name].base]
    assert isinstance(base, VllmSpec)
    # One engine, however many the base has for other jobs: it samples a few prompts, and starting costs more.
    merged = {"source": str((folder / "merged").resolve()), "revision": None, "num_engines": 1}
    return base.model_copy(update=merged)


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal: verified candidates, reasons for the rejected ones, and the template folder."""
    lines = []
    for name, judge in summary["models"].items():
        lines.append(f"{name}: {judge['folder']}")
        for one in judge["templates"]:
            refused = ", ".join(f"{number} {reason}" for reason, number in sorted(one["refused"].items()))
            chosen = "ALL REJECTED, using the task's rubric instead" if one["fallback"] else f"best {one['value']:.3f}"
            lines.append(
                f"  {one['source']:<8} {one['task']} ({', '.join(one['aspects'])}): {one['num_verified']} of "
                f"{one['num_candidates']} prompts verified, {one['num_quoted']} of them quote every text; {chosen}"
                + (f"\n           rejected: {refused}" if refused else "")
            )
    return "\n".join(lines)
