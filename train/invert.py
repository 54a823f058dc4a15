"""Job `invert`: one rated example -> sampled prompts -> slots -> checks -> the judge's own evaluation template.

Below `{run}/invert/{model}`: `inverse/` and `forward/` (the baseline: the judge's model asked for a prompt), each with
one template file a task; `candidates/` with every verified candidate as a template file; `candidates.jsonl` with all of
them, what became of each and why; `manifest.json`. Stages are kept, so a killed job repeats only the one it was in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from cluster import runtime
from cluster.artifacts import JobDir, write_text
from cluster.config import ModelSpec, RunConfig, Strict, VllmSpec
from cluster.generate import Sampling
from cluster.identity import input_hashes, model_identity, spec_of
from judging.datasets import DataConfig, Rejected, read_pool, read_records
from judging.errors import InputError
from judging.records import Record, content_id
from judging.tasks import FOLDER as TASK_FOLDER
from judging.tasks import is_task_file, load_task
from judging.template import rubric_template
from judging.templatefile import file_name, save_templates
from train.asking import known_encoder, stage_replies, weights_of
from train.candidates import Candidate, first_reasons, make_candidate, reasons, to_line
from train.choose import dev_agreement, mean_log_probability, ranked, requests
from train.oneshot import Unit, as_reply, forward_request, units
from train.pairs import inverse_request
from train.sft import folder_of

EXIT_FALLBACK = 3
Source = Literal["inverse", "forward"]


class Config(Strict):
    """The configuration's `invert` section."""

    models: tuple[str, ...] = Field(min_length=1, description="judges: names under `models`")
    inversion: dict[str, str] = Field(
        default_factory=dict, description="a judge: the name under `models` of its inversion model; none: what sft made"
    )
    examples: tuple[str, ...] | int = Field(1, description="ids in data.pool, or how many are drawn of each task")
    aspects: tuple[str, ...] | None = Field(None, min_length=1, description="none: all that the examples are rated on")
    aspects_together: bool = Field(True, description="one prompt for all aspects of a task, or one for each")
    sources: tuple[Source, ...] = Field(("inverse", "forward"), min_length=1, description="forward: the baseline")
    with_score: bool = Field(True, description="off: the example's human score is left out (ablation)")
    num_candidates: int = Field(8, ge=1, description="prompts sampled from each example")
    temperature: float = Field(0.95, ge=0, le=2)
    top_p: float = Field(0.7, gt=0, le=1)
    top_k: int = Field(50, ge=0, description="0: no limit")
    max_tokens: int = Field(512, ge=16)
    max_words: int = Field(400, ge=20, description="a longer prompt is refused")
    require_scale: bool = Field(
        True, description="a prompt must state the scale itself; off: the reply format put behind it may alone do so"
    )
    dev: tuple[str, ...] = Field(
        (), description="files of rated texts: the prompt with the best agreement on them wins"
    )
    fallback: bool = Field(True, description="all candidates refused: use the task's rubric; off: exit 3")


class Inverted(NamedTuple):
    exit_code: int
    summary: dict[str, Any]


def main(run: RunConfig) -> Inverted:
    """Learn the templates of every configured judge; resume what a killed run left."""
    config: Config | None = getattr(run, "invert", None)
    data: DataConfig | None = getattr(run, "data", None)
    if config is None or data is None or not data.pool:
        missing = "`invert` section" if config is None else "data.pool to take a rated example from"
        raise InputError(f"the configuration has no {missing}")
    if (config.examples if isinstance(config.examples, int) else len(config.examples)) < 1:
        raise InputError("invert.examples: at least one example is needed")
    for name in config.models:
        _specs(run, config, name)  # a wrong name is found before any judge's work
    pool = read_pool(data)
    dev = list(_records(data, config.dev))
    wanted = units(pool, config.examples, aspects=config.aspects, together=config.aspects_together, seed=run.seed)
    _check_dev(config, wanted, dev)
    found = {name: _invert(run, config, data, name, wanted, dev) for name in config.models}
    fell_back = any(one["fallback"] for judge in found.values() for one in judge["templates"])
    return Inverted(EXIT_FALLBACK if fell_back and not config.fallback else 0, {"models": found})


def _records(data: DataConfig, files: Sequence[str]) -> Iterable[Record]:
    for row in read_records(files, **data.reading()):
        if isinstance(row, Rejected):
            raise InputError(str(row))
        yield row


def _check_dev(config: Config, wanted: Sequence[Unit], dev: Sequence[Record]) -> None:
    for unit in wanted if config.dev else ():
        rated = [r for r in dev if r.task == unit.task and any(aspect in r.scores for aspect in unit.aspects)]
        if not rated:
            raise InputError(f"invert.dev: no record of {unit.task} is rated on {', '.join(unit.aspects)}")


def _invert(
    run: RunConfig, config: Config, data: DataConfig, name: str, wanted: Sequence[Unit], dev: Sequence[Record]
) -> dict[str, Any]:
    judge, inversion = _specs(run, config, name)
    own_task = [data.task] if data.task is not None and is_task_file(data.task) else []
    job = JobDir(run.run, f"invert/{name}")
    fingerprint = {
        "invert": json.loads(config.model_dump_json(exclude={"models", "inversion", "fallback"})),
        "data": json.loads(
            data.model_dump_json(
                include={"pool", "pool_share", "columns", "aspects", "format", "task", "dataset", "scale"}
            )
        ),
        "files": input_hashes([*data.pool, *config.dev, *own_task]),
        "tasks": input_hashes([str(TASK_FOLDER)])[str(TASK_FOLDER)],
        "judge": model_identity(judge),
        "inversion": model_identity(inversion) if inversion else None,
        "seed": run.seed,
        "versions": runtime.versions(),
    }
    with job.opened(fingerprint):
        if done := job.manifest():
            runtime.say(f"invert: {name}: done before, {job.path} is up to date")
            return dict(done["summary"])
        job.claim()
        work = _Work(run, config, name, judge, inversion, job.path, fingerprint)
        summary = work.do(wanted, dev)
        job.finish(summary)
    return summary


def _specs(run: RunConfig, config: Config, name: str) -> tuple[ModelSpec, ModelSpec | None]:
    """The judge, and the model that writes its prompts where one is wanted."""
    judge = spec_of(run, name, "invert.models")
    return judge, _inversion_spec(run, config, name) if "inverse" in config.sources else None


def _inversion_spec(run: RunConfig, config: Config, name: str) -> ModelSpec:
    """The model that writes the prompts: a configured one, or what `sft` left."""
    if name in config.inversion:
        return spec_of(run, config.inversion[name], f"invert.inversion.{name}")
    sft = getattr(run, "sft", None)
    folder = folder_of(run, name, "inverse")
    if sft is None or name not in sft.models or JobDir(folder.parent, "inverse").manifest() is None:
        raise InputError(
            f"{folder} holds no finished training: run `inverdict sft` first, or set invert.inversion.{name}"
        )
    base = run.models[sft.models[name].base]
    assert isinstance(base, VllmSpec)
    return base.model_copy(update={"source": str((folder / "merged").resolve()), "revision": None})


class _Work:
    """One judge's inversion, stage by stage."""

    def __init__(
        self,
        run: RunConfig,
        config: Config,
        name: str,
        judge: ModelSpec,
        inversion: ModelSpec | None,
        folder: Path,
        fingerprint: Mapping[str, Any],
    ) -> None:
        self._run = run
        self._config = config
        self._name = name
        self._judge = judge
        self._inversion = inversion
        self._folder = folder
        self._fingerprint = fingerprint

    def _writer(self, source: Source) -> ModelSpec:
        """The model that writes the prompts of that source."""
        spec = self._inversion if source == "inverse" else self._judge
        assert spec is not None
        return spec

    def _asked(
        self,
        stage: str,
        asked: Callable[[], list[dict[str, Any]]],
        spec: ModelSpec,
        sampling: Sampling,
        keep: Sequence[str],
    ) -> list[dict[str, Any]]:
        what = f"invert: {self._name}: {stage}"
        return stage_replies(self._folder, stage, asked, self._run, spec, sampling, keep, what)

    def _special_tokens(self, spec: ModelSpec) -> tuple[str, ...]:
        known = known_encoder(spec)
        return known.special_tokens() if known else ()

    def do(self, wanted: Sequence[Unit], dev: Sequence[Record]) -> dict[str, Any]:
        written: list[dict[str, Any]] = []
        lines: list[dict[str, Any]] = []
        drafts = {source: self._drafts(source, wanted) for source in self._config.sources}
        candidates = {
            (source, place): self._candidates(source, unit, drafts[source][place])
            for source in self._config.sources
            for place, unit in enumerate(wanted)
        }
        values = self._objectives(wanted, candidates, dev)
        for (source, place), found in candidates.items():
            unit, known, notes = wanted[place], *values[source, place]
            order = ranked(found, known)
            written.append(self._write(source, unit, found, known, notes, order, dev))
            lines += [to_line(source, unit, one, known, notes, order) for one in found]
        write_text(
            self._folder / "candidates.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        )
        return {"templates": written, "folder": str(self._folder)}

    # ------------------------------------------------------------------ stage 1: sampled prompts

    def _drafts(self, source: Source, wanted: Sequence[Unit]) -> list[list[dict[str, Any]]]:
        """For each unit its sampled prompts: number, example, reply, finish_reason, error."""
        rows: list[dict[str, Any]] = [
            {"unit": place, "number": number * self._config.num_candidates + draw, "example": example.id}
            for place, unit in enumerate(wanted)
            for number, example in enumerate(unit.examples)
            for draw in range(self._config.num_candidates)
        ]
        spec = self._writer(source)
        ask = partial(self._question, source, spec)

        def asked() -> list[dict[str, Any]]:
            examples = {(place, one.id): one for place, unit in enumerate(wanted) for one in unit.examples}
            return [{**row, **ask(wanted[row["unit"]], examples[row["unit"], row["example"]], row)} for row in rows]

        config = self._config
        sampling = Sampling(config.max_tokens, config.temperature, config.top_p, config.top_k, self._run.seed)
        keep = ("unit", "number", "example", "reply", "finish_reason", "error")
        replies = self._asked(f"drafts-{source}", asked, spec, sampling, keep)
        return [[reply for reply in replies if reply["unit"] == place] for place in range(len(wanted))]

    def _question(
        self, source: Source, spec: ModelSpec, unit: Unit, example: Record, row: Mapping[str, Any]
    ) -> dict[str, Any]:
        known = known_encoder(spec)
        reply = as_reply(unit, example, with_score=self._config.with_score, special_tokens=self._special_tokens(spec))
        if source == "inverse":
            prompt, prefix = inverse_request(reply, chat=known is None or known.is_chat)
        else:
            prompt, prefix = forward_request(unit, reply), ""
        # A seed for each draw, or all draws of an example would be the same.
        seed = int(content_id(str(self._run.seed), source, *unit.aspects, str(row["number"]), example.id)[:7], 16)
        return {"prompt": prompt, "reply_prefix": prefix, "labels": [], "json_schema": "", "seed": seed}

    # ------------------------------------------------------------------ stage 2: slots and checks

    def _candidates(self, source: Source, unit: Unit, drafts: Sequence[Mapping[str, Any]]) -> list[Candidate]:
        tokens = self._special_tokens(self._writer(source))
        limits: dict[str, Any] = self._config.model_dump(include={"max_words", "require_scale"})
        return [make_candidate(source, unit, draft, tokens, **limits) for draft in drafts]

    # ------------------------------------------------------------------ stage 3: the choice

    def _objectives(
        self,
        wanted: Sequence[Unit],
        candidates: Mapping[tuple[Source, int], Sequence[Candidate]],
        dev: Sequence[Record],
    ) -> dict[tuple[Source, int], tuple[dict[int, float], dict[int, str]]]:
        """For each source and unit: the value of every verified candidate that has one, and why others have none."""
        measured = {place: _measured_on(unit, dev) for place, unit in enumerate(wanted)}
        tokens = self._special_tokens(self._judge)

        def asked() -> list[dict[str, Any]]:
            return [
                {"source": source, "unit": place, **row}
                for (source, place), found in candidates.items()
                for row in requests(found, measured[place], tokens)
            ]

        keep = ("source", "unit", "candidate", "aspect", "record", "label_logprobs", "error")
        replies = self._asked("choice", asked, self._judge, Sampling(max_tokens=1), keep)
        value_of = dev_agreement if self._config.dev else mean_log_probability
        by_candidate: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
        for reply in replies:
            by_candidate.setdefault((reply["source"], reply["unit"], reply["candidate"]), []).append(reply)
        found_values: dict[tuple[Source, int], tuple[dict[int, float], dict[int, str]]] = {}
        for (source, place), found in candidates.items():
            values, notes = found_values.setdefault((source, place), ({}, {}))
            for one in found:
                if one.is_verified:
                    value, why = value_of(one, by_candidate[source, place, one.number], measured[place])
                    if value is None:
                        notes[one.number] = why
                    else:
                        values[one.number] = value
        return found_values

    # ------------------------------------------------------------------ what comes out

    def _write(
        self,
        source: Source,
        unit: Unit,
        found: Sequence[Candidate],
        values: Mapping[int, float],
        notes: Mapping[int, str],
        order: Sequence[int],
        dev: Sequence[Record],
    ) -> dict[str, Any]:
        """The template file of a unit, and its verified candidates; returns the unit's entry of the summary."""
        by_number = {one.number: one for one in found}
        file = _file(unit, self._config)
        about = self._about(source, unit, found, values, order, dev)
        (self._folder / source).mkdir(exist_ok=True)
        (self._folder / "candidates" / source).mkdir(parents=True, exist_ok=True)
        for rank, number in enumerate(order, start=1):
            one = by_number[number]
            own = {
                **about,
                "candidate": number,
                "example": one.example,
                "rank": rank,
                "value": round(values[number], 6),
            }
            own["slots"] = dict(one.found)
            templates = [replace(template, about=own) for template in one.templates.values()]
            save_templates(self._folder / "candidates" / source / f"{Path(file).stem}.{number:03d}.txt", templates)
            if rank == 1:
                save_templates(self._folder / source / file, templates)
        if not order:
            self._fall_back(source, unit, found, notes, about)
        return {
            "source": source,
            "task": unit.task,
            "aspects": list(unit.aspects),
            "examples": [example.id for example in unit.examples],
            "num_candidates": len(found),
            "num_verified": sum(one.is_verified for one in found),
            "num_quoted": sum(one.is_verified and "appended" not in one.found.values() for one in found),
            "refused": dict(reasons(found, notes)),
            "fallback": not order,
            "value": round(values[order[0]], 6) if order else None,
        }

    def _about(
        self,
        source: Source,
        unit: Unit,
        found: Sequence[Candidate],
        values: Mapping[int, float],
        order: Sequence[int],
        dev: Sequence[Record],
    ) -> dict[str, Any]:
        seen = [*unit.examples, *(_measured_on(unit, dev) if self._config.dev else ())]
        return {
            "judge": self._name,
            "judge_fingerprint": weights_of(self._judge),
            "writer_fingerprint": weights_of(self._writer(source)),
            "examples": [example.id for example in unit.examples],
            "groups": sorted({record.group_key for record in seen}),
            "chosen_by": "agreement on the dev part" if self._config.dev else "mean log-probability of the human score",
            "num_candidates": len(found),
            "num_verified": sum(one.is_verified for one in found),
            "ranking": [f"{number}: {values[number]:.4f}" for number in order],
        }

    def _fall_back(
        self,
        source: Source,
        unit: Unit,
        found: Sequence[Candidate],
        notes: Mapping[int, str],
        about: Mapping[str, Any],
    ) -> None:
        runtime.say(
            f"invert: WARNING: {self._name}: all {len(found)} {source} prompts for {unit.task} were refused "
            f"({first_reasons(reasons(found, notes))}); the task's written rubric takes their place"
        )
        refused = [*(problem for one in found for problem in one.problems), *notes.values()]
        for aspect in unit.aspects:
            rubric = rubric_template(load_task(unit.task), aspect)
            own = {**about, "fallback": True, "refused": refused[:5]}
            save_templates(self._folder / source / file_name(unit.task, aspect), [replace(rubric, about=own)])


def _measured_on(unit: Unit, dev: Sequence[Record]) -> list[Record]:
    """The records on which a unit's candidates are compared: the dev part's, or the examples themselves."""
    rated = [r for r in dev if r.task == unit.task and any(aspect in r.scores for aspect in unit.aspects)]
    return rated or list(unit.examples)


def _file(unit: Unit, config: Config) -> str:
    return file_name(unit.task) if config.aspects_together else file_name(unit.task, unit.aspects[0])


def render(summary: Mapping[str, Any]) -> str:
    """The summary for the terminal: how many candidates held, why the others did not, and where the templates are."""
    lines = []
    for name, judge in summary["models"].items():
        lines.append(f"{name}: {judge['folder']}")
        for one in judge["templates"]:
            refused = ", ".join(f"{number} {reason}" for reason, number in sorted(one["refused"].items()))
            chosen = (
                "ALL REFUSED, the task's rubric takes their place" if one["fallback"] else f"best {one['value']:.3f}"
            )
            lines.append(
                f"  {one['source']:<8} {one['task']} ({', '.join(one['aspects'])}): {one['num_verified']} of "
                f"{one['num_candidates']} prompts usable, {one['num_quoted']} of them quote every text; {chosen}"
                + (f"\n           refused: {refused}" if refused else "")
            )
    return "\n".join(lines)
