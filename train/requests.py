"""One batch of requests to a model: request rows in, the same rows with their replies out, in order; kept by stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster import feasibility as demands
from cluster import runtime
from cluster.artifacts import read_json, write_text
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.generate import Sampling, generate
from cluster.model_specs import ModelSpec, VllmSpec
from cluster.precision import settled
from cluster.progress import progress
from cluster.terminal import say
from cluster.tokens import Encoder, encoder_of, labels_problem


def known_encoder(spec: ModelSpec) -> Encoder | None:
    """The encoder of a model whose tokenizer is available here; None: only the engine has it."""
    return encoder_of(spec) if isinstance(spec, VllmSpec) else None


class Stages:
    """The stages of inference of one job: each keeps its replies in a file, so that a resumed job repeats only one.

    Args:
        run: the configuration.
        folder: where the files of the stages lie.
        what: name of the job in progress messages.
    """

    def __init__(self, run: RunConfig, folder: Path, what: str) -> None:
        self._run, self._folder, self._what = run, folder, what

    def replies(
        self,
        stage: str,
        rows_of: Callable[[], list[dict[str, Any]]],
        spec: ModelSpec,
        sampling: Sampling,
        *,
        keep: Sequence[str],
    ) -> list[dict[str, Any]]:
        """The replies of a stage.

        Args:
            stage: its name.
            rows_of: makes the request rows; called only where the stage is not finished.
            spec: the model.
            sampling: of the replies.
            keep: columns of the result, those of the request rows included.

        Returns:
            The rows with their replies, in order.
        """
        file = self._folder / f".{stage}.json"
        if (before := read_json(file)) is not None:
            return list(before["replies"])
        rows = rows_of()
        replies = ask_all(self._run, rows, spec, sampling, keep, f"{self._what}: {stage}") if rows else []
        write_text(file, json.dumps({"replies": replies}, ensure_ascii=False))
        return replies


def ask_all(
    run: RunConfig, rows: Sequence[dict[str, Any]], spec: ModelSpec, sampling: Sampling, keep: Sequence[str], what: str
) -> list[dict[str, Any]]:
    """Run inference on the rows.

    Args:
        run: the configuration.
        rows: requests, as cluster.generate reads them.
        spec: the model.
        sampling: of the replies.
        keep: columns of the result, those of the request rows included.
        what: name of the work in progress messages.

    Returns:
        The rows with their replies, in order.

    Raises:
        UserError: the labels of a row cannot be read from the model's reply.
    """
    asked = {(row["reply_prefix"], tuple(row["labels"])) for row in rows if row["labels"]}
    for prefix, labels in asked if isinstance(spec, VllmSpec) else ():
        if problem := labels_problem(spec, prefix, labels):
            raise UserError(f"{what} needs label probabilities: {problem}", code="unsupported")
    runtime.start(run.ray)
    demands.check_specs({what: spec})
    spec = settled(run, spec)
    import ray.data

    say(f"{what}: starting the model")
    answered = generate(ray.data.from_items(list(rows), override_num_blocks=max(1, len(rows) // 64)), spec, sampling)
    found: list[dict[str, Any]] = []
    with progress(what, len(rows)) as bar:
        for batch in answered.iter_batches(batch_size=None, prefetch_batches=0):
            columns = {name: list(batch[name]) for name in keep}
            size = len(columns[keep[0]])
            found += [{name: _plain(columns[name][place]) for name in keep} for place in range(size)]
            bar.add(size)
    return found


def _plain(value: Any) -> Any:
    """A value of an Arrow batch as JSON has it."""
    return value.tolist() if hasattr(value, "tolist") else value
