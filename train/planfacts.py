"""What a plan is worked out from: models, instructions, answers and rated texts, measured where they lie here.

Everything that is taken for granted is kept in words, with where it comes from. Knows no costs; loads no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from cluster.artifacts import JobDir
from cluster.config import RunConfig, Strict, VllmSpec
from cluster.errors import UserError
from cluster.identity import spec_of
from judging.datasets import Rejected, read_records
from judging.records import Record
from judging.tasks import load_task
from judging.template import Template, rubric_template, texts_for
from train.instructions import read_instructions
from train.modelsize import Size, model_size
from train.oneshot import as_reply, units
from train.plantable import count

CHARS_A_TOKEN = 4  # of English text
MEASURED = f"measured, {CHARS_A_TOKEN} characters a token"
Positive = Annotated[float, Field(gt=0)]


class Config(Strict):
    """The configuration's `plan` section: what `inverdict plan` goes by where nothing on this machine tells it."""

    params_b: dict[str, Positive] = Field(
        default_factory=dict,
        description="billions of parameters by name under `models`, where the weights are not here",
    )
    gpu_tflops: float = Field(312, gt=0, description="of a GPU in dense bfloat16; 312: A100")
    mfu: float = Field(0.4, gt=0, le=1, description="share of gpu_tflops that training and reading prompts reach")
    gpu_gb_s: float = Field(2039, gt=0, description="memory bandwidth of a GPU, GB/s; 2039: A100 80 GB")
    bandwidth_share: float = Field(0.3, gt=0, le=1, description="share of gpu_gb_s that writing answers reaches")
    answers_at_once: int = Field(128, ge=1, description="answers that an engine writes side by side")
    decode_tokens_per_s_per_gpu: Positive | None = Field(
        None, description="tokens that a GPU writes, measured by you; none: from bandwidth and model size"
    )
    tokens_per_instruction: float = Field(128, gt=0, description="where the instruction files are not here")
    tokens_per_answer: float = Field(384, gt=0, description="as long as a model has not answered")
    tokens_per_example: float = Field(1000, gt=0, description="of a rated example, where data.pool is not here")


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


class Prompts(NamedTuple):
    """What each judge is asked: how many prompts, and their tokens in all."""

    num: int
    tokens: float


class Facts:
    """One configuration's facts; `assumed` fills while they are asked for (words: source)."""

    def __init__(self, run: RunConfig) -> None:
        self.run: Any = run  # with the sections, which are the command line's to add
        self.config: Config = getattr(run, "plan", None) or Config()
        self.assumed: dict[str, str] = {}
        self._read: dict[tuple[str, ...], list[Record]] = {}

    def assume(self, words: str, source: str) -> None:
        self.assumed.setdefault(words, source)

    def keys(self, *names: str) -> str:
        """Keys of `plan` as a source."""
        told = self.config.model_fields_set
        return ", ".join(f"plan.{name} ({'configured' if name in told else 'default'})" for name in names)

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
        known, dev = {record.id: record for record in self.records(pool)}, self.records(config.dev)
        found, together = [], config.aspects_together
        for unit in units(known, config.examples, aspects=config.aspects, together=together, seed=self.run.seed):
            replies = [as_reply(unit, example, with_score=config.with_score) for example in unit.examples]
            num_dev = sum(record.task == unit.task for record in dev)
            found += [Example(len(r) / CHARS_A_TOKEN, len(unit.aspects), num_dev or len(replies)) for r in replies]
        words = f"invert: {len(found)} examples of {sum(one.tokens for one in found) / len(found):.0f} tokens"
        self.assume(words, f"data.pool: {MEASURED}")
        return found

    def prompts(self) -> Prompts | None:
        """What a judge is asked by the rubrics; None, with the reason in `assumed`, where data.records is not here."""
        config, data = self.section("evaluate"), self.section("data")
        gone = missing(data.records) if data else ["a `data` section"]
        if gone:
            self.assume("evaluate is left out", f"data.records: {gone[0]} is not here")
            return None
        chars = [one for record in self.records(data.records) for one in _chars(record, config.aspects)]
        tokens = sum(chars) / CHARS_A_TOKEN
        words = f"evaluate: {len(chars):,} prompts a judge, {tokens / max(1, len(chars)):.0f} tokens each"
        self.assume(words, f"data.records: {MEASURED}")
        return Prompts(len(chars), tokens)

    def records(self, files: tuple[str, ...]) -> list[Record]:
        """The usable rows of the files; the pool is often the records too, so they are read once."""
        data = self.section("data")
        if files and files not in self._read:
            rows = read_records(files, **data.reading())
            self._read[files] = [row for row in rows if not isinstance(row, Rejected)]
        return self._read.get(files, [])


def missing(files: Iterable[str]) -> list[str]:
    return [file for file in files if not Path(file).exists()]


def _chars(record: Record, aspects: Sequence[str] | None) -> list[int]:
    """Length of the rubric's prompt for each aspect that the record is judged on, as `evaluate` chooses them."""
    known = load_task(record.task).aspects
    wanted = aspects or [aspect for aspect in known if aspect in record.scores] or list(known)[:1]
    templates = [_rubric(record.task, aspect) for aspect in wanted]
    return [len(one.text) + sum(map(len, texts_for(record, one).values())) for one in templates]


@cache
def _rubric(task: str, aspect: str) -> Template:
    return rubric_template(load_task(task), aspect)
