"""A judge's section of the configuration, and the `Judge` built from it, for batch and online."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cluster import models
from cluster.config import RunConfig
from cluster.engine import api_key
from cluster.model_specs import HttpSpec, ModelSpec, VllmSpec
from cluster.strict import Strict
from cluster.tokens import labels_problem
from evaluation.judges.few_shot import Chooser, IclConfig
from evaluation.judges.prompt_sources import RUBRIC, Prompts
from judging.errors import InputError
from judging.fitted.regression import Regression
from judging.judge import MIN_LABEL_MASS, Judge
from judging.records import Record
from judging.template import LABEL_PREFIX, Templates
from retrieval.retriever import INDEXED, Arm, Retriever, semantic_encoder

FITTED, FEATURE = "fitted", "feature"


class JudgeConfig(Strict):
    """A judge's section of the configuration."""

    model: str = Field(description="a name under `models`")
    score_mode: Literal["expected", "parsed", "fitted", "feature"] = Field(
        "expected",
        description="expected: expectation over the label probabilities (one token); parsed: read from a JSON reply "
        "with a reason; fitted: a regression on the model's hidden state, learned from labels by `fit-judge`; "
        "feature: set by a model with backend: features",
    )
    prompt: str = Field(
        RUBRIC,
        min_length=1,
        description="rubric: the task file's rubric; inverse, forward: the prompts that `inverdict invert` made for "
        "the model with its inversion or its forward model; optimised: those of `inverdict optimise`; or the path of a "
        "template file or folder",
    )
    examples: tuple[str, ...] = Field((), description="ids in data.pool, shown in this order for their own task only")
    icl: IclConfig | None = Field(None, description="examples retrieved for each record, instead of fixed ones")
    min_label_mass: float = Field(
        MIN_LABEL_MASS,
        ge=0,
        lt=1,
        description="minimum probability mass on the labels; below: unscored `low_label_mass`",
    )
    max_tokens: int = Field(
        200, ge=16, description="maximum length of a parsed reply; a truncated reply is unscored `cut_off`"
    )
    temperature: float = Field(
        0.0, ge=0, le=2, description="sampling temperature of parsed replies, each drawn with a seed of its own"
    )
    not_systems: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="patterns of record.system (`qwen*`, case-insensitive) whose texts the judge does not score, "
        "to avoid self-preference bias: unscored `own_family`, without querying the model",
    )

    @property
    def is_sampled(self) -> bool:
        """Whether its replies are drawn, each with a seed of its own."""
        return self.score_mode == "parsed" and self.temperature > 0

    @model_validator(mode="after")
    def _one_kind_of_examples(self) -> JudgeConfig:
        if self.icl is not None and self.examples:
            raise InputError("`examples` and `icl` exclude each other. Keep one of the two.", code="conflict")
        return self


def build_judge(
    name: str,
    config: JudgeConfig,
    wanted: Iterable[tuple[str, str]],
    pool: Mapping[str, Record],
    special_tokens: tuple[str, ...],
    prompts: Prompts | None = None,
    regressions: Mapping[tuple[str, str], Regression] | None = None,
) -> Judge:
    """The judge for the (task, aspect) pairs of `wanted`.

    Args:
        name: the judge's name.
        config: its section of the configuration.
        wanted: (task, aspect) pairs to judge.
        pool: the rated texts by id, from which examples come.
        special_tokens: of the model; removed from the texts.
        prompts: the judge's prompts; required unless `config.prompt` is `rubric`.
        regressions: of a fitted judge.

    Raises:
        InputError: an example is unknown, or a template does not fit its task.
    """
    assert prompts is not None or config.prompt == RUBRIC
    source = prompts or Prompts(name)
    keys = list(wanted)
    unknown = [id for id in config.examples if id not in pool]
    if unknown:
        raise InputError(
            f"evaluate.judges.{name}.examples: no record of data.pool has the id {unknown[0]!r}.",
            code="unknown_example",
            key=f"evaluate.judges.{name}.examples",
        )
    chosen = [pool[id] for id in config.examples]
    templates = {key: source.template(*key) for key in keys}
    if config.score_mode == "expected":
        _check_labels(name, templates)
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
        regressions=regressions or {},
    )


def _check_labels(name: str, templates: Templates) -> None:
    """Raises InputError where a scale has labels that are not whole numbers."""
    for (task, aspect), template in templates.items():
        if template.scale.step != 1:
            raise InputError(
                f"evaluate.judges.{name}.score_mode: `expected` needs labels that are whole numbers, but "
                f"{task}/{aspect} is rated with {template.scale.in_words()}. Set score_mode: parsed.",
                code="unsupported",
                key=f"evaluate.judges.{name}.score_mode",
            )


def unaskable(judge: Judge, config: JudgeConfig, spec: ModelSpec) -> dict[tuple[str, str], str]:
    """Why the model cannot be queried with a template, by (task, aspect); checked here before a worker would fail.

    Args:
        judge: the judge.
        config: its section of the configuration.
        spec: its model.

    Raises:
        InputError, UserError: the model cannot be queried at all: no API key, no room for a prompt.
    """
    if isinstance(spec, HttpSpec):
        api_key(spec)
    if judge.mode == "parsed":
        if isinstance(spec, VllmSpec) and spec.reply_tokens(config.max_tokens) >= spec.max_model_len:
            thinking = f" with its thinking_token_budget ({spec.thinking_token_budget})" if spec.thinks else ""
            raise InputError(
                f"evaluate.judges.{judge.name}.max_tokens ({config.max_tokens}) leaves no room for a prompt in the "
                f"model's max_model_len ({spec.max_model_len}){thinking}. Lower it.",
                code="no_room",
                key=f"evaluate.judges.{judge.name}.max_tokens",
            )
        return {}
    if isinstance(spec, VllmSpec) and spec.thinks:
        raise InputError(
            f"evaluate.judges.{judge.name}.score_mode: `{judge.mode}` reads the model's first token, but models."
            f"{config.model} thinks before it answers. Set score_mode: parsed, or remove its thinking_token_budget.",
            code="unsupported",
            key=f"evaluate.judges.{judge.name}.score_mode",
        )
    if judge.is_fixed:
        return {}
    scales = {template.scale for template in judge.templates.values()}
    problems = {scale: labels_problem(spec, LABEL_PREFIX, scale.labels()) for scale in scales}
    found = {key: problems[template.scale] for key, template in judge.templates.items()}
    return {key: problem for key, problem in found.items() if problem}


def indexed_arms(judges: Mapping[str, JudgeConfig]) -> list[Arm]:
    """The retrievers of these judges that need an index."""
    return sorted({judge.icl.arm for judge in judges.values() if judge.icl and judge.icl.arm in INDEXED})


def check_indexes(
    run: RunConfig,
    judges: Mapping[str, JudgeConfig],
    pool: Mapping[str, Record],
    wanted: Sequence[tuple[str, str]],
) -> None:
    """Open every index that the judges need, so that a damaged or outdated one fails here and not in a worker.

    Args:
        run: the configuration.
        judges: by name.
        pool: the rated texts by id.
        wanted: (task, aspect) pairs to judge.

    Raises:
        InputError: an index is missing, damaged, or of other towers.
    """
    if arms := indexed_arms(judges):
        retriever = Retriever(pool, folder=run.run / "index")
        for arm in arms:
            retriever.open(wanted, arm)


def judge_chooser(
    config: JudgeConfig, spec: ModelSpec, judge: Judge, pool: Mapping[str, Record], run: RunConfig
) -> Chooser:
    """The judge's few-shot retriever, for batch and online.

    Args:
        config: the judge's section of the configuration, with `icl`.
        spec: its model.
        judge: the judge.
        pool: the rated texts by id.
        run: the configuration.
    """
    assert config.icl is not None
    tokenizer = ""
    if isinstance(spec, VllmSpec):
        tokenizer = models.resolve(spec.source, revision=spec.revision, weights=False).reference
    return Chooser(
        config=config.icl,
        spec=spec,
        templates=judge.templates,
        pool=pool,
        special_tokens=judge.special_tokens,
        mode=judge.prompt_mode,
        reply_tokens=config.max_tokens if config.score_mode == "parsed" else 1,
        index=(run.run / "index").resolve(),
        seed=run.seed,
        encoder=semantic_encoder(run.run / "index", config.icl.arm),
        tokenizer=tokenizer,
    )
