"""`inverdict doctor`: what each finding says of what the nodes saw, and one look at a real cluster."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import doctor, findings
from cluster import node_checks as probes
from cluster.__main__ import main
from cluster.node_checks import Seen
from tests.cluster.heads import head
from tests.local_server import local_server
from tests.train.tiny import tiny_model

ROOT = Path(__file__).parents[2]
HERE = {"python": "3.11.9", "ray": "2.60.0", "vllm": "none"}
GIB = 2**30


def seen(node: str = "a", **more: Any) -> Seen:
    plain: dict[str, Any] = {
        "versions": HERE,
        "storage": "",
        "models": {},
        "fetches": [],
        "memory_bytes": 8 * GIB,
        "dtype": "float32",
        "gpus": [],
        "bound": {},
    }
    return Seen(node, **{**plain, **more})


def test_versions_are_the_drivers_on_every_node() -> None:
    assert findings.version_finding(HERE, [seen(), seen("b")])[1:] == (
        "ok",
        "2 nodes: python 3.11.9, ray 2.60.0, vllm none",
    )
    level, words = findings.version_finding(HERE, [seen(), seen("b", versions={**HERE, "ray": "2.59.0"})])[1:]
    assert (level, words.split(";")[0]) == ("bad", "b has ray 2.59.0")
    # A package that a node does not have at all is another version too, and one that the driver lacks.
    lacking = {name: version for name, version in HERE.items() if name != "ray"}
    assert "b has ray none" in findings.version_finding(HERE, [seen("b", versions=lacking)]).words
    assert "b has vllm 0.29.0" in findings.version_finding(HERE, [seen("b", versions={**HERE, "vllm": "0.29.0"})]).words


def test_storage_is_written_seen_by_all_and_left_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "new" / "run"
    with doctor._marked(str(place)) as (mark, problem):
        assert problem is None
        assert [probes.storage_problem(place, mark, node) for node in ("a", "b")] == ["", ""]
        found = findings.storage_words(str(place), mark, [seen("a"), seen("b")])
        assert found is not None
        assert found.level == "ok"
        # A node with a folder of its own at this path: sees no mark, or what it wrote is not here.
        other = tmp_path / "other"
        other.mkdir()
        assert probes.storage_problem(other, mark, "c").startswith("does not see")
        lost = findings.storage_words(str(place), mark, [seen("a"), seen("d")])
        assert lost is not None
        assert lost.level == "bad"
        assert "written by d" in lost.words
    assert list(tmp_path.iterdir()) == [other]


def test_storage_that_was_there_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    with doctor._marked(str(tmp_path)) as (mark, _):
        probes.storage_problem(tmp_path, mark, "a")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_storage_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with doctor._marked(str(tmp_path / "file" / "run")) as (mark, problem):
        assert mark == ""
        assert problem is not None
        assert problem.level == "bad"
        assert "Not a directory" in problem.words

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "mark").write_text("")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert probes.storage_problem(tmp_path, "mark", "a") == "cannot write to it: No space left on device"


def test_what_auto_is_on_the_nodes_processors() -> None:
    assert findings.dtype_finding([seen(), seen("b")])[1:] == ("ok", "auto is float32 on CPUs")
    level, words = findings.dtype_finding([seen(), seen("b", dtype="bfloat16")])[1:]
    assert level == "note"
    assert "float32 on a, bfloat16 on b" in words
    on_gpus = seen("b", dtype="bfloat16", gpus=[("T", GIB)])
    assert findings.dtype_finding([seen(), on_gpus])[1:] == ("ok", "auto is float32 on CPUs")
    assert findings.dtype_finding([on_gpus])[1:] == ("ok", "auto is the model's own on GPUs")


def test_without_a_configuration_there_is_a_run_all_the_same() -> None:
    run = doctor._configured(argparse.Namespace(config=None, overrides=[], address="auto"))
    assert (run.ray.address, run.models) == ("auto", {})


def test_which_kind_of_place_the_run_directory_is(tmp_path: Path) -> None:
    def words(*nodes: str) -> str:
        for node in nodes:
            (tmp_path / f"mark.{node}").touch()
        found = findings.storage_words(str(tmp_path), "mark", [seen(node) for node in nodes])
        assert found is not None
        assert found.level == "ok"
        return found.words

    assert "the only one" in words("a")
    assert "a folder that all nodes share" in words("a", "b")
    store = doctor.store_finding((tmp_path / "store").as_uri())
    assert store.level == "ok"
    assert "is an object store, writable from here" in store.words
    (tmp_path / "file").touch()
    assert doctor.store_finding((tmp_path / "file" / "store").as_uri()).level == "bad"


@pytest.mark.parametrize(
    ("guarded", "addresses", "levels"),
    [
        (True, ["127.0.0.1"], ["ok", "ok"]),
        (True, ["0.0.0.0"], ["ok", "note"]),
        (False, ["127.0.0.1"], ["note", "ok"]),
        # Anybody who reaches this machine runs code on it.
        (False, ["0.0.0.0"], ["bad", "bad"]),
        (False, ["127.0.0.1", "::"], ["bad", "bad"]),
        (False, ["::1"], ["note", "ok"]),
        (None, ["0.0.0.0"], ["note"]),
    ],
)
def test_an_open_dashboard_without_a_token_is_bad(
    guarded: bool | None, addresses: list[str], levels: list[str]
) -> None:
    found = findings.security_findings(guarded, "127.0.0.1:8265", [{8265: addresses}, {8265: []}])
    assert [one.level for one in found] == levels


class Answering(BaseHTTPRequestHandler):
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def dashboard() -> Iterator[str]:
    with local_server(Answering) as server:
        yield f"127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(("code", "guarded"), [(200, False), (401, True), (403, True), (500, False)])
def test_a_dashboard_that_turns_away_who_has_no_token_is_guarded(
    dashboard: str, monkeypatch: pytest.MonkeyPatch, code: int, guarded: bool
) -> None:
    monkeypatch.setattr(Answering, "code", code)
    assert doctor.asks_for_token(dashboard) is guarded


def test_no_dashboard_and_a_silent_one_are_unknown() -> None:
    assert doctor.asks_for_token("") is None
    assert doctor.asks_for_token("127.0.0.1:9") is None
    assert [one.level for one in findings.security_findings(None, "", [])] == ["ok"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_this_machine_is_looked_over_and_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = {
        "m": {"source": tiny_model(tmp_path / "m"), "kv_cache_gib": 0.1},
        "far": {"backend": "http", "base_url": "http://127.0.0.1:9/v1", "model": "x"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"run": str(tmp_path / "run"), "models": models}))
    assert main(["doctor", str(tmp_path / "c.yaml"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    levels = {one["what"]: one["level"] for one in told["findings"]}
    assert levels.pop("dashboard") in ("ok", "note")
    levels.pop("token", None)
    assert levels == {
        "versions": "ok",
        "storage": "ok",
        "model m": "ok",
        "model far": "bad",  # nothing listens at the discard port
        "memory m": "ok",
        "dtype": "ok",
        "resources": "ok",
    }
    assert len(told["nodes"]) == 1
    assert not told["ok"]
    assert not (tmp_path / "run").exists()
    assert main(["doctor"]) == 0
    assert "no problems found" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_in_token_mode_is_seen_as_guarded_and_refuses_who_has_no_token(tmp_path: Path) -> None:
    from tests.cluster.test_submit import environment

    with head() as found:
        command = [sys.executable, "-m", "cluster", "doctor", "--json", "--address", found.address]
        asked = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 200, "check": False}
        right = subprocess.run(command, env={**environment(found.token, tmp_path), "RAY_AUTH_MODE": "token"}, **asked)
        without = subprocess.run(command, env=environment("", tmp_path), **asked)
    assert right.returncode == 0, right.stderr
    findings = {one["what"]: (one["level"], one["words"]) for one in json.loads(right.stdout)["findings"]}
    assert findings["token"] == ("ok", "token mode is on")
    assert findings["dashboard"] == ("ok", "the dashboard listens on 127.0.0.1")
    assert without.returncode == 2
    assert without.stderr.count("\n") == 1
