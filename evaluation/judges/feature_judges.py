"""Judges that are text features (`backend: features`): what such a judge may be configured with, and its feature."""

from __future__ import annotations

from cluster.config import RunConfig
from cluster.model_specs import FeaturesSpec, ModelSpec
from evaluation.judges.judge_config import FEATURE, JudgeConfig
from judging.errors import InputError

FOR_FEATURES = ("model", "score_mode", "not_systems")  # settings of a judge that is a text feature


def feature_of(spec: ModelSpec) -> str | None:
    """The text feature that a model stands for; None for a model."""
    return spec.feature if isinstance(spec, FeaturesSpec) else None


def as_feature(run: RunConfig, name: str, config: JudgeConfig) -> JudgeConfig:
    """The judge with the score mode `feature` if its model is a text feature. Raises InputError for a conflict."""
    is_feature, key = isinstance(run.models.get(config.model), FeaturesSpec), f"evaluate.judges.{name}"
    if not is_feature:
        if config.score_mode == FEATURE:
            raise InputError(
                f"`{key}.score_mode`: feature is for models with backend: features. Remove it.",
                code="conflict",
                key=f"{key}.score_mode",
            )
        return config
    # By value, because a served panel is sent the configuration with all defaults filled in.
    told, defaults = config.model_dump(), JudgeConfig(model=config.model).model_dump()
    if extra := sorted(key for key in told if key not in FOR_FEATURES and told[key] != defaults[key]):
        raise InputError(
            f"`{key}.{extra[0]}` has no effect: {config.model!r} is a text feature. Remove it.",
            code="conflict",
            key=f"{key}.{extra[0]}",
        )
    if config.score_mode not in (FEATURE, defaults["score_mode"]):
        raise InputError(
            f"`{key}.score_mode`: {config.model!r} is a text feature. Remove score_mode.",
            code="conflict",
            key=f"{key}.score_mode",
        )
    return config.model_copy(update={"score_mode": FEATURE})
