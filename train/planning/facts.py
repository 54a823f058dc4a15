"""What a plan is worked out from: models, instructions, answers and rated texts, measured where they lie here.

Everything that is taken for granted is kept in words, with where it comes from. Knows no costs; loads no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, field_validator, model_validator

from cluster.artifacts import JobDir
from cluster.config import RunConfig, Strict, VllmSpec, section_or_default
from cluster.errors import UserError
from cluster.identity import spec_of
from judging.data_config import DataConfig
from judging.datasets import Rejected, read_records
from judging.records import Record
from train.instructions import read_instructions
from train.inversion.one_shot import as_reply, units
from train.planning.model_size import Size, model_folder, model_size
from train.planning.prompts import Part, Prompts, as_evaluated, as_rated, part_of, prompts_of, queries
from train.planning.table import count

CHARS_A_TOKEN = 4  # of English text
MEASURED = f"measured, {CHARS_A_TOKEN} characters a token"
Positive = Annotated[float, Field(gt=0)]


class Node(Strict):
    """A type of machine. Rates are the maker's for one GPU; of the price nothing is assumed."""

    gpus: int = Field(1, ge=1, description="of one machine")
    tflops: Positive = Field(description="of a GPU in dense bfloat16")
    gb_s: Positive = Field(description="memory bandwidth of a GPU, GB/s")
    memory_gb: Positive = Field(description="of a GPU")
    decode_tokens_per_s: Positive | None = Field(
        None, description="tokens that a GPU writes, measured by you; none: from bandwidth and model size"
    )
    price_per_hour: Positive | None = Field(
        None, description="of the machine, in your currency; none: no money is told"
    )


NODES = {
    "a100": Node(gpus=8, tflops=312, gb_s=2039, memory_gb=80),
    "h100": Node(gpus=8, tflops=989, gb_s=3350, memory_gb=80),
    "l4": Node(gpus=1, tflops=121, gb_s=300, memory_gb=24),
}


class Config(Strict):
    """The configuration's `plan` section: what `inverdict plan` goes by where nothing on this machine tells it."""

    params_b: dict[str, Positive] = Field(
        default_factory=dict,
        description="billions of parameters by name under `models`, where the weights are not here",
    )
    nodes: dict[str, Node] = Field(
        default_factory=dict,
        validate_default=True,
        description="types of machines, beside or instead of the known a100, h100 and l4",
    )
    node: str = Field("a100", description="the type that the jobs' rows are worked out for")
    mfu: float = Field(0.4, gt=0, le=1, description="share of `tflops` that training and reading prompts reach")
    bandwidth_share: float = Field(0.3, gt=0, le=1, description="share of `gb_s` that writing answers reaches")
    answers_at_once: int = Field(128, ge=1, description="answers that an engine writes side by side")
    tokens_per_instruction: float = Field(128, gt=0, description="where the instruction files are not here")
    tokens_per_answer: float = Field(384, gt=0, description="as long as a model has not answered")
    tokens_per_example: float = Field(1000, gt=0, description="of a rated example, where data.pool is not here")

    @field_validator("nodes", mode="before")
    @classmethod
    def _with_the_known(cls, given: Any) -> Any:
        """What is told of a known type changes that type; the others stay."""
        if not isinstance(given, dict):
            return given
        known = {name: node.model_dump() for name, node in NODES.items()}
        of = {name: {**known.get(name, {}), **one} if isinstance(one, dict) else one for name, one in given.items()}
        return {**known, **of}

    @model_validator(mode="after")
    def _knows_the_node(self) -> Config:
        if self.node not in self.nodes:
            raise ValueError(f"node: {self.node!r} is none of plan.nodes: {', '.join(self.nodes)}")
        return self


class Texts(NamedTuple):
    """How many instructions, and the mean tokens of one and of its answer."""

    num: int
    asked: float
    answered: float


class Example(NamedTuple):
    """A rated example as a reply: its tokens, the aspects rated, the texts that its prompts are tried on."""

    tokens: float
    num_aspects: int
    num_tried_on: int


class Facts:
    """One configuration's facts; `assumed` fills while they are asked for (words: source)."""

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
        """None for a model that has no weights here. Raises UserError where nothing tells how large it is."""
        spec = spec_of(self.run, name, place)
        if not isinstance(spec, VllmSpec):
            self.assume(f"{name}: asked over {spec.backend}: tokens, no GPU hours here", f"models.{name}.backend")
            return None
        if base := self._trained_from(spec.source):
            return self.size(base, f"sft.models: base of {name}")
        found = model_size(spec, self.config.params_b.get(name))
        if found is None:
            raise UserError(
                f"models.{name}: neither a folder on this machine nor the name {spec.source!r} tells how large the "
                f"model is: give its billions of parameters, --set plan.params_b.{name}=7.6"
            )
        self.assume(f"{name}: {count(found.params)} parameters", found.known_from)
        self.assume(f"{name}: {found.shape.layers} layers of width {found.shape.width}", found.shape_from)
        return found

    def _trained_from(self, source: str) -> str | None:
        """The base of a model that this run's `sft` is still to make."""
        place, root, sft = Path(source), self.run.run.absolute() / "sft", self.section("sft")
        if sft is None or not place.is_relative_to(root) or (place / "config.json").exists():
            return None
        trained = sft.models.get(place.relative_to(root).parts[0])
        return str(trained.base) if trained else None

    @cached_property
    def instructions(self) -> Texts:
        """The instruction set, with its own answers."""
        chosen, config = self.section("instructions"), self.config
        if chosen is None:
            raise UserError("the configuration has no `instructions` section: nothing says how many there are")
        if gone := missing(chosen.files):
            if chosen.limit is None:
                raise UserError(
                    f"instructions.files: {gone[0]} is not on this machine, so nothing says how many instructions "
                    "there are: set instructions.limit"
                )
            self.assume(f"{chosen.limit:,} instructions", f"assumed: instructions.limit; {gone[0]} is not here")
            words = f"{config.tokens_per_instruction:g} tokens an instruction, {config.tokens_per_answer:g} an answer"
            self.assume(words, f"assumed: {self.keys('tokens_per_instruction', 'tokens_per_answer')}")
            return Texts(chosen.limit, config.tokens_per_instruction, config.tokens_per_answer)
        taken = read_instructions(chosen).instructions
        chars = sum(len(one.text) for one in taken), sum(len(one.output) for one in taken)
        asked, own = (number / len(taken) / CHARS_A_TOKEN for number in chars)
        words = f"{len(taken):,} instructions of {asked:.0f} tokens, their own answers of {own:.0f}"
        self.assume(words, f"instructions.files: {MEASURED}")
        return Texts(len(taken), asked, own)

    def answers(self, name: str) -> Texts:
        """The instructions with what the model answers."""
        known, distill = self.instructions, self.section("distill")
        job = JobDir(self.run.run, f"distill/{name}")
        if done := job.manifest():
            num, answered = done["summary"]["num_instructions"], done["summary"]["num_tokens"]
            self.assume(f"{name}: {num:,} answers of {answered / num:.0f} tokens", f"{job.path}: measured")
            return Texts(num, known.asked, answered / num)
        answered = min(self.config.tokens_per_answer, distill.max_tokens if distill else math.inf)
        words = f"{name}: {answered:g} tokens an answer, at most distill.max_tokens"
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
                f"invert: one task, {num} examples of {tokens:g} tokens, prompts tried on them alone",
                f"assumed: files of data.pool or invert.dev are not here; {self.keys('tokens_per_example')}",
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
        """What a judge is asked about the texts of a part by the rubrics; None, with the reason in `assumed`, where
        the files are not here.

        `rated`: only about what people rated, else as `evaluate` chooses. `most`: texts of each task.
        """
        data: DataConfig | None = self.section("data")
        files, takes = part_of(data, part) if data else ((), bool)
        gone = missing(files) if files else [f"the {part} part"]
        if gone:
            self.assume(f"{job} is left out", f"data: {gone[0]} is not here")
            return None
        key = (files, aspects, part, rated, most)
        if key not in self._prompts:
            kept = [record for record in self.records(files) if takes(record)]
            chosen = queries(kept, aspects, most, self.run.seed) if most else kept
            self._prompts[key] = prompts_of(chosen, aspects, as_rated if rated else as_evaluated)
        return self._prompts[key]

    def chars_a_token(self, name: str, place: str, prompts: Prompts) -> float:
        """Of prompts to this model: by its own tokenizer where it is here, on the first prompts asked about."""
        if name not in self._chars_a_token:
            spec = spec_of(self.run, name, place)
            folder = model_folder(spec) if isinstance(spec, VllmSpec) else None
            file = folder / "tokenizer.json" if folder else None
            found, source = float(CHARS_A_TOKEN), "assumed: its tokenizer is not here"
            if file and file.exists() and prompts.sample:
                found, source = _chars_a_token(file, prompts.sample), f"measured: {file}, {len(prompts.sample)} prompts"
            if not prompts.sample:
                return found
            self.assume(f"{name}: {found:.2g} characters a token of a judge's prompt", source)
            self._chars_a_token[name] = found
        return self._chars_a_token[name]

    def records(self, files: tuple[str, ...]) -> list[Record]:
        """The usable rows of the files; the pool is often the records too, so they are read once."""
        data = self.section("data")
        if files and files not in self._read:
            rows = read_records(files, **data.reading())
            self._read[files] = [row for row in rows if not isinstance(row, Rejected)]
        return self._read.get(files, [])


def missing(files: Iterable[str]) -> list[str]:
    return [file for file in files if not Path(file).exists()]


def _chars_a_token(place: Path, texts: Sequence[str]) -> float:
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(place)).encode_batch(list(texts), add_special_tokens=False)
    return sum(map(len, texts)) / max(1, sum(len(one.ids) for one in encoded))
