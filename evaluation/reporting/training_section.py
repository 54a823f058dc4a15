"""The report's sections on learned prompts, the training of the inversion models, and the retriever.

Reads the templates that `evaluate` wrote, `{run}/sft/NAME/DIRECTION/training.json` and the manifest of `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.artifacts import read_json
from evaluation.judges.prompt_sources import FALLBACK, LEARNED, RUBRIC
from evaluation.measure.formatting import shown
from evaluation.reporting.pages import rendered
from judging.tasks import load_task
from judging.template import Template, Templates, rubric_template
from judging.template_io import file_name, load_templates
from retrieval.ndcg import ARMS

MOST_ENTRIES, MOST_CHARS = 12, 400  # shown of a fact about a template


def own_templates(evaluate: Path, judges: Mapping[str, Mapping[str, Any]]) -> dict[str, Templates]:
    """The templates of each judge that does not use the rubric. `judges`: those of the evaluation's summary."""
    keys = {
        (row["task"], row["aspect"]): None
        for row in pq.read_table(evaluate / "scores.parquet", columns=["task", "aspect"]).to_pylist()
    }
    folders = {
        name: evaluate / "templates" / name
        for name, judge in judges.items()
        if judge.get("prompt", RUBRIC) != RUBRIC  # the panel has none
    }
    return {
        name: {(task, aspect): load_templates(folder / file_name(task, aspect))[aspect] for task, aspect in keys}
        for name, folder in folders.items()
    }


def prompts_section(judges: Mapping[str, Mapping[str, Any]], templates: Mapping[str, Templates]) -> str:
    """Each learned prompt next to its task's rubric; empty if no judge used one."""
    found: dict[tuple[str, str, str, str], dict[str, Template]] = {}
    for name, own in templates.items():
        model, prompt = judges[name]["model"], judges[name]["prompt"]
        for (task, aspect), template in own.items() if prompt in LEARNED else ():
            # By text, so that a prompt for several aspects is shown once.
            found.setdefault((model, task, prompt, template.text), {})[aspect] = template
    if not found:
        return ""
    shown_in_order = sorted(found.items(), key=lambda one: one[0])
    return rendered("learned_prompts.html", prompts=[_prompt(*key[:3], by_aspect) for key, by_aspect in shown_in_order])


def _prompt(model: str, task: str, prompt: str, by_aspect: Mapping[str, Template]) -> dict[str, Any]:
    aspect, template = next(iter(by_aspect.items()))
    return {
        "model": model,
        "prompt": prompt,
        "task": task,
        "aspects": ", ".join(by_aspect),
        "aspect": aspect,
        "warning": FALLBACK if template.about.get("fallback") else "",
        "text": template.text,
        "rubric": rubric_template(load_task(task), aspect).text,
        "facts": _facts({"origin": template.origin, **template.about}),
    }


def training_section(run: Path) -> str:
    """Loss curves and facts of each inversion training of the run; empty if there was none."""
    trainings = [_training(file) for file in sorted((run / "sft").glob("*/*/training.json"))]
    return rendered("training.html", trainings=trainings) if trainings else ""


def _training(file: Path) -> dict[str, Any]:
    from evaluation.reporting import plots

    known = read_json(file)
    assert known is not None
    curves = ([(row["step"], row["loss"]) for row in known[name]] for name in ("losses", "dev_losses"))
    facts = {
        "mode": known["mode"],
        "examples": f"{known['num_train']} train, {known['num_dev']} dev",
        "dev loss": f"{_loss(known['loss_before'])} before training, {_loss(known['loss_after'])} after",
        "throughput": f"{known['tokens_per_s']:.0f} tokens/s",
        "peak memory": f"{known['peak_memory_bytes'] / 2**30:.2f} GiB",
        "effective batch size": known["effective_batch"],
    }
    return {
        "model": known["model"],
        "direction": file.parent.name,
        "png": plots.losses(*curves),
        "facts": _facts(facts),
    }


def retriever_section(run: Path, judges: Mapping[str, Mapping[str, Any]]) -> str:
    """Ranking quality of the retrievers, and the examples of each judge; empty if no judge retrieves examples."""
    shown_to = {name: judge["icl"] for name, judge in judges.items() if "icl" in judge}
    if not shown_to:
        return ""
    done = read_json(run / "fit" / "manifest.json")
    return rendered("retriever.html", shown_to=shown_to, orders=_orders(done["summary"]) if done else None)


def _orders(fit: Mapping[str, Any]) -> dict[str, Any]:
    orders = fit["orders"]
    facts = {
        "trained on": f"{fit['num_train']} texts",
        "NDCG@4 by epoch": ", ".join(shown(value, 3) for value in fit["by_epoch"]),
        "selected epoch": fit["best_epoch"],
    }
    return {
        "num_queries": orders["num_queries"],
        "num_groups": orders["num_groups"],
        "rows": [(arm, _interval(orders["ndcg"][arm]), _interval(orders["trained_minus"].get(arm))) for arm in ARMS],
        "facts": _facts(facts),
    }


def _interval(found: Sequence[float | None] | None) -> list[float] | None:
    """Value, low and high; null is JSON's NaN here."""
    return None if found is None else [math.nan if one is None else one for one in found]


def _loss(value: float | None) -> str:
    return "–" if value is None else shown(value, 3)


def _facts(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: _words(value) for name, value in facts.items()}


def _words(value: Any) -> str:
    """A fact of any type in one line; long ones are truncated."""
    if isinstance(value, Mapping):
        return _listed(f"{name}: {_inner(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return _listed(map(_inner, value))
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"


def _inner(value: Any) -> str:
    return f"({_words(value)})" if isinstance(value, Mapping | list | tuple) else _words(value)


def _listed(entries: Iterable[str]) -> str:
    known = list(entries)
    more = len(known) - MOST_ENTRIES
    return ", ".join(known[:MOST_ENTRIES]) + (f" and {more} more" if more > 0 else "") or "none"
