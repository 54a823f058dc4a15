"""The rounds of the job `optimise`: run the judge, show its worst errors, sample drafts, measure them, keep the best.

Input: labelled records with a start template. Output: template files and a line per draft. The replies of each stage
of inference are kept in a file, so that an interrupted job repeats only the current one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.adapters import weights_of
from cluster.artifacts import write_text
from cluster.config import RunConfig
from cluster.generate import Sampling
from cluster.model_specs import ModelSpec, VllmSpec
from cluster.terminal import say
from cluster.tokens import special_tokens_of
from judging.judge import REPLY_COLUMNS, Judge
from judging.records import Record, content_id, seed_of
from judging.template import Template
from judging.template_io import file_name, save_templates
from train.inversion.one_shot import Unit
from train.inversion.ranking import spearman
from train.optimisation.rewriting import Case, judged_cases, problems_of, request, rewritten, worst_cases
from train.requests import Stages, known_encoder

if TYPE_CHECKING:
    from train.optimisation.config import Config

TOKENS = ("num_prompt_tokens", "num_generated_tokens")
MIN_COVERAGE = 0.9  # coverage required of a draft: with more unscored rows it cannot be selected


@dataclass
class State:
    """The subject of the optimisation: one task and aspect, its labelled records, and the best template so far."""

    unit: Unit
    start: Template
    records: Sequence[Record]
    shown: frozenset[str]  # groups whose errors are shown to the rewriting model; the others measure
    best: Template
    value: float = float("nan")
    cases: list[Case] = field(default_factory=list)  # of the best template, on all records
    rounds_without_gain: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def aspect(self) -> str:
        return self.unit.aspects[0]

    def measured(self, cases: Sequence[Case]) -> tuple[float, str]:
        """Agreement on the measuring half and ""; or NaN and the reason."""
        rows = [case for case in cases if case.record.group_key not in self.shown]
        scored = sum(case.predicted is not None for case in rows)
        if scored < MIN_COVERAGE * len(rows):
            return float("nan"), f"the judge scored {scored} of {len(rows)} texts"
        value = spearman(self.aspect, [(case.record, case.predicted) for case in rows])
        return value, "the agreement is undefined" if value != value else ""


def shared_groups(groups: Iterable[str], share: float) -> frozenset[str]:
    """The groups of a task's dev part that this job uses, selected by the hash of their names.

    At least two of three, since one half shows errors and the other measures; with a share below 1 at least one is
    left out.
    """
    ordered = sorted(set(groups), key=lambda key: content_id("optimise.share", key))
    num = round(share * len(ordered))
    return frozenset(ordered[: num if share == 1 else min(max(num, 2), len(ordered) - 1)])


def shown_groups(groups: Iterable[str]) -> frozenset[str]:
    """Every second group, in the order of the hash of their names."""
    return frozenset(sorted(groups, key=lambda key: content_id("optimise", key))[::2])


def state_of(key: tuple[str, str], start: Template, records: Sequence[Record]) -> State:
    """The state before the first round.

    Args:
        key: task and aspect.
        start: the start template.
        records: labelled; those of groups that the start template has seen are excluded.

    Returns:
        The state, with the start template as the best.
    """
    kept = [record for record in records if record.group_key not in start.seen_groups]
    shown = shown_groups({record.group_key for record in kept})
    return State(Unit(key[0], (key[1],), ()), start, kept, shown, start)


class Rounds:
    """One judge's optimisation: stages of inference, each kept in a file, so that a resumed job repeats only one."""

    def __init__(
        self, run: RunConfig, config: Config, name: str, judge: ModelSpec, writer: ModelSpec, folder: Path
    ) -> None:
        self._run, self._config, self._name, self._folder = run, config, name, folder
        self._judge, self._writer = judge, writer
        self._stages = Stages(run, folder, f"optimise: {name}")
        self._num_tokens = 0

    def do(self, states: Sequence[State]) -> dict[str, Any]:
        self._score("round-0-scores", [(state, {0: state.start}) for state in states], self._begin)
        stopped = f"after {self._config.rounds} rounds, as configured"
        last_tokens = 0
        for number in range(1, self._config.rounds + 1):
            active = [state for state in states if state.rounds_without_gain < self._config.patience]
            if not active:
                stopped = "no better instruction was found"
                break
            bound, before = self._config.max_total_tokens, self._num_tokens
            if bound is not None and before + last_tokens > bound:
                stopped = f"another round would exceed optimise.max_total_tokens ({before:,} used)"
                break
            self._round(number, active)
            last_tokens = self._num_tokens - before
        lines = [line for state in states for line in state.lines]
        write_text(
            self._folder / "rounds.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        )
        written = [self._write(state, stopped) for state in states]
        return {"templates": written, "num_tokens": self._num_tokens, "stopped": stopped, "folder": str(self._folder)}

    def _begin(self, state: State, cases: Mapping[int, list[Case]]) -> None:
        state.cases = cases[0]
        state.value, why = state.measured(state.cases)
        state.lines.append(self._line(state, 0, 0, state.start, [why] if why else [], state.value, cases=[]))

    # ------------------------------------------------------------------ one round

    def _round(self, number: int, active: Sequence[State]) -> None:
        shown = {id(state): self._worst(state) for state in active}
        drafts = self._drafts(number, active, shown)
        good: list[tuple[State, dict[int, Template]]] = []
        refused: dict[int, dict[int, tuple[Template, list[str]]]] = {}
        for place, state in enumerate(active):
            found: dict[int, Template] = {}
            for reply in (one for one in drafts if one["unit"] == place):
                draft = rewritten(state.unit, state.start, reply["reply"])
                limits = self._config.model_dump(include={"max_words", "require_scale"})
                problems = problems_of(draft, reply, shown[id(state)], **limits)
                if not problems and draft.text in (one.text for one in found.values()):
                    problems = ["it repeats another draft of the round"]
                if problems:
                    refused.setdefault(id(state), {})[reply["draft"]] = (draft, problems)
                else:
                    found[reply["draft"]] = draft
            good.append((state, found))

        def take(state: State, cases: Mapping[int, list[Case]]) -> None:
            self._take(number, state, dict(good_of[id(state)]), cases, refused.get(id(state), {}), shown[id(state)])

        good_of = {id(state): found for state, found in good}
        self._score(f"round-{number}-scores", good, take)

    def _worst(self, state: State) -> list[Case]:
        cases = [case for case in state.cases if case.record.group_key in state.shown]
        return worst_cases(cases, self._config.cases, state.start.scale.width)

    def _drafts(
        self, number: int, active: Sequence[State], shown: Mapping[int, Sequence[Case]]
    ) -> list[dict[str, Any]]:
        known, tokens = known_encoder(self._writer), special_tokens_of(self._writer)
        writer, length = self._writer, self._config.max_tokens
        room = writer.max_model_len - writer.reply_tokens(length) if isinstance(writer, VllmSpec) else 0

        def fits(prompt: str) -> bool:
            return known is None or known.prompt_ids(prompt, "", room) is not None

        def asked() -> list[dict[str, Any]]:
            rows = []
            for place, state in enumerate(active):
                prompt, num_cases = request(state.unit, state.best, shown[id(state)], tokens, fits)
                if not num_cases:
                    say(
                        f"optimise: {self._name}: {state.unit.task}/{state.aspect}: no case fits into the context of "
                        "the rewriting model"
                    )
                    continue
                for draft in range(self._config.num_drafts):
                    seed = seed_of(self._run.seed, str(number), state.unit.task, state.aspect, str(draft))
                    row = {"unit": place, "draft": draft, "prompt": prompt, "seed": seed}
                    rows.append({**row, "reply_prefix": "", "labels": [], "json_schema": ""})
            return rows

        config = self._config
        sampling = Sampling(config.max_tokens, config.temperature, config.top_p, seed=self._run.seed)
        keep = ("unit", "draft", "reply", "finish_reason", "error")
        return self._stage(f"round-{number}-drafts", asked, self._writer, sampling, keep)

    def _score(
        self,
        stage: str,
        wanted: Sequence[tuple[State, Mapping[int, Template]]],
        take: Callable[[State, Mapping[int, list[Case]]], None],
    ) -> None:
        """Score each state's records with its templates and pass the cases on to `take`."""
        tokens = special_tokens_of(self._judge)

        def asked() -> list[dict[str, Any]]:
            rows = []
            for place, (state, templates) in enumerate(wanted):
                for draft, template in templates.items():
                    judge = Judge.of(template, tokens)
                    for number, record in enumerate(state.records):
                        known = {"unit": place, "draft": draft, "record": number}
                        rows.append({**known, **judge.request(record, template.aspect)})
            return rows

        keep = ("unit", "draft", "record", *REPLY_COLUMNS)
        replies = self._stage(stage, asked, self._judge, Sampling(max_tokens=1), keep)
        sorted_replies: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for reply in replies:
            sorted_replies.setdefault((reply["unit"], reply["draft"]), []).append(reply)
        for place, (state, templates) in enumerate(wanted):
            cases = {
                draft: judged_cases(template, sorted_replies[place, draft], state.records)
                for draft, template in templates.items()
            }
            take(state, cases)

    def _take(
        self,
        number: int,
        state: State,
        drafts: Mapping[int, Template],
        cases: Mapping[int, list[Case]],
        refused: Mapping[int, tuple[Template, list[str]]],
        shown: Sequence[Case],
    ) -> None:
        """Keep the best draft of the round where it is better than the best template so far."""
        ids = [case.record.id for case in shown]
        values = {draft: state.measured(cases[draft]) for draft in drafts}
        usable = [draft for draft, (value, _) in values.items() if value == value]
        winner = min(
            usable, key=lambda draft: (-round(values[draft][0], 9), len(drafts[draft].text), draft), default=None
        )
        # Any measured draft is better than NaN (an undefined agreement of the start).
        gained = winner is not None and not values[winner][0] <= state.value + 1e-9
        if gained:
            assert winner is not None
            state.best, state.value, state.cases = drafts[winner], values[winner][0], cases[winner]
        state.rounds_without_gain = 0 if gained else state.rounds_without_gain + 1
        for draft, template in drafts.items():
            value, why = values[draft]
            line = self._line(state, number, draft, template, [why] if why else [], value, cases=ids)
            state.lines.append({**line, "kept": gained and draft == winner})
        for draft, (template, problems) in refused.items():
            state.lines.append(self._line(state, number, draft, template, problems, float("nan"), cases=ids))

    def _line(
        self,
        state: State,
        number: int,
        draft: int,
        template: Template,
        problems: Sequence[str],
        value: float,
        *,
        cases: Sequence[str],
    ) -> dict[str, Any]:
        return {
            "task": state.unit.task,
            "aspect": state.aspect,
            "round": number,
            "draft": draft,
            "value": None if value != value else round(value, 6),
            "problems": list(problems),
            "cases": list(cases),
            "kept": False,
            "text": template.text,
        }

    def _stage(
        self,
        stage: str,
        asked: Callable[[], list[dict[str, Any]]],
        spec: ModelSpec,
        sampling: Sampling,
        keep: Sequence[str],
    ) -> list[dict[str, Any]]:
        """The replies of a stage; their tokens are counted."""
        replies = self._stages.replies(stage, asked, spec, sampling, keep=(*keep, *TOKENS))
        self._num_tokens += sum(int(reply[name]) for reply in replies for name in TOKENS)
        return replies

    # ------------------------------------------------------------------ what comes out

    def _write(self, state: State, stopped: str) -> dict[str, Any]:
        """Write the template file of a task and aspect; returns its entry of the summary."""
        gains = [line for line in state.lines if line["kept"]]
        first = state.lines[0]["value"]
        value = None if state.value != state.value else round(state.value, 6)
        groups = {record.group_key for record in state.records} | state.start.seen_groups
        about = {
            "judge": self._name,
            "judge_fingerprint": weights_of(self._judge),
            "writer_fingerprint": weights_of(self._writer),
            "groups": sorted(groups),
            "started_from": state.start.origin,
            "chosen_by": "agreement on the measuring half of the dev part (mean within-group Spearman)",
            "value": value,
            "value_of_start": first,
            "round": gains[-1]["round"] if gains else 0,
            "num_drafts": sum(line["round"] > 0 for line in state.lines),
        }
        folder = self._folder / "optimised"
        folder.mkdir(exist_ok=True)
        save_templates(
            folder / file_name(state.unit.task, state.aspect), [replace(state.best, about=about, several=False)]
        )
        if not gains:
            say(
                f"optimise: {self._name}: {state.unit.task}/{state.aspect}: no draft is better than the start, which "
                "is kept"
            )
        refused = [line for line in state.lines if line["round"] and line["problems"]]
        num_measured = sum(case.record.group_key not in state.shown for case in state.cases)
        return {
            "task": state.unit.task,
            "aspect": state.aspect,
            "value_of_start": first,
            "value": value,
            "num_measured": num_measured,
            "round": about["round"],
            "num_rounds": max(line["round"] for line in state.lines),
            "num_drafts": about["num_drafts"],
            "num_refused": len(refused),
            "refused": [line["problems"][0] for line in refused][:5],
        }
