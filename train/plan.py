"""Command `plan`: what the jobs of a configuration will cost, before anything is spent. It starts nothing.

In: the configuration and what `Facts` finds on this machine. Out: a row a job and model (tokens, GPU hours, wall hours,
disk, GPU memory), and every assumption in words with its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from cluster.config import RunConfig, VllmSpec, most
from cluster.errors import UserError
from train.modelsize import Size
from train.planfacts import Config, Facts, Texts
from train.plantable import count, render

__all__ = ["Config", "main", "render"]

BYTES_A_TOKEN = 4  # as text, and as a token id
VERDICT_BYTES = 300
SUMMED = ("tokens_in", "tokens_out", "gpu_hours", "wall_hours", "disk_bytes")


class Cost(NamedTuple):
    """GPU hours, hours on the clock, bytes of memory of one GPU; 0 for a model that runs elsewhere."""

    gpu_hours: float = 0
    wall_hours: float = 0
    gpu_memory_bytes: float = 0


@dataclass(frozen=True)
class Row:
    """What one job costs for one model. `disk`: bytes by what is kept."""

    job: str
    model: str
    tokens_in: float
    tokens_out: float
    gpu_hours: float
    wall_hours: float
    gpu_memory_bytes: float
    disk: dict[str, float]


class Planned(NamedTuple):
    exit_code: int
    summary: dict[str, Any]


def main(run: RunConfig) -> Planned:
    """Plan every job that has a section. Raises UserError where there is none, or where a size cannot be known."""
    facts = Facts(run)
    planners = {"distill": _distill, "sft": _sft, "invert": _invert, "evaluate": _evaluate}
    jobs = [job for job in planners if facts.section(job) is not None]
    if not jobs:
        raise UserError(f"the configuration has no section of a job that could be planned: {', '.join(planners)}")
    rows = [row for job in jobs for row in planners[job](facts)]
    facts.assume(
        "not counted: starts of engines, padding, texts left out, what is done already, the words around a text (chat "
        "template); without GPUs all of it takes far longer",
        "assumed: fixed",
    )
    found = [{**asdict(row), "disk_bytes": sum(row.disk.values())} for row in rows]
    total = {name: sum(row[name] for row in found) for name in SUMMED}
    total["gpu_memory_bytes"] = max((row.gpu_memory_bytes for row in rows), default=0)
    assumptions = [{"words": words, "source": source} for words, source in facts.assumed.items()]
    return Planned(0, {"jobs": found, "total": {"job": "total", "model": "", **total}, "assumptions": assumptions})


# ---------------------------------------------------------------------- the jobs


def _distill(facts: Facts) -> Iterator[Row]:
    for name in facts.section("distill").models:
        known = facts.answers(name)
        read, written = known.num * known.asked, known.num * known.answered
        cost = _generation(facts, name, "distill.models", known.num, read, written)
        facts.assume(
            f"answers on disk: instruction twice, answer once, {BYTES_A_TOKEN} bytes a token", "assumed: fixed"
        )
        yield Row("distill", name, read, written, *cost, {"answers": (2 * read + written) * BYTES_A_TOKEN})


def _sft(facts: Facts) -> Iterator[Row]:
    for name, chosen in facts.section("sft").models.items():
        known = facts.instructions if chosen.mode == "white_box" else facts.answers(name)
        size = facts.size(chosen.base, f"sft.models.{name}.base")
        if size is None:
            raise UserError(f"sft.models.{name}.base: {chosen.base!r} has no weights here that could be trained")
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
    per_token, num_dev_passes = _operations(facts), math.ceil(config.epochs) + 1
    read, read_dev = num_train * tokens * config.epochs, num_dev * tokens * num_dev_passes
    hours, hours_dev = (_hours(facts, n * size.params) for n in (per_token * read, 2 * read_dev))
    if num_dev:
        words = f"dev loss: {num_dev:,} pairs {num_dev_passes} times, 2 x parameters x tokens, by one worker alone"
        facts.assume(words, "sft.dev_share")
    wall = hours / config.num_workers + hours_dev
    disk = {"pairs": known.num * tokens * BYTES_A_TOKEN, **_weights_on_disk(facts, size)}
    return Row("sft", what, read + read_dev, 0, wall * config.num_workers, wall, _memory(facts, size), disk)


def _invert(facts: Facts) -> Iterator[Row]:
    config, sft = facts.section("invert"), facts.section("sft")
    for name in config.models:
        for source in config.sources:
            writer, place = name, "invert.models"
            if source == "inverse":
                made = sft.models[name].base if sft and name in sft.models else None
                writer, place = config.inversion.get(name, made), f"invert.inversion.{name}"
            if writer is None:
                raise UserError(f"{place}: neither it nor `sft` names the inversion model of {name}")
            yield _inversion(facts, f"{name}/{source}", name, writer, place)


def _inversion(facts: Facts, what: str, judge: str, writer: str, place: str) -> Row:
    """Prompts sampled by the writer, then each tried by the judge on every aspect and text."""
    config = facts.section("invert")
    drafts = config.num_candidates * len(facts.examples)
    trials = [config.num_candidates * one.num_aspects * one.num_tried_on for one in facts.examples]
    read = config.num_candidates * sum(one.tokens for one in facts.examples)
    tried_on = zip(trials, facts.examples, strict=True)
    read_trying = sum(num * (config.max_tokens + one.tokens) for num, one in tried_on)
    written = drafts * config.max_tokens
    facts.assume(
        f"invert: {config.max_tokens} tokens a sampled prompt (the most), all of them usable and tried on all",
        "invert.max_tokens, num_candidates",
    )
    one = _generation(facts, writer, place, drafts, read, written)
    two = _generation(facts, judge, "invert.models", sum(trials), read_trying, sum(trials))
    cost = Cost(one.gpu_hours + two.gpu_hours, one.wall_hours + two.wall_hours, max(one[2], two[2]))
    # A prompt stands in the stage's file, twice in candidates.jsonl (raw, with slots) and in a template file.
    disk = {"candidates": 4.0 * written * BYTES_A_TOKEN}
    return Row("invert", what, read + read_trying, written + sum(trials), *cost, disk)


def _evaluate(facts: Facts) -> Iterator[Row]:
    asked = facts.prompts()
    if asked is None:
        return
    facts.assume(
        "evaluate: a learned prompt as long as the rubric, an example as a prompt, a parsed reply at its longest; "
        f"nothing shared between prompts; {VERDICT_BYTES} bytes a verdict",
        "assumed: fixed",
    )
    for name, judge in facts.section("evaluate").judges.items():
        read = asked.tokens * (1 + len(judge.examples))
        written = float(asked.num * (judge.max_tokens if judge.score_mode == "parsed" else 1))
        cost = _generation(facts, judge.model, f"evaluate.judges.{name}.model", asked.num, read, written)
        disk = {"verdicts": VERDICT_BYTES * asked.num + written * BYTES_A_TOKEN}
        yield Row("evaluate", name, read, written, *cost, disk)


# ---------------------------------------------------------------------- what asking a model costs


def _generation(facts: Facts, name: str, place: str, num: int, read: float, written: float) -> Cost:
    """Of `num` requests to a model that read and write so many tokens in all."""
    size, spec = facts.size(name, place), facts.run.models[name]
    if size is None or not isinstance(spec, VllmSpec) or not num:
        return Cost()
    gpus, engines = spec.num_workers, most(spec.num_engines)
    rate = _decode_rate(facts, size, math.ceil(num / engines), (read + written / 2) / num)
    hours = _hours(facts, 2 * size.params * read) + written / rate / 3600
    facts.assume(
        f"{name}: engines x GPUs of each: {engines} x {gpus}; at least the weights, 2 bytes a parameter, lie "
        "in an engine's GPUs",
        f"models.{name}",
    )
    return Cost(hours, hours / (engines * gpus), 2 * size.params / gpus)


def _decode_rate(facts: Facts, size: Size, num: int, context: float) -> float:
    """Tokens a second that one GPU writes; `num`: requests an engine, `context`: mean tokens behind each."""
    config = facts.config
    if config.decode_tokens_per_s_per_gpu:
        words = f"a GPU writes {config.decode_tokens_per_s_per_gpu:g} tokens/s; reading: 2 x parameters x tokens"
        facts.assume(words, facts.keys("decode_tokens_per_s_per_gpu"))
        return config.decode_tokens_per_s_per_gpu
    facts.assume(
        "reading: 2 x parameters x tokens operations; writing: a step adds a token to each of at most "
        f"{config.answers_at_once} answers and reads the weights and all their keys and values once (2 bytes each) at "
        f"{config.gpu_gb_s:g} GB/s x {config.bandwidth_share:g}, but computes no faster than reading",
        facts.keys("answers_at_once", "gpu_gb_s", "bandwidth_share"),
    )
    at_once = min(config.answers_at_once, num)
    bytes_a_step = 2 * size.params + at_once * context * 4 * size.shape.layers * size.shape.keys
    by_bandwidth = at_once * config.gpu_gb_s * 1e9 * config.bandwidth_share / bytes_a_step
    return min(by_bandwidth, 1 / (_hours(facts, 2 * size.params) * 3600))


def _hours(facts: Facts, operations: float) -> float:
    config = facts.config
    words = f"a GPU computes {config.gpu_tflops:g} TFLOPS (dense bfloat16) x {config.mfu:g}"
    facts.assume(words, facts.keys("gpu_tflops", "mfu"))
    return operations / (config.gpu_tflops * 1e12 * config.mfu) / 3600


# ---------------------------------------------------------------------- what a training needs


def _operations(facts: Facts) -> int:
    """For each parameter and token."""
    config = facts.section("sft")
    of_what = {"LoRA": 4} if config.method == "lora" else {"full": 6}
    of_what |= {"gradient checkpointing": 2} if config.gradient_checkpointing else {}
    per_token = sum(of_what.values())
    parts = " + ".join(f"{number} {name}" for name, number in of_what.items())
    words = f"training: {per_token} x parameters x tokens operations ({parts}); a GPU a worker"
    facts.assume(words, "sft.method, gradient_checkpointing, num_workers")
    return per_token


def _trained(facts: Facts, size: Size) -> float:
    config = facts.section("sft")
    return size.shape.in_layers(config.lora_rank) if config.method == "lora" else size.params


def _memory(facts: Facts, size: Size) -> float:
    """Bytes that a training worker needs on its GPU."""
    config, shape, trained = facts.section("sft"), size.shape, _trained(facts, size)
    num_tokens = config.per_device_batch * config.cutoff
    a_layer = 16 * shape.width + 4 * (shape.queries + shape.keys) + 8 * shape.inner
    kept = 2 * shape.width * shape.layers + a_layer if config.gradient_checkpointing else a_layer * shape.layers
    frozen, between = (2 if config.method == "lora" else 0), (4 if config.num_workers > 1 else 0)
    facts.assume(
        f"memory of a worker: {frozen} bytes a frozen parameter; {18 + between} a trained one (weights, gradients, "
        f"Adam: 16, copy in bfloat16: 2, gradients between workers: {between}); activations of "
        f"{config.per_device_batch} rows x {config.cutoff} tokens, {count(kept)} bytes each",
        "assumed: fixed",
    )
    facts.assume(
        f"activations of a token in a layer: 16 x width + 4 x (queries + keys) + 8 x MLP = {a_layer:,} bytes, kept of "
        + (f"one layer, and 2 x width of all {shape.layers}" if config.gradient_checkpointing else "every layer"),
        "counted as in arXiv 2205.05198, no attention matrix, no logits",
    )
    return float(frozen * size.params + (18 + between) * trained + num_tokens * kept)


def _weights_on_disk(facts: Facts, size: Size) -> dict[str, float]:
    config, trained = facts.section("sft"), _trained(facts, size)
    lora = config.method == "lora"
    if lora:
        facts.assume(
            f"LoRA of rank {config.lora_rank} on all linear layers: {count(trained)} parameters", size.shape_from
        )
    facts.assume(
        f"training on disk: pairs {BYTES_A_TOKEN} bytes a token; two checkpoints (the last, the next) of 12 bytes a "
        f"trained parameter, as much again in the temporary folder; "
        f"{'adapter 4, merged 2' if lora else 'model 4'} bytes a parameter",
        "assumed: fixed",
    )
    whole = {"adapter": 4.0 * trained, "merged": 2 * size.params} if lora else {"merged": 4 * size.params}
    return {"checkpoints": 24.0 * trained, **whole}
