"""Fingerprints of what determines a judge's score: code, model, template, settings, examples, aggregation.

Short sha256. The certificate and the running panel use the same functions, so that the two can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import judging
from cluster.artifacts import read_json
from cluster.config import RunConfig
from cluster.identity import model_identity
from evaluation.judges.aggregation import PANEL, panel_identity
from evaluation.judges.fitted_judges import folder_of
from evaluation.judges.judge_config import FITTED, JudgeConfig
from judging.certificates.certificate import Fingerprints
from judging.records import Record
from judging.request_templates import pair_template
from judging.tasks import load_task
from judging.template import Templates

if TYPE_CHECKING:
    from evaluation.batch.config import Config as EvaluateConfig

CODE = ("judging", "cluster", "evaluation", "serve", "retrieval")
# Excluded from these: code that only displays and compares scores.
SHOWS = (
    "serve/api",
    "evaluation/reporting",
    "evaluation/compare.py",
    "evaluation/gate.py",
    *(f"evaluation/measure/{name}.py" for name in ("formatting", "headline", "system_comparison", "trust")),
    "judging/stats/additive_model.py",
    "judging/stats/prediction_powered.py",
    "judging/stats/systems.py",
)
INTEGRATOR = "integrator"
# Keys of a judge's configuration that have a fingerprint of their own.
APART = {"model", "prompt"}


def short(value: Any) -> str:
    """16 hexadecimal digits from a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def code_fingerprint() -> str:
    """The fingerprint of every Python file of Inverdict that can change a score."""
    root = Path(judging.__file__).parents[1]
    digest = hashlib.sha256()
    for package in CODE:
        for file in sorted((root / package).rglob("*.py")):
            if file.relative_to(root).as_posix().startswith(SHOWS):
                continue
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


class Known:
    """Fingerprints of one configuration with its templates and pool, running or evaluated; hashes each once."""

    def __init__(
        self, run: RunConfig, evaluate: EvaluateConfig, templates: Mapping[str, Templates], pool: Mapping[str, Record]
    ) -> None:
        self._evaluate = evaluate
        self._templates = templates
        names = {judge.model for judge in evaluate.judges.values()}
        names |= {evaluate.integrator.model} if evaluate.integrator else set()
        self._models = {name: short(model_identity(run.models[name])) for name in names}
        self._taught = panel_identity(run.run, evaluate.vote)
        self._fits = {
            name: (read_json(folder_of(run.run, name) / "manifest.json") or {}).get("files")
            for name, judge in evaluate.judges.items()
            if judge.score_mode == FITTED
        }
        self._retriever = short([_pool(pool), read_json(run.run / "index" / "manifest.json")])

    def of(self, subject: str, task: str, aspect: str) -> Fingerprints:
        """The fingerprints of one judge for one task and aspect, or of the panel.

        Args:
            subject: a judge's name, or `panel` for all judges and their aggregation.
            task: of the template.
            aspect: of the template.
        """
        return self._panel(task, aspect) if subject == PANEL else self._of([subject], task, aspect, weights=None)

    def _panel(self, task: str, aspect: str) -> Fingerprints:
        evaluate = self._evaluate
        integrator = json.loads(evaluate.integrator.model_dump_json()) if evaluate.integrator else None
        weights = short([json.loads(evaluate.vote.model_dump_json()), integrator, self._taught])
        return self._of(list(evaluate.judges), task, aspect, weights=weights)

    def _of(self, names: list[str], task: str, aspect: str, weights: str | None) -> Fingerprints:
        configs = {name: self._evaluate.judges[name] for name in names}
        models = {name: self._models[config.model] for name, config in configs.items()}
        if weights and self._evaluate.integrator:
            models[INTEGRATOR] = self._models[self._evaluate.integrator.model]
        return Fingerprints(
            code=code_fingerprint(),
            models=models,
            templates={name: self._templates[name][task, aspect].fingerprint[:16] for name in names},
            settings={name: _settings(config, self._fits.get(name)) for name, config in configs.items()},
            retriever=self._retriever if any(map(_shows_examples, configs.values())) else None,
            weights=weights,
        )


def known_of_pairs(
    run: RunConfig,
    evaluate: EvaluateConfig,
    judges: Collection[str],
    keys: Iterable[tuple[str, str]],
    *,
    with_tie: bool = False,
) -> Known:
    """The fingerprints of comparisons: of these judges, with the pairwise template in place of their own prompts.

    Args:
        run: the configuration.
        evaluate: its section `evaluate`.
        judges: those that compare.
        keys: tasks and aspects to compare by.
        with_tie: whether there is a label for a tie.
    """
    templates = {(task, aspect): pair_template(load_task(task), aspect, with_tie=with_tie) for task, aspect in keys}
    # A comparison shows no examples.
    plain = {name: evaluate.judges[name].model_copy(update={"examples": (), "icl": None}) for name in judges}
    config = evaluate.model_copy(update={"judges": plain, "integrator": None})
    return Known(run, config, dict.fromkeys(judges, templates), {})


def _settings(config: JudgeConfig, fit: Any) -> str:
    """Of the judge's section and, of a fitted judge, of its regressions."""
    told = json.loads(config.model_dump_json(exclude=APART))
    return short([told, fit] if fit else told)


def _shows_examples(config: JudgeConfig) -> bool:
    return bool(config.examples) or (config.icl is not None and config.icl.arm != "none")


def _pool(pool: Mapping[str, Record]) -> list[str]:
    return sorted(short(record.to_row()) for record in pool.values())
