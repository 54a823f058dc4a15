"""One server of ours for all tests, started in the main environment; the tests run in the peers' own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.peers import offline
from tests.peers.judges import Endpoint, Graded
from tests.serve.serving import configuration, free_port, serving

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "examples" / "constructed.jsonl"
MODEL, PANEL = "smollm2", "inverdict-panel"
NUM_ROWS = 3
HAS_PEERS = find_spec("deepeval") is not None
if HAS_PEERS:
    offline.install()
table: list[str] = []  # lines that the summary prints


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Such as http://127.0.0.1:8000/v1."""
    if not HAS_PEERS:
        pytest.skip("needs the peers' own environment: run `make peers`")

    folder, port = tmp_path_factory.mktemp("peers"), free_port()
    model = {"source": "embedded:smollm2-135m-instruct", "dtype": "float32", "max_model_len": 2048, "kv_cache_gib": 0.5}
    judges = {"rubric": {"model": MODEL}, "shown": {"model": MODEL, "icl": {"arm": "bm25", "k": 2}}}
    config = configuration(
        folder,
        data={"records": [str(RECORDS)], "pool": [str(RECORDS.with_name("pool.jsonl"))], "labels": "constructed"},
        models={MODEL: model},
        evaluate={"judges": judges},
        serve={"port": port, "timeout_s": 300},
    )
    with serving(config, port, patience_s=500, python=ROOT / ".venv" / "bin" / "python") as served:
        yield f"{served.address}/v1"


@pytest.fixture
def judge(url: str) -> Endpoint:
    """The chat endpoint of a judge's model."""
    return Endpoint(url, MODEL)


@pytest.fixture
def panel(url: str) -> Endpoint:
    """The chat endpoint of the panel."""
    return Endpoint(url, PANEL)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    with RECORDS.open(encoding="utf-8") as lines:
        return list(islice((row for row in map(json.loads, lines) if row["task"] == "qa"), NUM_ROWS))


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine() -> Iterator[None]:
    offline.attempts.clear()
    yield
    assert not offline.attempts


def note(package: str, driven: str, found: list[Graded]) -> None:
    """A line of the summary: how many rows a peer scored, and why not the others."""
    scored = [one.score for one in found if one.score is not None]
    reasons = "; ".join(sorted({one.unscored for one in found if one.unscored}))
    place = f"{package} {version(package)}"
    table.append(f"{place:<24} {driven:<42} {len(scored)} of {len(found)} scored  {reasons[:110]}".rstrip())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if table:
        terminalreporter.section("peers")
        terminalreporter.write("\n".join(table) + "\n")
