"""Command `plan`: estimate the cost of a configuration's jobs before they run. It starts nothing.

Input: the configuration and what `Facts` finds on this machine. Output: a row per job and model (tokens, GPU hours,
wall hours, disk, GPU memory), and every assumption in words with its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cluster.artifacts import Outcome
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.model_specs import FeaturesSpec
from train.planning.costs import (
    BYTES_A_TOKEN,
    asking,
    generation,
    hours,
    memory,
    operations,
    share_asked,
    share_of_layers,
    thinking,
    weights_on_disk,
)
from train.planning.facts import Config, Facts, Node, Texts
from train.planning.model_size import Size
from train.planning.prompts import Part, Prompts
from train.planning.table import render

__all__ = ["Config", "main", "render"]

VERDICT_BYTES = 300
REASON_CHARS = 200
SUMMED = ("tokens_in", "tokens_out", "gpu_hours", "wall_hours", "disk_bytes")


@dataclass(frozen=True)
class Row:
    """The cost of one job for one model. `disk`: bytes by kind of artefact."""

    job: str
    model: str
    tokens_in: float
    tokens_out: float
    gpu_hours: float
    wall_hours: float
    gpu_memory_bytes: float
    num_gpus: int
    disk: dict[str, float]


def main(run: RunConfig) -> Outcome:
    """Plan every job that has a section: rows for `plan.node`, and totals for every type of machine.

    Raises UserError where no section has a plan, or where the size of a model is unknown.
    """
    facts = Facts(run)
    planners = {
        "distill": _distill,
        "sft": _sft,
        "invert": _invert,
        "optimise": _optimise,
        "feedback": _feedback,
        "fit_judge": _fit_judge,
        "panel": _panel,
        "evaluate": _evaluate,
    }
    jobs = [job for job in planners if facts.section(job) is not None]
    if not jobs:
        raise UserError(
            f"The configuration has no section to plan. Add one of {', '.join(planners)}.", code="missing_section"
        )

    def rows_on(node: str) -> list[Row]:
        facts.node = node
        return [row for job in jobs for row in planners[job](facts)]

    chosen = facts.node
    rows = rows_on(chosen)
    facts.assume(
        "not counted: fit, index, certify and transfer, engine start-up, padding, chat templates; counted although it "
        "may be saved: requests that a prompt skips, completed work",
        "assumed: fixed",
    )
    assumptions = [{"words": words, "source": source} for words, source in facts.assumed.items()]
    nodes = [_on_node(node, facts.config.nodes[node], rows_on(node)) for node in facts.config.nodes]
    found = [{**asdict(row), "disk_bytes": sum(row.disk.values())} for row in rows]
    total = {name: sum(row[name] for row in found) for name in SUMMED}
    total["gpu_memory_bytes"] = max((row.gpu_memory_bytes for row in rows), default=0)
    return Outcome(
        0,
        {
            "node": chosen,
            "jobs": found,
            "total": {"job": "total", "model": "", **total},
            "nodes": nodes,
            "assumptions": assumptions,
        },
    )


def _on_node(name: str, node: Node, rows: list[Row]) -> dict[str, Any]:
    """All jobs in sequence on machines of one type; whole machines are paid for as long as a job runs."""
    used = [math.ceil(row.num_gpus / node.gpus) for row in rows]
    node_hours = sum(num * row.wall_hours for num, row in zip(used, rows, strict=True))
    return {
        "node": name,
        "gpu_hours": sum(row.gpu_hours for row in rows),
        "wall_hours": sum(row.wall_hours for row in rows),
        "num_nodes": max(used, default=0),
        "node_hours": node_hours,
        "money": node_hours * node.price_per_hour if node.price_per_hour else None,
        "fits": all(row.gpu_memory_bytes <= node.memory_gb * 1e9 for row in rows),
    }


# ---------------------------------------------------------------------- the jobs


def _distill(facts: Facts) -> Iterator[Row]:
    for name in facts.section("distill").models:
        known = facts.answers(name)
        read, written = known.num * known.asked, known.num * known.answered
        generated = written + known.num * thinking(facts, name)
        cost = generation(facts, name, "distill.models", known.num, read, generated)
        facts.assume(
            f"responses on disk: instruction twice, response once, {BYTES_A_TOKEN} bytes per token", "assumed: fixed"
        )
        yield Row("distill", name, read, generated, *cost, {"answers": (2 * read + written) * BYTES_A_TOKEN})


def _sft(facts: Facts) -> Iterator[Row]:
    for name, chosen in facts.section("sft").models.items():
        known = facts.instructions if chosen.mode == "white_box" else facts.answers(name)
        size = facts.size(chosen.base, f"sft.models.{name}.base")
        if size is None:
            raise UserError(
                f"`sft.models.{name}.base`: {chosen.base!r} is not a vLLM model, so it has no weights to train.",
                code="unsupported",
                key=f"sft.models.{name}.base",
            )
        for direction in chosen.directions:
            yield _training(facts, f"{name}/{direction}", known, size)


def _training(facts: Facts, what: str, known: Texts, size: Size) -> Row:
    config = facts.section("sft")
    num_train = round(known.num * (1 - config.dev_share))
    num_dev, tokens = known.num - num_train, min(known.asked + known.answered, config.cutoff)
    steps = math.ceil(config.epochs * math.ceil(num_train / config.effective_batch))
    facts.assume(
        f"{what}: {num_train:,} pairs of {tokens:.0f} tokens, {config.epochs:g} epochs, {steps:,} steps; "
        f"{config.batch_in_words}",
        "sft.dev_share, cutoff, epochs, effective_batch",
    )
    per_token, num_dev_passes = operations(facts), math.ceil(config.epochs) + 1
    read, read_dev = num_train * tokens * config.epochs, num_dev * tokens * num_dev_passes
    alone, dev = (hours(facts, n * size.params) for n in (per_token * read, 2 * read_dev))
    if num_dev:
        words = f"dev loss: {num_dev:,} pairs {num_dev_passes} times, 2 x parameters x tokens, on one worker"
        facts.assume(words, "sft.dev_share")
    wall = alone / config.num_workers + dev
    disk = {"pairs": known.num * tokens * BYTES_A_TOKEN, **weights_on_disk(facts, size)}
    return Row(
        "sft", what, read + read_dev, 0, wall * config.num_workers, wall, memory(facts, size), config.num_workers, disk
    )


def _invert(facts: Facts) -> Iterator[Row]:
    config, sft = facts.section("invert"), facts.section("sft")
    for name in config.models:
        for source in config.sources:
            writer, place = name, "invert.models"
            if source == "inverse":
                made = sft.models[name].base if sft and name in sft.models else None
                writer, place = config.inversion.get(name, made), f"invert.inversion.{name}"
            if writer is None:
                raise UserError(
                    f"`{place}` is missing, and `sft` trains no inversion model for {name}. Set one of the two.",
                    code="missing_key",
                    key=place,
                )
            yield _inversion(facts, f"{name}/{source}", name, writer, place)


def _inversion(facts: Facts, what: str, judge: str, writer: str, place: str) -> Row:
    """Prompts sampled by the inversion model, each then measured by the judge on every aspect and text."""
    config = facts.section("invert")
    drafts = config.num_candidates * len(facts.examples)
    trials = [config.num_candidates * one.num_aspects * one.num_tried_on for one in facts.examples]
    read = config.num_candidates * sum(one.tokens for one in facts.examples)
    tried_on = zip(trials, facts.examples, strict=True)
    read_trying = sum(num * (config.max_tokens + one.tokens) for num, one in tried_on)
    written = drafts * config.max_tokens
    facts.assume(
        f"invert: {config.max_tokens} tokens per sampled prompt (the maximum), all verified and measured on all texts",
        "invert.max_tokens, num_candidates",
    )
    one = generation(facts, writer, place, drafts, read, written)
    two = generation(facts, judge, "invert.models", sum(trials), read_trying, sum(trials))
    cost = one.then(two)
    # A prompt is in the stage's file, twice in candidates.jsonl (raw, with slots) and in a template file.
    disk = {"candidates": 4.0 * written * BYTES_A_TOKEN}
    return Row("invert", what, read + read_trying, written + sum(trials), *cost, disk)


def _optimise(facts: Facts) -> Iterator[Row]:
    """The start, then each draft of every round, is measured on all texts of the share; drafts share a request."""
    config = facts.section("optimise")
    asked = facts.prompts("optimise", config.aspects, "dev", rated=True)
    if asked is None:
        return
    facts.assume("optimise: all rounds run, and all drafts are measured", "optimise.rounds, num_drafts")
    units = len(asked.num_of)
    for name in config.models:
        trials = asked.num * config.share * (1 + config.rounds * config.num_drafts)
        trying = asking(facts, name, "optimise.models", asked, trials, 1)
        writer, place = config.optimisers.get(name, name), f"optimise.optimisers.{name}"
        shown = config.cases * asked.example / facts.chars_a_token(writer, place, asked)
        drafts, distinct = config.rounds * config.num_drafts * units, config.rounds * units
        read, written = drafts * shown, float(drafts * (config.max_tokens + thinking(facts, writer)))
        cost = trying.cost.then(
            generation(facts, writer, place, drafts, read, written, known=(drafts - distinct) * shown)
        )
        disk = {"rounds": 2.0 * written * BYTES_A_TOKEN}
        yield Row("optimise", name, trying.read + read, trials + written, *cost, disk)


def _feedback(facts: Facts) -> Iterator[Row]:
    config = facts.section("feedback")
    asked = facts.prompts("feedback", config.aspects, "pool", rated=True, most=config.queries)
    if asked is None:
        return
    facts.assume("feedback: the example in a prompt is as long as the text, and is not cached", "assumed: fixed")
    num = asked.num * (config.random + config.bm25 + config.semantic + config.trained)
    found = asking(facts, config.model, "feedback.model", asked, num, 1, examples=asked.example, are_fixed=False)
    yield Row("feedback", config.model, found.read, float(num), *found.cost, {"pairs": float(VERDICT_BYTES * num)})


def _fit_judge(facts: Facts) -> Iterator[Row]:
    """One pass of the whole model over every labelled text; fitted judges then run on a part of its layers."""
    config, evaluate = facts.section("fit_judge"), facts.section("evaluate")
    asked = facts.prompts("fit-judge", config.aspects, config.labels, rated=True) if evaluate else None
    if asked is None:
        return
    facts.assume("hidden states on disk: 4 bytes per width and depth", "fit_judge.depths")
    for name, judge in evaluate.judges.items():
        if judge.score_mode != "fitted" or name not in (config.judges or (name,)):
            continue
        place = f"evaluate.judges.{name}.model"
        examples, are_fixed = _examples(facts, judge, asked, place)
        found = asking(facts, judge.model, place, asked, asked.num, 0, examples=examples, are_fixed=are_fixed)
        size, share = facts.size(judge.model, place), max(config.depths)
        width, params = (size.shape.width, size.params) if size else (0, 0)
        disk = {"states": 4.0 * width * len(config.depths) * asked.num, "cut model": 2 * params * share}
        yield Row("fit-judge", name, found.read, 0.0, *found.cost, disk)


def _panel(facts: Facts) -> Iterator[Row]:
    """The dev part; where a judge has an optimised prompt, without the groups that selected it."""
    optimise, evaluate = facts.section("optimise"), facts.section("evaluate")
    is_used = evaluate and any(judge.prompt == "optimised" for judge in evaluate.judges.values())
    left = 1 - optimise.share if optimise and is_used else 1
    yield from _judged(facts, "panel", "dev", left)


def _evaluate(facts: Facts) -> Iterator[Row]:
    data, config = facts.section("data"), facts.section("evaluate")
    part: Part = data.part if data else "test"
    yield from _judged(facts, "evaluate", part, 1)
    if config.pairs:
        yield from _pairs(facts, config, part)
    asked = facts.prompts("evaluate", config.aspects, part) if config.integrator else None
    if asked is not None:
        model, num_judges = config.integrator.model, len(config.judges)
        facts.assume(
            f"integrator: {REASON_CHARS} characters of each judge; its reply at maximum length", "assumed: fixed"
        )
        reasons = float(REASON_CHARS * num_judges)
        place, written = "evaluate.integrator.model", config.integrator.max_tokens + thinking(facts, model)
        found = asking(facts, model, place, asked, asked.num, written, examples=reasons, are_fixed=False)
        disk = {"replies": float(VERDICT_BYTES * asked.num)}
        yield Row("evaluate", f"integrator {model}", found.read, float(asked.num * written), *found.cost, disk)


def _judged(facts: Facts, job: str, part: Part, share: float) -> Iterator[Row]:
    """Every judge on a share of a part."""
    config = facts.section("evaluate")
    asked = facts.prompts(job, config.aspects, part) if config else None
    if asked is None:
        return
    num, cascade = round(asked.num * share), config.vote.cascade if job == "evaluate" else None
    facts.assume(
        f"{job}: {num:,} prompts per judge, {asked.mean:,.0f} characters each; "
        f"{asked.shared / max(1, asked.chars):.0%} of them are cached from the previous prompt",
        f"data, {part} part: measured",
    )
    facts.assume(
        "judges: a learned prompt as long as the rubric, an example as long as the text, a parsed reply at maximum "
        f"length; {VERDICT_BYTES} bytes per verdict",
        "assumed: fixed",
    )
    for name, judge in config.judges.items():
        if isinstance(facts.run.models.get(judge.model), FeaturesSpec):
            facts.assume(f"{name}: a text feature, which costs nothing", f"models.{judge.model}.backend")
            continue
        num = round(asked.num * share * share_asked(facts, name, cascade))
        place, is_fitted = f"evaluate.judges.{name}.model", judge.score_mode == "fitted"
        written = 0 if is_fitted else _reply(facts, judge)
        examples, are_fixed = _examples(facts, judge, asked, place)
        found = asking(facts, judge.model, place, asked, num, written, examples=examples, are_fixed=are_fixed)
        cost = found.cost.times(share_of_layers(facts, name)) if is_fitted else found.cost
        disk = {"verdicts": float(VERDICT_BYTES * num + num * written * BYTES_A_TOKEN)}
        yield Row(job, name, found.read, float(num * written), *cost, disk)


def _pairs(facts: Facts, config: Any, part: Part) -> Iterator[Row]:
    """Every judge that compares, on both orders of each pair."""
    models = facts.run.models
    asked = facts.pair_prompts(config, part)
    if asked is None:
        return
    facts.assume(f"pairs: {asked.num:,} prompts per judge, {asked.mean:,.0f} characters each", "data: measured")
    able = {name: one for name, one in config.judges.items() if not isinstance(models.get(one.model), FeaturesSpec)}
    for name, judge in config.pairs.comparing(able, config.vote).items():
        num = round(asked.num * share_asked(facts, name, config.vote.cascade))
        written = _reply(facts, judge)
        found = asking(facts, judge.model, f"evaluate.judges.{name}.model", asked, num, written)
        disk = {"verdicts": float(VERDICT_BYTES * num + num * written * BYTES_A_TOKEN)}
        yield Row("evaluate", f"pairs {name}", found.read, float(num * written), *found.cost, disk)


def _reply(facts: Facts, judge: Any) -> int:
    """Tokens of a judge's reply, at most."""
    return judge.max_tokens + thinking(facts, judge.model) if judge.score_mode == "parsed" else 1


def _examples(facts: Facts, judge: Any, asked: Prompts, place: str) -> tuple[float, bool]:
    """Characters of the examples in a prompt, and whether they are the same in all of them."""
    if judge.icl:
        budget = judge.icl.max_tokens * facts.chars_a_token(judge.model, place, asked)
        return min(judge.icl.wanted * asked.example, budget), False
    num_tasks = len({task for task, _ in asked.num_of})
    return len(judge.examples) / max(1, num_tasks) * asked.example, True
