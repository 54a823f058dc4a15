"""A model hub of a test's own: one repository, the requests that `huggingface_hub` makes to download a snapshot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.local_server import address_of, local_server

REPO = "org/name"


@dataclass
class Hub:
    """`commits`: commit -> its files; `main`: the commit of the branch; `token`: required if not empty.

    `log`: the files that were downloaded.
    """

    url: str = ""
    main: str = ""
    token: str = ""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def add(self, folder: Path, commit: str) -> None:
        """A commit of `main` with the files of a folder."""
        self.commits[commit] = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.main = commit

    def environment(self, home: Path) -> dict[str, str]:
        """Of a process whose hub this is, with the cache of a node."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}


@contextmanager
def fake_hub() -> Iterator[Hub]:
    with local_server(_Handler) as server:
        hub = Hub(address_of(server))
        server.hub = hub  # type: ignore[attr-defined]
        yield hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        hub: Hub = self.server.hub
        path = self.path.partition("?")[0].strip("/")
        status, body, headers = 404, b"{}", {"X-Error-Code": "EntryNotFound"}
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            status, headers = 401, {"X-Error-Code": "GatedRepo"}
        elif path.startswith(f"api/models/{REPO}/tree/"):
            commit = path.rpartition("/")[2]
            found = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in hub.commits[commit].items()
            ]
            status, body, headers = 200, json.dumps(found).encode(), {}
        elif path.startswith(f"api/models/{REPO}"):
            asked = path.partition("/revision/")[2]
            commit = hub.main if asked in ("", "main") else asked
            files = [{"rfilename": name} for name in hub.commits[commit]]
            status, body, headers = 200, json.dumps({"id": REPO, "sha": commit, "siblings": files}).encode(), {}
        elif path.startswith(f"{REPO}/resolve/"):
            commit, _, name = path.removeprefix(f"{REPO}/resolve/").partition("/")
            if (content := hub.commits[commit].get(name)) is not None:
                tag = hashlib.sha256(content).hexdigest()
                status, body, headers = 200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}
                if with_body:
                    hub.log.append(name)
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)
