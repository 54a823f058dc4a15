"""An object store of a test's own: the requests of the S3 protocol that pyarrow makes, kept in memory."""

from __future__ import annotations

import email.utils
import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.local_server import address_of, local_server

# What a process needs to use the server; the keys are not checked.
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class Object(NamedTuple):
    content: bytes
    changed: float  # s

    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{hashlib.md5(self.content).hexdigest()}"',
            "Last-Modified": email.utils.formatdate(self.changed, usegmt=True),
        }


class Store(NamedTuple):
    """`objects`: bucket/key -> object; `refuses`: while set, writes are answered with an error; `log`: the requests."""

    url: str
    objects: dict[str, Object]
    refuses: threading.Event
    log: list[str]

    def address(self, path: str) -> str:
        """The address of a bucket and prefix."""
        return f"s3://{path}?scheme=http&region=us-east-1&endpoint_override={self.url.removeprefix('http://')}"

    def names(self, prefix: str) -> set[str]:
        """The keys below a bucket and prefix, without hidden ones."""
        keys = [name.removeprefix(f"{prefix}/") for name in self.objects if name.startswith(f"{prefix}/")]
        return {key for key in keys if key and key[-1] != "/" and not key.startswith(".")}


@contextmanager
def s3_server() -> Iterator[Store]:
    with local_server(_Handler) as server:
        store = Store(address_of(server), {}, threading.Event(), [])
        server.store, server.uploads = store, {}  # type: ignore[attr-defined]
        yield store


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        self.server.store.log.append(f"{self.command} {self.path}")
        path = unquote(parts.path)[1:]
        # A key may end with a slash, which marks a folder; a bucket may not.
        name = path if "/" in path.rstrip("/") else path.rstrip("/")
        return name, dict(parse_qsl(parts.query, keep_blank_values=True))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return _unchunked(content) if "aws-chunked" in self.headers.get("Content-Encoding", "") else content

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(
            status,
            f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(),
            {"Content-Type": "application/xml"},
        )

    def _xml(self, root: str, inner: str) -> None:
        text = f'<?xml version="1.0"?><{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{root}>'
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})

    def do_HEAD(self) -> None:
        name, _ = self._asked()
        if "/" not in name:
            self._answer(200)
        elif (found := self.server.store.objects.get(name)) is None:
            self._answer(404)
        else:
            self._answer(200, b"", {"Content-Length": str(len(found.content)), **found.headers()})

    def do_GET(self) -> None:
        name, query = self._asked()
        if "list-type" in query:
            self._list(name.strip("/"), query)
            return
        found = self.server.store.objects.get(name)
        if found is None:
            self._error(404, "NoSuchKey")
        elif span := self.headers.get("Range"):
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(found.content)), len(found.content) - 1)
            about = {"Content-Range": f"bytes {start}-{end}/{len(found.content)}", **found.headers()}
            self._answer(206, found.content[start : end + 1], about)
        else:
            self._answer(200, found.content, found.headers())

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, str] = {}
        for name, one in sorted(self.server.store.objects.items()):
            key = name.removeprefix(f"{bucket}/")
            if not name.startswith(f"{bucket}/") or not key.startswith(prefix):
                continue
            rest, cut, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            if cut:
                folder = escape(f"{prefix}{rest}{delimiter}")
                entries[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            else:
                changed = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(one.changed))
                entries[escape(key)] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(one.content)}</Size>"
                    f"<LastModified>{changed}</LastModified></Contents>"
                )
        start, most = query.get("continuation-token", ""), 3  # few, so that every test turns pages
        names = [name for name in sorted(entries) if name > start]
        more = f"<NextContinuationToken>{names[most - 1]}</NextContinuationToken>" if len(names) > most else ""
        inner = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}<KeyCount>{len(names[:most])}</KeyCount>"
        self._xml("ListBucketResult", inner + "".join(entries[name] for name in names[:most]))

    def do_PUT(self) -> None:
        name, query = self._asked()
        body = self._body()
        if self.server.store.refuses.is_set():
            self._error(403, "AccessDenied")
        elif "partNumber" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
            self._answer(200, b"", {"ETag": f'"{query["partNumber"]}"'})
        else:
            self._put(name, body)

    def _put(self, name: str, body: bytes) -> None:
        found = self.server.store.objects[name] = Object(body, time.time())
        self._answer(200, b"", {"ETag": found.headers()["ETag"]})

    def do_POST(self) -> None:
        name, query = self._asked()
        body = self._body()
        if "uploads" in query:
            upload = uuid.uuid4().hex
            self.server.uploads[upload] = {}
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        elif "uploadId" in query:
            parts = self.server.uploads.pop(query["uploadId"])
            self.server.store.objects[name] = Object(b"".join(parts[number] for number in sorted(parts)), time.time())
            self._xml("CompleteMultipartUploadResult", "<ETag>x</ETag>")
        else:
            keys = [unquote(one.partition("</Key>")[0]) for one in body.decode().split("<Key>")[1:]]
            for key in keys:
                self.server.store.objects.pop(f"{name.strip('/')}/{key}", None)
            self._xml("DeleteResult", "")

    def do_DELETE(self) -> None:
        name, query = self._asked()
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"], None)
        else:
            self.server.store.objects.pop(name, None)
        self._answer(204)


def _unchunked(content: bytes) -> bytes:
    """The content of a body in Amazon's chunks: `size;signature`, the bytes, and so on until a size of 0."""
    found, rest = b"", content
    while rest:
        head, _, rest = rest.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if not size:
            break
        found, rest = found + rest[:size], rest[size + 2 :]
    return found
