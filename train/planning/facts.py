"""The input of a plan: models, instructions, responses and rated texts, measured where they are on this machine.

Every assumption is kept in words, with its source. Knows no costs; loads no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, field_validator, model_validator

from cluster.artifacts import JobDir
from cluster.config import RunConfig, section_or_default
from cluster.errors import UserError
from cluster.identity import spec_of
from cluster.model_specs import VllmSpec
from cluster.strict import Strict
from judging.data_config import DataConfig
from judging.datasets import Rejected, read_records
from judging.hub import is_hub
from judging.pairing import pairs_of
from judging.records import Record
from train.instructions import read_instructions
from train.inversion.one_shot import as_reply, units
from train.planning.model_size import Size, model_folder, model_size
from train.planning.prompts import Part, Prompts, as_evaluated, as_rated, pair_prompts_of, part_of, prompts_of, queries
from train.planning.table import count

CHARS_A_TOKEN = 4  # of English text
MEASURED = f"measured, {CHARS_A_TOKEN} characters a token"
Positive = Annotated[float, Field(gt=0)]


class Node(Strict):
    """A type of machine. Rates are the vendor's for one GPU; no price is assumed."""

    gpus: int = Field(1, ge=1, description="GPUs of one machine")
    tflops: Positive = Field(description="TFLOPS of a GPU in dense bfloat16")
    gb_s: Positive = Field(description="memory bandwidth of a GPU, GB/s")
    memory_gb: Positive = Field(description="memory of a GPU, GB")
    decode_tokens_per_s: Positive | None = Field(
        None, description="measured decode throughput of a GPU, tokens/s; none: estimated from bandwidth and model size"
    )
    price_per_hour: Positive | None = Field(
        None, description="price of the machine, in your currency; none: no cost is shown"
    )


NODES = {
    "a100": Node(gpus=8, tflops=312, gb_s=2039, memory_gb=80),
    "h100": Node(gpus=8, tflops=989, gb_s=3350, memory_gb=80),
    "l4": Node(gpus=1, tflops=121, gb_s=300, memory_gb=24),
}


class Config(Strict):
    """The configuration's `plan` section: what `inverdict plan` assumes where nothing can be measured here."""

    params_b: dict[str, Positive] = Field(
        default_factory=dict,
        description="billions of parameters by name under `models`, where the weights are not on this machine",
    )
    nodes: dict[str, Node] = Field(
        default_factory=dict,
        validate_default=True,
        description="types of machines, in addition to or instead of the built-in a100, h100 and l4",
    )
    node: str = Field("a100", description="the type of machine for which the rows of the jobs are calculated")
    mfu: float = Field(
        0.4, gt=0, le=1, description="model FLOPs utilisation: share of `tflops` reached in training and prefill"
    )
    bandwidth_share: float = Field(0.3, gt=0, le=1, description="share of `gb_s` reached in decoding")
    answers_at_once: int = Field(128, ge=1, description="concurrent sequences of an engine")
    tokens_per_instruction: float = Field(
        128, gt=0, description="assumed where the instruction files are not on this machine"
    )
    tokens_per_answer: float = Field(384, gt=0, description="assumed until `distill` has finished")
    tokens_per_example: float = Field(
        1000, gt=0, description="assumed for a rated example where data.pool is not on this machine"
    )
    cascade_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="assumed share of the texts on which a cascade's first judge is unsure, so that the other judges "
        "are asked; the report of a run without a cascade plots it over the threshold",
    )

    @field_validator("nodes", mode="before")
    @classmethod
    def _with_the_known(cls, given: Any) -> Any:
        """Keys of a built-in type override its values; the other types stay."""
        if not isinstance(given, dict):
            return given
        known = {name: node.model_dump() for name, node in NODES.items()}
        of = {name: {**known.get(name, {}), **one} if isinstance(one, dict) else one for name, one in given.items()}
        return {**known, **of}

    @model_validator(mode="after")
    def _knows_the_node(self) -> Config:
        if self.node not in self.nodes:
            raise UserError(f"node must be one of {', '.join(self.nodes)}, not {self.node!r}.", code="unknown_node")
        return self


class Texts(NamedTuple):
    """Number of instructions, and the mean tokens of one and of its response."""

    num: int
    asked: float
    answered: float


class Example(NamedTuple):
    """A rated example as a reply: its tokens, the rated aspects, the texts that its prompts are measured on."""

    tokens: float
    num_aspects: int
    num_tried_on: int


class Facts:
    """The facts of one configuration; `assumed` (words: source) fills as they are read."""

    def __init__(self, run: RunConfig) -> None:
        self.run: Any = run  # with the sections, which are the command line's to add
        self.config = section_or_default(run, "plan", Config)
        self.assumed: dict[str, str] = {}
        self.node = self.config.node
        self._prompts: dict[Any, Prompts] = {}
        self._chars_a_token: dict[str, float] = {}
        self._read: dict[tuple[str, ...], list[Record]] = {}

    def assume(self, words: str, source: str) -> None:
        self.assumed.setdefault(words, source)

    def keys(self, *names: str) -> str:
        """Keys of `plan` as a source."""
        told = self.config.model_fields_set
        return ", ".join(f"plan.{name} ({'configured' if name in told else 'default'})" for name in names)

    def node_key(self, name: str) -> str:
        """A key of the node's type as a source."""
        known = NODES.get(self.node)
        is_default = known is not None and getattr(known, name) == getattr(self.config.nodes[self.node], name)
        return f"plan.nodes.{self.node}.{name} ({'default' if is_default else 'configured'})"

    def section(self, name: str) -> Any:
        return getattr(self.run, name, None)

    def size(self, name: str, place: str) -> Size | None:
        """None for a model that runs elsewhere. Raises UserError where the size is unknown."""
        spec = spec_of(self.run, name, place)
        if not isinstance(spec, VllmSpec):
            self.assume(
                f"{name}: runs behind the backend {spec.backend}: tokens, no GPU hours here", f"models.{name}.backend"
            )
            return None
        if base := self._trained_from(spec.source):
            return self.size(base, f"sft.models: base of {name}")
        found = model_size(spec, self.config.params_b.get(name))
        if found is None:
            raise UserError(
                f"The size of models.{name} ({spec.source!r}) is unknown: it is not on this machine, and its name "
                f"states no size. Set its billions of parameters, for example --set plan.params_b.{name}=7.6.",
                code="missing_key",
                key=f"plan.params_b.{name}",
            )
        self.assume(f"{name}: {count(found.params)} parameters", found.known_from)
        self.assume(f"{name}: {found.shape.layers} layers of width {found.shape.width}", found.shape_from)
        return found

    def _trained_from(self, source: str) -> str | None:
        """The base of a model that `sft` of this run has yet to train."""
        place, root, sft = Path(source), self.run.run.absolute() / "sft", self.section("sft")
        if sft is None or not place.is_relative_to(root) or (place / "config.json").exists():
            return None
        trained = sft.models.get(place.relative_to(root).parts[0])
        return str(trained.base) if trained else None

    @cached_property
    def instructions(self) -> Texts:
        """The instruction set, with its own responses."""
        chosen, config = self.section("instructions"), self.config
        if chosen is None:
            raise UserError(
                "The configuration has no `instructions` section, so their number is unknown.",
                code="missing_section",
                key="instructions",
            )
        if gone := missing(chosen.files):
            if chosen.limit is None:
                raise UserError(
                    f"`instructions.files`: {gone[0]} is not on this machine, so their number is unknown. Set "
                    "instructions.limit.",
                    code="missing_file",
                    key="instructions.files",
                )
            self.assume(
                f"{chosen.limit:,} instructions", f"assumed: instructions.limit; {gone[0]} is not on this machine"
            )
            words = (
                f"{config.tokens_per_instruction:g} tokens per instruction, {config.tokens_per_answer:g} per response"
            )
            self.assume(words, f"assumed: {self.keys('tokens_per_instruction', 'tokens_per_answer')}")
            return Texts(chosen.limit, config.tokens_per_instruction, config.tokens_per_answer)
        taken = read_instructions(chosen).instructions
        chars = sum(len(one.text) for one in taken), sum(len(one.output) for one in taken)
        asked, own = (number / len(taken) / CHARS_A_TOKEN for number in chars)
        words = f"{len(taken):,} instructions of {asked:.0f} tokens, their own responses of {own:.0f}"
        self.assume(words, f"instructions.files: {MEASURED}")
        return Texts(len(taken), asked, own)

    def answers(self, name: str) -> Texts:
        """The instructions with the responses of the model."""
        known, distill = self.instructions, self.section("distill")
        job = JobDir(self.run.run, f"distill/{name}")
        if done := job.manifest():
            num, answered = done["summary"]["num_instructions"], done["summary"]["num_tokens"]
            self.assume(f"{name}: {num:,} responses of {answered / num:.0f} tokens", f"{job.path}: measured")
            return Texts(num, known.asked, answered / num)
        answered = min(self.config.tokens_per_answer, distill.max_tokens if distill else math.inf)
        words = f"{name}: {answered:g} tokens per response, at most distill.max_tokens"
        self.assume(words, f"assumed: {self.keys('tokens_per_answer')}")
        return Texts(known.num, known.asked, answered)

    @cached_property
    def examples(self) -> list[Example]:
        """The rated examples of every unit that `invert` learns a prompt for."""
        config, data = self.section("invert"), self.section("data")
        pool = data.pool if data else ()
        if not pool or missing([*pool, *config.dev]):
            num = config.examples if isinstance(config.examples, int) else len(config.examples)
            tokens = self.config.tokens_per_example
            self.assume(
                f"invert: one task, {num} examples of {tokens:g} tokens, prompts measured on them alone",
                f"assumed: files of data.pool or invert.dev are not on this machine; {self.keys('tokens_per_example')}",
            )
            return [Example(tokens, len(config.aspects or "1"), num)] * num
        known = {record.id: record for record in self.records(pool) if data.serves(record)}
        dev = self.records(config.dev)
        found, together = [], config.aspects_together
        for unit in units(known, config.examples, aspects=config.aspects, together=together, seed=self.run.seed):
            replies = [as_reply(unit, example, with_score=config.with_score) for example in unit.examples]
            num_dev = sum(record.task == unit.task for record in dev)
            found += [Example(len(r) / CHARS_A_TOKEN, len(unit.aspects), num_dev or len(replies)) for r in replies]
        words = f"invert: {len(found)} examples of {sum(one.tokens for one in found) / len(found):.0f} tokens"
        self.assume(words, f"data.pool: {MEASURED}")
        return found

    def prompts(
        self, job: str, aspects: tuple[str, ...] | None, part: Part, *, rated: bool = False, most: int | None = None
    ) -> Prompts | None:
        """The rubric prompts of a judge for the texts of a part.

        Args:
            job: named where the part is left out.
            aspects: None: as configured for the part.
            part: of the data.
            rated: only aspects with a human score; else as `evaluate` selects them.
            most: maximum number of texts of each task; None: all.

        Returns:
            The counted prompts; None, with the reason in `assumed`, where the files are not on this machine.
        """
        kept = self._kept(job, part)
        if kept is None:
            return None
        key = (aspects, part, rated, most)
        if key not in self._prompts:
            chosen = queries(kept, aspects, most, self.run.seed) if most else kept
            self._prompts[key] = prompts_of(chosen, aspects, as_rated if rated else as_evaluated)
        return self._prompts[key]

    def pair_prompts(self, evaluate: Any, part: Part) -> Prompts | None:
        """The prompts of a judge for the pairs of a part, in both orders; None as for `prompts`.

        Args:
            evaluate: the section, with `pairs`.
            part: of the data.
        """
        kept, config = self._kept("evaluate.pairs", part), evaluate.pairs
        if kept is None:
            return None
        key = ("pairs", part)
        if key not in self._prompts:
            grouped = sorted(kept, key=lambda record: record.group_key)
            pairs = pairs_of(grouped, config.chosen_pairs(), self.run.seed)
            self._prompts[key] = pair_prompts_of(pairs, config.aspects or evaluate.aspects, with_tie=config.tie.label)
        return self._prompts[key]

    def _kept(self, job: str, part: Part) -> list[Record] | None:
        """The records of a part; None, with the reason in `assumed`, where its files are not on this machine."""
        data: DataConfig | None = self.section("data")
        files, takes = part_of(data, part) if data else ((), bool)
        gone = missing(files) if files else [f"the {part} part"]
        if gone:
            self.assume(f"{job} is left out", f"data: {gone[0]} is not on this machine")
            return None
        return [record for record in self.records(files) if takes(record)]

    def chars_a_token(self, name: str, place: str, prompts: Prompts) -> float:
        """Characters per token of the prompts to a model, by its own tokenizer where that is on this machine.

        Args:
            name: under `models`.
            place: configuration key that names the model.
            prompts: their sample is tokenised, once a model.

        Returns:
            The ratio; `CHARS_A_TOKEN` where the tokenizer or the sample is missing.
        """
        if name not in self._chars_a_token:
            spec = spec_of(self.run, name, place)
            folder = model_folder(spec) if isinstance(spec, VllmSpec) else None
            file = folder / "tokenizer.json" if folder else None
            found, source = float(CHARS_A_TOKEN), "assumed: its tokenizer is not on this machine"
            if file and file.exists() and prompts.sample:
                found, source = _chars_a_token(file, prompts.sample), f"measured: {file}, {len(prompts.sample)} prompts"
            if not prompts.sample:
                return found
            self.assume(f"{name}: {found:.2g} characters per token of a judge's prompt", source)
            self._chars_a_token[name] = found
        return self._chars_a_token[name]

    def records(self, files: tuple[str, ...]) -> list[Record]:
        """The valid rows of the files, read once, because the pool and the records are often the same files."""
        data = self.section("data")
        if files and files not in self._read:
            rows = read_records(files, **data.reading())
            self._read[files] = [row for row in rows if not isinstance(row, Rejected)]
        return self._read.get(files, [])


def missing(files: Iterable[str]) -> list[str]:
    return [file for file in files if not is_hub(file) and not Path(file).exists()]


def _chars_a_token(place: Path, texts: Sequence[str]) -> float:
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(place)).encode_batch(list(texts), add_special_tokens=False)
    return sum(map(len, texts)) / max(1, sum(len(one.ids) for one in encoded))
