"""Tokens, sizes and rates -> time, memory and bytes: what asking a model and what training one costs.

Says nothing of jobs. Every rate that it goes by is put down among the facts' assumptions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cluster.config import VllmSpec, most
from train.planning.facts import Facts
from train.planning.model_size import Size
from train.planning.prompts import Prompts
from train.planning.table import count

BYTES_A_TOKEN = 4  # as text, and as a token id


class Cost(NamedTuple):
    """GPU hours, hours on the clock, bytes of memory of one GPU, the most GPUs at once; 0 for a model elsewhere."""

    gpu_hours: float = 0
    wall_hours: float = 0
    gpu_memory_bytes: float = 0
    num_gpus: int = 0

    def then(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(self[0] + other[0], self[1] + other[1], max(self[2], other[2]), max(self[3], other[3]))


# ---------------------------------------------------------------------- what asking a model costs


class Asked(NamedTuple):
    """Tokens of all prompts, whether read again or not, and what they cost."""

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
    """`num` requests like `prompts`, of `written` tokens each, with examples of so many characters in each prompt;
    `are_fixed`: the same ones in all."""
    chars_a_token = facts.chars_a_token(name, place, prompts)
    shared = prompts.shared if are_fixed or not examples else prompts.head
    known = shared / max(1, prompts.num) + (examples if are_fixed else 0)
    read = num * (prompts.mean + examples) / chars_a_token
    cost = generation(facts, name, place, num, read, num * written, known=num * known / chars_a_token)
    return Asked(read, cost)


def generation(
    facts: Facts, name: str, place: str, num: float, read: float, written: float, *, known: float = 0
) -> Cost:
    """Of `num` requests to a model that read and write so many tokens in all.

    `known`: of those read, the ones that the engine still has from an earlier prompt. The first token of each reply
    comes with the reading.
    """
    size, spec = facts.size(name, place), facts.run.models[name]
    if size is None or not isinstance(spec, VllmSpec) or not num:
        return Cost()
    gpus, engines = spec.num_workers, most(spec.num_engines)
    rate = _decode_rate(facts, size, math.ceil(num / engines), (read + written / 2) / num)
    spent = hours(facts, 2 * size.params * (read - known)) + max(0, written - num) / rate / 3600
    facts.assume(
        f"{name}: engines x GPUs of each: {engines} x {gpus}; at least the weights, 2 bytes a parameter, lie "
        "in an engine's GPUs",
        f"models.{name}",
    )
    return Cost(spent, spent / (engines * gpus), 2 * size.params / gpus, engines * gpus)


def _decode_rate(facts: Facts, size: Size, num: float, context: float) -> float:
    """Tokens a second that one GPU writes; `num`: requests an engine, `context`: mean tokens behind each."""
    config, node = facts.config, facts.config.nodes[facts.node]
    if node.decode_tokens_per_s:
        words = f"a GPU writes {node.decode_tokens_per_s:g} tokens/s; reading: 2 x parameters x tokens"
        facts.assume(words, facts.node_key("decode_tokens_per_s"))
        return node.decode_tokens_per_s
    facts.assume(
        "reading: 2 x parameters x tokens operations; writing: a step adds a token to each of at most "
        f"{config.answers_at_once} answers and reads the weights and all their keys and values once (2 bytes each) at "
        f"{node.gb_s:g} GB/s x {config.bandwidth_share:g}, but computes no faster than reading",
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


# ---------------------------------------------------------------------- what a training needs


def operations(facts: Facts) -> int:
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


def memory(facts: Facts, size: Size) -> float:
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


def weights_on_disk(facts: Facts, size: Size) -> dict[str, float]:
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
