"""A made-up model folder and instruction set, in a working directory without anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.train.making import jsonl
from tests.train.planning.test_model_size import tiny_folder


@pytest.fixture
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without data, no public data sets, and an empty hub cache."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("INVERDICT_DATA", str(tmp_path / "cwd"))
    monkeypatch.setattr("judging.public_data.places.cache_folder", lambda: tmp_path / "cwd")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *place, **more: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of 1,000,000 parameters by its header."""
    return tiny_folder(tmp_path / "models" / "tiny")


@pytest.fixture
def instructions(tmp_path: Path) -> dict[str, Any]:
    """Three instructions of 40 characters, 10 tokens, with own answers of 20 characters, 5 tokens."""
    rows = [{"instruction": letter * 40, "output": letter * 20} for letter in "abc"]
    return {"files": [jsonl(tmp_path / "i.jsonl", rows)]}
