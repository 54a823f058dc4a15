"""One judge's inversion for the job `invert`: sampled prompts -> checked candidates -> the best as template files.

Each stage of inference keeps its replies in the judge's folder, so an interrupted job repeats only the current one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.adapters import weights_of
from cluster.artifacts import write_text
from cluster.config import RunConfig
from cluster.generate import Sampling
from cluster.model_specs import ModelSpec
from cluster.terminal import say
from cluster.tokens import special_tokens_of
from judging.judge import REPLY_COLUMNS
from judging.records import Record, seed_of
from judging.tasks import load_task
from judging.template import rubric_template
from judging.template_io import file_name, save_templates
from train.finetuning.pairs import inverse_request
from train.inversion.config import Source
from train.inversion.one_shot import Unit, as_reply, forward_request
from train.inversion.prompt_candidates import Candidate, first_reasons, make_candidate, reasons, to_line
from train.inversion.ranking import dev_agreement, mean_log_probability, ranked, requests
from train.requests import Stages, known_encoder

if TYPE_CHECKING:
    from train.inversion.config import Config


class Inversion:
    """The stages: `inversion` writes the prompts, `judge` is prompted with them, `folder` keeps all replies."""

    def __init__(
        self,
        run: RunConfig,
        config: Config,
        name: str,
        judge: ModelSpec,
        inversion: ModelSpec | None,
        folder: Path,
    ) -> None:
        self._run = run
        self._config = config
        self._name = name
        self._judge = judge
        self._inversion = inversion
        self._folder = folder
        self._stages = Stages(run, folder, f"invert: {name}")

    def _writer(self, source: Source) -> ModelSpec:
        """The model that writes the prompts of that source."""
        spec = self._inversion if source == "inverse" else self._judge
        assert spec is not None
        return spec

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
            written.append(self._write(source, unit, found, known, notes, order, dev=dev))
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
        replies = self._stages.replies(f"drafts-{source}", asked, spec, sampling, keep=keep)
        return [[reply for reply in replies if reply["unit"] == place] for place in range(len(wanted))]

    def _question(
        self, source: Source, spec: ModelSpec, unit: Unit, example: Record, row: Mapping[str, Any]
    ) -> dict[str, Any]:
        known = known_encoder(spec)
        reply = as_reply(unit, example, with_score=self._config.with_score, special_tokens=special_tokens_of(spec))
        if source == "inverse" and (request := self._config.request(reply)) is not None:
            prompt, prefix = request, ""
        elif source == "inverse":
            prompt, prefix = inverse_request(reply, chat=known is None or known.is_chat)
        else:
            prompt, prefix = forward_request(unit, reply), ""
        # A seed for each sample, or all samples of an example would be identical.
        seed = seed_of(self._run.seed, source, *unit.aspects, str(row["number"]), example.id)
        return {"prompt": prompt, "reply_prefix": prefix, "labels": [], "json_schema": "", "seed": seed}

    # ------------------------------------------------------------------ stage 2: slots and checks

    def _candidates(self, source: Source, unit: Unit, drafts: Sequence[Mapping[str, Any]]) -> list[Candidate]:
        tokens = special_tokens_of(self._writer(source))
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
        tokens = special_tokens_of(self._judge)

        def asked() -> list[dict[str, Any]]:
            return [
                {"source": source, "unit": place, **row}
                for (source, place), found in candidates.items()
                for row in requests(found, measured[place], tokens)
            ]

        keep = ("source", "unit", "candidate", "aspect", "record", *REPLY_COLUMNS)
        replies = self._stages.replies("choice", asked, self._judge, Sampling(max_tokens=1), keep=keep)
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
        *,
        dev: Sequence[Record],
    ) -> dict[str, Any]:
        """Write the template file of a unit and its verified candidates; returns the unit's entry of the summary."""
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
        say(
            f"invert: WARNING: {self._name}: all {len(found)} {source} prompts for {unit.task} were rejected "
            f"({first_reasons(reasons(found, notes))}). The task's rubric is used instead."
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
