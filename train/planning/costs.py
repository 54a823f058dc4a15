"""Tokens, sizes and rates -> time, memory and bytes: the cost of inference and of training.

Knows no jobs. Every rate used is recorded among the assumptions of the facts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from cluster.model_specs import VllmSpec, most
from train.planning.facts import Facts
from train.planning.model_size import Size
from train.planning.prompts import Prompts
from train.planning.table import count

BYTES_A_TOKEN = 4  # both as text and as a token id


class Cost(NamedTuple):
    """GPU hours, wall-clock hours, bytes of memory of one GPU, maximum number of GPUs; 0 for a model elsewhere."""

    gpu_hours: float = 0
    wall_hours: float = 0
    gpu_memory_bytes: float = 0
    num_gpus: int = 0

    def then(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(self[0] + other[0], self[1] + other[1], max(self[2], other[2]), max(self[3], other[3]))

    def times(self, share: float) -> Cost:
        """Of a model of which only this share is loaded and run."""
        return Cost(self[0] * share, self[1] * share, self[2] * share, self[3])


# ---------------------------------------------------------------------- inference


class Asked(NamedTuple):
    """Tokens of all prompts, cached ones included, and their cost."""

    read: float
    cost: Cost


def asking(
    facts: Facts,
    name: str,
    place: str,
    prompts: Prompts,
    num: float,
    written: float,
    *,
    examples: float = 0,
    are_fixed: bool = True,
) -> Asked:
    """The cost of judging.

    Args:
        facts: sizes, rates and assumptions.
        name: of the model.
        place: configuration key that names it.
        prompts: what the requests look like.
        num: of requests.
        written: tokens generated a request.
        examples: characters of few-shot examples in each prompt.
        are_fixed: the examples are the same in all prompts, so that they are cached.

    Returns:
        Prompt tokens and cost.
    """
    chars_a_token = facts.chars_a_token(name, place, prompts)
    shared = prompts.shared if are_fixed or not examples else prompts.head
    known = shared / max(1, prompts.num) + (examples if are_fixed else 0)
    read = num * (prompts.mean + examples) / chars_a_token
    cost = generation(facts, name, place, num, read, num * written, known=num * known / chars_a_token)
    return Asked(read, cost)


def generation(
    facts: Facts, name: str, place: str, num: float, read: float, written: float, *, known: float = 0
) -> Cost:
    """The cost of inference. The first token of each reply comes with the prefill.

    Args:
        facts: sizes, rates and assumptions.
        name: of the model.
        place: configuration key that names it.
        num: of requests.
        read: prompt tokens of all requests.
        written: generated tokens of all requests.
        known: prompt tokens that the engine has cached from earlier prompts.

    Returns:
        The cost; zero for a model that runs elsewhere.
    """
    size, spec = facts.size(name, place), facts.run.models[name]
    if size is None or not isinstance(spec, VllmSpec) or not num:
        return Cost()
    gpus, engines = spec.num_workers, most(spec.num_engines)
    rate = _decode_rate(facts, size, math.ceil(num / engines), (read + written / 2) / num)
    spent = hours(facts, 2 * size.params * (read - known)) + max(0, written - num) / rate / 3600
    facts.assume(
        f"{name}: engines x GPUs of each: {engines} x {gpus}; an engine's GPUs hold at least the weights, 2 bytes per "
        "parameter",
        f"models.{name}",
    )
    return Cost(spent, spent / (engines * gpus), 2 * size.params / gpus, engines * gpus)


def thinking(facts: Facts, name: str) -> int:
    """Tokens that a model may think in each reply, besides the answer: at most its budget."""
    spec = facts.run.models.get(name)
    if not isinstance(spec, VllmSpec) or not spec.thinks:
        return 0
    budget = spec.thinking_token_budget
    facts.assume(
        f"{name}: {budget:,} tokens of thinking per reply (the maximum)", f"models.{name}.thinking_token_budget"
    )
    return spec.reply_tokens(0)


def _decode_rate(facts: Facts, size: Size, num: float, context: float) -> float:
    """Tokens per second that one GPU generates; `num`: requests per engine, `context`: mean tokens of each."""
    config, node = facts.config, facts.config.nodes[facts.node]
    if node.decode_tokens_per_s:
        words = f"decode: {node.decode_tokens_per_s:g} tokens/s per GPU; prefill: 2 x parameters x tokens"
        facts.assume(words, facts.node_key("decode_tokens_per_s"))
        return node.decode_tokens_per_s
    facts.assume(
        "prefill: 2 x parameters x tokens operations; decode: a step adds a token to each of at most "
        f"{config.answers_at_once} sequences and reads the weights and the whole KV cache once (2 bytes each) at "
        f"{node.gb_s:g} GB/s x {config.bandwidth_share:g}, but is never faster per token than prefill",
        f"{facts.keys('answers_at_once')}, {facts.node_key('gb_s')}, {facts.keys('bandwidth_share')}",
    )
    at_once = min(config.answers_at_once, num)
    bytes_a_step = 2 * size.params + at_once * context * 4 * size.shape.layers * size.shape.keys
    by_bandwidth = at_once * node.gb_s * 1e9 * config.bandwidth_share / bytes_a_step
    return min(by_bandwidth, 1 / (hours(facts, 2 * size.params) * 3600))


def hours(facts: Facts, operations: float) -> float:
    mfu, tflops = facts.config.mfu, facts.config.nodes[facts.node].tflops
    words = f"a GPU ({facts.node}) computes {tflops:g} TFLOPS (dense bfloat16) x {mfu:g}"
    facts.assume(words, f"{facts.node_key('tflops')}, {facts.keys('mfu')}")
    return operations / (tflops * 1e12 * mfu) / 3600


def share_asked(facts: Facts, name: str, cascade: Any) -> float:
    """The share of the texts, or pairs, that a judge is asked about."""
    if cascade is None or name == cascade.first:
        return 1
    facts.assume(
        f"cascade: the others are asked about {facts.config.cascade_share:.0%} of what {cascade.first} is asked about",
        facts.keys("cascade_share"),
    )
    return facts.config.cascade_share


def share_of_layers(facts: Facts, name: str) -> float:
    """The part of its model that a fitted judge runs: at most the deepest that `fit-judge` tries."""
    config = facts.section("fit_judge")
    share = max(config.depths) if config else 1.0
    facts.assume(f"{name}: fitted: the lowest {share:.0%} of its model's layers", "fit_judge.depths: the largest")
    return float(share)


# ---------------------------------------------------------------------- training


def operations(facts: Facts) -> int:
    """Operations for each parameter and token."""
    config = facts.section("sft")
    of_what = {"LoRA": 4} if config.method == "lora" else {"full": 6}
    of_what |= {"gradient checkpointing": 2} if config.gradient_checkpointing else {}
    per_token = sum(of_what.values())
    parts = " + ".join(f"{number} {name}" for name, number in of_what.items())
    words = f"training: {per_token} x parameters x tokens operations ({parts}); one GPU per worker"
    facts.assume(words, "sft.method, gradient_checkpointing, num_workers")
    return per_token


def _trained(facts: Facts, size: Size) -> float:
    config = facts.section("sft")
    return size.shape.in_layers(config.lora_rank) if config.method == "lora" else size.params


def memory(facts: Facts, size: Size) -> float:
    """GPU memory of a training worker, in bytes."""
    config, shape, trained = facts.section("sft"), size.shape, _trained(facts, size)
    num_tokens = config.per_device_batch * config.cutoff
    a_layer = 16 * shape.width + 4 * (shape.queries + shape.keys) + 8 * shape.inner
    kept = 2 * shape.width * shape.layers + a_layer if config.gradient_checkpointing else a_layer * shape.layers
    frozen, between = (2 if config.method == "lora" else 0), (4 if config.num_workers > 1 else 0)
    facts.assume(
        f"memory of a worker: {frozen} bytes per frozen parameter; {18 + between} per trained one (weights, gradients, "
        f"Adam: 16, copy in bfloat16: 2, gradients between workers: {between}); activations of "
        f"{config.per_device_batch} rows x {config.cutoff} tokens, {count(kept)} bytes each",
        "assumed: fixed",
    )
    facts.assume(
        f"activations per token and layer: 16 x width + 4 x (queries + keys) + 8 x MLP = {a_layer:,} bytes, kept for "
        + (f"one layer, and 2 x width for all {shape.layers}" if config.gradient_checkpointing else "every layer"),
        "counted as in arXiv 2205.05198, no attention matrix, no logits",
    )
    return float(frozen * size.params + (18 + between) * trained + num_tokens * kept)


def weights_on_disk(facts: Facts, size: Size) -> dict[str, float]:
    config, trained = facts.section("sft"), _trained(facts, size)
    lora = config.method == "lora"
    if lora:
        facts.assume(
            f"LoRA of rank {config.lora_rank} on all linear layers: {count(trained)} parameters", size.shape_from
        )
    facts.assume(
        f"training on disk: pairs {BYTES_A_TOKEN} bytes per token; two checkpoints (the last, the next) of 12 bytes "
        f"per trained parameter, as much again in the temporary folder; "
        f"{'adapter 4, merged 2' if lora else 'model 4'} bytes per parameter",
        "assumed: fixed",
    )
    whole = {"adapter": 4.0 * trained, "merged": 2 * size.params} if lora else {"merged": 4 * size.params}
    return {"checkpoints": 24.0 * trained, **whole}
