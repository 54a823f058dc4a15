"""deploy/drain_on_notice.py against a metadata service and a `ray` of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT
from tests.local_server import address_of, local_server

TOKEN = "six-hours"


class Metadata(BaseHTTPRequestHandler):
    """AWS (version 2 of its service) and Google: no notice in the first two answers, then one."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        self._say(200, TOKEN if self.headers["x-aws-ec2-metadata-token-ttl-seconds"] else "")

    def do_GET(self) -> None:
        self.asked.append(self.path)
        is_noticed = len(self.asked) > 2
        if self.path == "/latest/meta-data/spot/instance-action":
            if self.headers["x-aws-ec2-metadata-token"] != TOKEN:
                self._say(401, "")
            else:
                self._say(*(200, '{"action": "terminate"}') if is_noticed else (404, ""))
        elif self.path == "/computeMetadata/v1/instance/preempted" and self.headers["metadata-flavor"] == "Google":
            self._say(200, "TRUE" if is_noticed else "FALSE")
        else:
            self._say(403, "")

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def metadata() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    with local_server(type("Own", (Metadata,), {"asked": asked})) as server:
        yield address_of(server), asked


@pytest.mark.parametrize(("cloud", "seconds"), [("aws", "110"), ("gcp", "20")])
def test_a_notice_drains_the_node_as_preempted(cloud: str, seconds: str, tmp_path: Path) -> None:
    fake = tmp_path / "ray"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$0.called"\n')
    fake.chmod(0o755)
    with metadata() as (address, asked):
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "INVERDICT_METADATA": address,
            "INVERDICT_POLL_S": "0.01",
        }
        script = ROOT / "deploy" / "drain_on_notice.py"
        subprocess.run([sys.executable, str(script), cloud], env=environment, check=True, timeout=30)
        assert len(asked) == 3
    words = (tmp_path / "ray.called").read_text().splitlines()
    assert words[0] == "drain-node"
    given = dict(zip(words[1::2], words[2::2], strict=True))
    assert given["--reason"] == "DRAIN_NODE_REASON_PREEMPTION"
    assert given["--deadline-remaining-seconds"] == seconds


def test_ray_knows_the_command_and_its_options() -> None:
    from ray.core.generated import autoscaler_pb2
    from ray.scripts.scripts import cli

    options = {name for one in cli.commands["drain-node"].params for name in one.opts}
    assert {"--address", "--reason", "--reason-message", "--deadline-remaining-seconds"} <= options
    assert "DRAIN_NODE_REASON_PREEMPTION" in dict(autoscaler_pb2.DrainNodeReason.items())
