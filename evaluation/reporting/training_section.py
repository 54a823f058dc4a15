"""The report's sections on learned prompts and on the training behind them, as HTML; what models wrote is escaped.

Reads the templates that `evaluate` left and `{run}/sft/NAME/DIRECTION/training.json`; knows no scores but their keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.artifacts import read_json
from evaluation.judges.prompt_sources import FALLBACK, LEARNED, RUBRIC
from evaluation.measure.formatting import shown
from judging.tasks import load_task
from judging.template import Template, Templates, rubric_template
from judging.template_io import file_name, load_templates
from retrieval.ndcg import ARMS

MOST_ENTRIES, MOST_CHARS = 12, 400  # of a fact about a template


def own_templates(evaluate: Path, judges: Mapping[str, Mapping[str, Any]]) -> dict[str, Templates]:
    """What each judge without the rubric was asked, by judge. `judges`: those of the evaluation's summary."""
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
    """Each learned prompt beside its task's rubric; empty where no judge used one."""
    found: dict[tuple[str, str, str, str], dict[str, Template]] = {}
    for name, own in templates.items():
        model, prompt = judges[name]["model"], judges[name]["prompt"]
        for (task, aspect), template in own.items() if prompt in LEARNED else ():
            # By text, so that a prompt for several aspects stands there once.
            found.setdefault((model, task, prompt, template.text), {})[aspect] = template
    items = "".join(_prompt(*key[:3], by_aspect) for key, by_aspect in sorted(found.items(), key=lambda one: one[0]))
    return f"<h2>Learned prompts</h2><p>Each beside the task's written rubric.</p>{items}" if items else ""


def _prompt(model: str, task: str, prompt: str, by_aspect: Mapping[str, Template]) -> str:
    aspect, template = next(iter(by_aspect.items()))
    rubric = rubric_template(load_task(task), aspect)
    warning = f"<p class=warning>{escape(FALLBACK)}.</p>" if template.about.get("fallback") else ""
    return (
        f"<h3>{escape(model)}, {escape(prompt)}: {escape(task)} / {escape(', '.join(by_aspect))}</h3>{warning}"
        f"<table class=pair><tr><th>{escape(prompt)}<th>rubric, {escape(aspect)}"
        f"<tr><td><pre>{escape(template.text)}</pre><td><pre>{escape(rubric.text)}</pre></table>"
        + _facts({"origin": template.origin, **template.about})
    )


def training_section(run: Path) -> str:
    """Loss curves and facts of every model trained for inversion; empty where none was trained in this run."""
    items = "".join(_training(file) for file in sorted((run / "sft").glob("*/*/training.json")))
    return f"<h2>Inversion training</h2>{items}" if items else ""


def _training(file: Path) -> str:
    from evaluation.reporting import plots

    known = read_json(file)
    assert known is not None
    curves = ([(row["step"], row["loss"]) for row in known[name]] for name in ("losses", "dev_losses"))
    facts = {
        "mode": known["mode"],
        "texts": f"{known['num_train']} to train, {known['num_dev']} dev",
        "dev loss": f"{_loss(known['loss_before'])} before, {_loss(known['loss_after'])} after",
        "speed": f"{known['tokens_per_s']:.0f} tokens/s",
        "peak memory": f"{known['peak_memory_bytes'] / 2**30:.2f} GiB",
        "effective batch": known["effective_batch"],
    }
    return (
        f"<h3>{escape(known['model'])}, {escape(file.parent.name)}</h3>"
        f"<img alt='loss over steps' src='data:image/png;base64,{plots.losses(*curves)}'>{_facts(facts)}"
    )


def retriever_section(run: Path, judges: Mapping[str, Mapping[str, Any]]) -> str:
    """How well the trained towers order examples, and how many each judge was shown; empty where none was found."""
    shown_to = {name: judge["icl"] for name, judge in judges.items() if "icl" in judge}
    if not shown_to:
        return ""
    done = read_json(run / "fit" / "manifest.json")
    rows = "".join(
        f"<tr><th>{escape(name)}<td>{escape(icl['arm'])}<td>{icl['mean_examples']:.2f} of {icl['wanted']}"
        f"<td>{icl['num_dropped']}<td>{icl['num_prompts_without']} of {icl['num_prompts']}"
        for name, icl in shown_to.items()
    )
    return (
        "<h2>Examples found for each text</h2><table><tr><th>judge<th>search<th>examples a prompt<th>did not fit"
        f"<th>prompts without{rows}</table>{_orders(done['summary']) if done else ''}"
    )


def _orders(fit: Mapping[str, Any]) -> str:
    orders = fit["orders"]
    rows = "".join(
        f"<tr><th>{arm}<td>{_interval(orders['ndcg'][arm])}<td>{_interval(orders['trained_minus'].get(arm))}"
        for arm in ARMS
    )
    facts = {
        "towers trained on": f"{fit['num_train']} texts",
        "NDCG@4 by epoch": ", ".join(shown(value, 3) for value in fit["by_epoch"]),
        "chosen epoch": fit["best_epoch"],
    }
    return (
        "<h3>Order of the tried examples against what they were worth</h3>"
        f"<p>NDCG@4 on {orders['num_queries']} texts of {orders['num_groups']} groups that the towers were not trained "
        f"on; they chose the epoch. Below: 95 % intervals over groups.</p>"
        f"<table><tr><th>search<th>NDCG@4<th>towers minus it{rows}</table>{_facts(facts)}"
    )


def _interval(found: Sequence[float | None] | None) -> str:
    if found is None:
        return "–"
    value, low, high = (math.nan if one is None else one for one in found)
    return f"{shown(value)}<small>{shown(low)} to {shown(high)}</small>"


def _loss(value: float | None) -> str:
    return "–" if value is None else shown(value, 3)


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(name.replace('_', ' '))}<td>{escape(_words(v))}" for name, v in facts.items())
    return f"<table class=facts>{rows}</table>"


def _words(value: Any) -> str:
    """A fact of any kind in one line; long ones are cut."""
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
