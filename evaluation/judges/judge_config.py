"""A judge's section of the configuration, and the `Judge` that is built from it; batch and online build it alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cluster.config import HttpSpec, ModelSpec, RunConfig, Strict, VllmSpec
from cluster.engine import api_key
from cluster.tokens import labels_problem
from evaluation.judges.few_shot import Chooser, IclConfig
from evaluation.judges.prompt_sources import RUBRIC, Prompts
from judging.errors import InputError
from judging.judge import MIN_LABEL_MASS, Judge
from judging.records import Record
from judging.template import LABEL_PREFIX
from retrieval.retriever import INDEXED, Arm, Retriever


class JudgeConfig(Strict):
    """A judge as the configuration names it."""

    model: str = Field(description="a name under `models`")
    score_mode: Literal["expected", "parsed"] = Field(
        "expected",
        description="expected: from the labels' probabilities, one token; parsed: from a JSON reply with a reason",
    )
    prompt: str = Field(
        RUBRIC,
        min_length=1,
        description="rubric: the task file's own; inverse, forward: what `inverdict invert` left for the model, from "
        "its inversion or its forward model; optimised: what `inverdict optimise` left; or a template file or folder",
    )
    examples: tuple[str, ...] = Field((), description="ids in data.pool, shown in this order, each for its own task")
    icl: IclConfig | None = Field(None, description="examples found for each record, instead of the same for all")
    min_label_mass: float = Field(
        MIN_LABEL_MASS, ge=0, lt=1, description="less probability on the labels: unscored low_label_mass"
    )
    max_tokens: int = Field(200, ge=16, description="longest parsed reply; a longer one is unscored cut_off")
    temperature: float = Field(0.0, ge=0, le=2, description="of parsed replies")
    not_systems: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="patterns of record.system (`qwen*`, upper and lower case alike) whose texts it does not judge, "
        "such as those of its own family: unscored own_family, without asking the model",
    )

    @model_validator(mode="after")
    def _one_kind_of_examples(self) -> JudgeConfig:
        if self.icl is not None and self.examples:
            raise ValueError("examples and icl: the examples are either named or found; keep one of the two")
        return self


def build_judge(
    name: str,
    config: JudgeConfig,
    wanted: Iterable[tuple[str, str]],
    pool: Mapping[str, Record],
    special_tokens: tuple[str, ...],
    prompts: Prompts | None = None,
) -> Judge:
    """The judge for the (task, aspect) pairs of `wanted`; `prompts`: what its `prompt` means, needed but for rubrics.

    Raises InputError where a template or an example does not fit.
    """
    assert prompts is not None or config.prompt == RUBRIC
    asked = prompts or Prompts(name)
    keys = list(wanted)
    unknown = [id for id in config.examples if id not in pool]
    if unknown:
        raise InputError(f"evaluate.judges.{name}.examples: data.pool holds no record with the id {unknown[0]!r}")
    chosen = [pool[id] for id in config.examples]
    templates = {key: asked.template(*key) for key in keys}
    for (task, aspect), template in templates.items():
        if config.score_mode == "expected" and template.scale.step != 1:
            raise InputError(
                f"evaluate.judges.{name}: {task}/{aspect} is rated with {template.scale.in_words()}, and labels are "
                "whole numbers: set score_mode: parsed"
            )
    return Judge(
        name=name,
        mode=config.score_mode,
        templates=templates,
        examples={
            (task, aspect): [r for r in chosen if r.task == task and aspect in r.scores] for task, aspect in keys
        },
        special_tokens=special_tokens,
        min_label_mass=config.min_label_mass,
        pool=pool if config.icl else {},
        not_systems=config.not_systems,
    )


def unaskable(judge: Judge, config: JudgeConfig, spec: ModelSpec) -> dict[tuple[str, str], str]:
    """Why the model cannot be asked with a template, by task and aspect: an engine finds out only inside a worker.

    Raises InputError or UserError where it can be asked nothing at all: no API key, no room for a prompt.
    """
    if isinstance(spec, HttpSpec):
        api_key(spec)
    if judge.mode == "parsed":
        if isinstance(spec, VllmSpec) and config.max_tokens >= spec.max_model_len:
            raise InputError(f"evaluate.judges.{judge.name}.max_tokens leaves no room in max_model_len for a prompt")
        return {}
    scales = {template.scale for template in judge.templates.values()}
    problems = {scale: labels_problem(spec, LABEL_PREFIX, scale.labels()) for scale in scales}
    found = {key: problems[template.scale] for key, template in judge.templates.items()}
    return {key: problem for key, problem in found.items() if problem}


def indexed_arms(judges: Mapping[str, JudgeConfig]) -> list[Arm]:
    """The ways to choose examples that need an index, of all these judges."""
    return sorted({judge.icl.arm for judge in judges.values() if judge.icl and judge.icl.arm in INDEXED})


def check_indexes(
    run: RunConfig,
    judges: Mapping[str, JudgeConfig],
    pool: Mapping[str, Record],
    wanted: Sequence[tuple[str, str]],
) -> None:
    """A broken index, or one of other towers, is found here, not in a worker. Raises InputError."""
    if arms := indexed_arms(judges):
        retriever = Retriever(pool, folder=run.run / "index")
        for arm in arms:
            retriever.open(wanted, arm)


def judge_chooser(
    config: JudgeConfig, spec: ModelSpec, judge: Judge, pool: Mapping[str, Record], run: RunConfig
) -> Chooser:
    """How that judge's examples are found, in batch and online alike."""
    assert config.icl is not None
    return Chooser(
        config.icl,
        spec,
        judge.templates,
        pool,
        judge.special_tokens,
        config.score_mode,
        1 if config.score_mode == "expected" else config.max_tokens,
        (run.run / "index").resolve(),
        run.seed,
    )
