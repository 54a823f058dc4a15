"""Runs inference for every judge on every record that it has no verdict on. The job's only Ray Dataset.

Engines are slow to start, so judges with the same model and sampling share one start, and so do LoRA adapters of one
base; the work is ordered by judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cluster.generate import Sampling
from cluster.generate_parts import generate_parts
from cluster.model_specs import ModelSpec, VllmSpec, engine_name
from evaluation.batch.verdicts import (
    Blocks,
    Cascade,
    done_keys,
    pending,
    requests,
    survey,
    write_not_asked,
    write_verdicts,
)
from evaluation.judges.judge_config import FITTED, JudgeConfig
from judging.judge import Judge


class Start(NamedTuple):
    """One start of an engine: the name under `models` that it has, the sampling, and the judges that share it."""

    model: str
    sampling: Sampling
    judges: list[str]


class _Open(NamedTuple):
    """A judge's remaining work: blocks of records with their number of missing verdicts; the keys of existing ones."""

    parts: dict[Path, int]
    done: np.ndarray


def starts(judges: Mapping[str, JudgeConfig], models: Mapping[str, ModelSpec], seed: int) -> list[Start]:
    """Group the judges that share an engine: the same model, or LoRA adapters of it, score mode and sampling.

    The engine's batches mix rows of several judges, and Ray's vLLM stage cannot mix both score modes in one batch.

    Args:
        judges: by name.
        models: by name.
        seed: of sampling.
    """
    shared: dict[tuple[str, str, Sampling], list[str]] = {}
    for name, config in judges.items():
        engine = engine_name(config.model, models[config.model])
        shared.setdefault((engine, config.score_mode, _sampling(config, seed)), []).append(name)
    return [Start(model, sampling, names) for (model, _, sampling), names in shared.items()]


def _sampling(config: JudgeConfig, seed: int) -> Sampling:
    if config.score_mode == FITTED:
        return Sampling(hidden_state=True)
    if config.score_mode == "expected":  # nothing is sampled
        return Sampling(seed=seed)
    return Sampling(max_tokens=config.max_tokens, temperature=config.temperature, seed=seed)


def ask_all(
    folder: Path,
    judges: Mapping[str, Judge],
    configs: Mapping[str, JudgeConfig],
    models: Mapping[str, ModelSpec],
    *,
    aspects: tuple[str, ...] | None,
    seed: int,
    cascade: Cascade | None = None,
    what: str = "evaluate",
) -> None:
    """Complete `folder/verdicts/{judge}` for the records in `folder/records`, which are read once for all judges.

    Args:
        folder: of the evaluation.
        judges: by name.
        configs: their sections of the configuration, by name.
        models: by name.
        aspects: to judge; None: every aspect with human scores.
        seed: of sampling.
        cascade: query its first judge for all records, and the others where it is unsure.
        what: the work's name in progress and messages.
    """
    blocks = survey(folder, list(judges.values()), aspects)
    ask = partial(_ask_those, folder, blocks, configs, models, aspects=aspects, seed=seed, what=what)
    if cascade:
        ask({cascade.first: judges[cascade.first]})
        judges = {name: judge for name, judge in judges.items() if name != cascade.first}
        write_not_asked(folder, list(judges.values()), cascade.sure())
    ask(judges)


def _ask_those(
    folder: Path,
    blocks: Blocks,
    configs: Mapping[str, JudgeConfig],
    models: Mapping[str, ModelSpec],
    judges: Mapping[str, Judge],
    *,
    aspects: tuple[str, ...] | None,
    seed: int,
    what: str,
) -> None:
    """Query these judges for their missing verdicts."""
    found: dict[str, _Open] = {}
    for name in judges:
        done = done_keys(folder / "verdicts" / name)
        found[name] = _Open(pending(blocks, done), done)
    waiting = {name: one for name, one in found.items() if one.parts}
    for start in starts({name: configs[name] for name in waiting}, models, seed):
        sharing = {name: judges[name] for name in start.judges}
        specs = {name: models[configs[name].model] for name in sharing}
        _ask(folder, start, specs, sharing, waiting, aspects=aspects, what=what)


def _ask(
    folder: Path,
    start: Start,
    specs: Mapping[str, ModelSpec],
    judges: Mapping[str, Judge],
    waiting: Mapping[str, _Open],
    *,
    aspects: tuple[str, ...] | None,
    what: str,
) -> None:
    """Query the judges that share a start. `specs`: their models, by judge, which differ in the adapter alone."""
    adapted = {name: spec for name, spec in specs.items() if isinstance(spec, VllmSpec) and spec.adapter}
    adapters = {name: spec.adapter or "" for name, spec in adapted.items()}
    done = {name: waiting[name].done for name in judges}
    num_done = sum(map(len, done.values()))
    generate_parts(
        [
            {"judge": name, "part": str(part.resolve()), "num_rows": number}
            for name in judges
            for part, number in waiting[name].parts.items()
        ],
        next(iter(specs.values())),
        start.sampling,
        requests=(
            requests,
            judges,
            aspects,
            done,
            adapters,
            start.sampling.seed if start.sampling.temperature else None,
        ),
        write=(write_verdicts, judges, str((folder / "verdicts").resolve())),
        what=f"{what}: {_names(start)}",
        total=num_done + sum(sum(waiting[name].parts.values()) for name in judges),
        done=num_done,
        adapters=list(adapted.values()),
    )


def _names(start: Start) -> str:
    return ", ".join(start.judges) if len(start.judges) <= 3 else f"{start.model}: {len(start.judges)} prompts"
