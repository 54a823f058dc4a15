"""Requests with labels that a model cannot answer are refused before an engine is started."""

from pathlib import Path

import pytest

from cluster.config import RunConfig
from cluster.generate import Sampling
from cluster.model_specs import VllmSpec
from cluster.models import ModelFolder
from tests.cluster.chat_families import FAMILIES, save
from tests.refusals import refused
from train.requests import ask_all


@pytest.mark.parametrize(
    ("budget", "labels", "naming"),
    [(8, ["1", "2"], "thinking_token_budget"), (0, [str(one) for one in range(1, 11)], "1 to 10")],
    ids=["thinking", "several tokens"],
)
def test_labels_that_cannot_be_read(
    budget: int, labels: list[str], naming: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(save(FAMILIES["qwen-3"], tmp_path))
    monkeypatch.setattr("cluster.models.resolve", lambda *_, **__: ModelFolder("x", folder, "", "local", str(folder)))
    run = RunConfig(run=tmp_path / "run")
    row = {"prompt": "Rate.", "reply_prefix": "Score: ", "labels": labels, "json_schema": ""}
    spec = VllmSpec(source="x", thinking_token_budget=budget)
    with refused("unsupported", naming=naming):
        ask_all(run, [row], spec, Sampling(max_tokens=1), ["reply"], "invert: choice")
