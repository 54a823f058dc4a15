"""`inverdict serve`: check the port, start the deployments with a line for each, print the address, shut down."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from cluster import runtime
from cluster.config import RunConfig, section_or_default
from cluster.errors import JobFailed, UserError
from cluster.terminal import say
from serve.panel.config import Config

APP = "inverdict"


def serve_until_stopped(run: RunConfig, build_app: Callable[[RunConfig], Any]) -> int:
    """Start the application of `build_app` and serve it until a signal.

    Raises UserError or InputError where the configuration cannot be served, and JobFailed where a deployment fails to
    start; nothing is left running.
    """
    import ray
    import ray.serve

    config = section_or_default(run, "serve", Config)
    check_port(config)
    is_ours = not ray.is_initialized()
    stopped = threading.Event()
    _stop_on_signals(stopped)
    try:
        app = build_app(run)
        _stop_on_signals(stopped)  # again: Ray has installed its own handlers
        with runtime.quiet_logging():
            ray.serve.start(
                http_options={
                    "host": config.host,
                    "port": config.port,
                    "request_timeout_s": config.hard_timeout_s,
                },
                logging_config={"log_level": "ERROR", "enable_access_log": False},
            )
        _deploy(app, stopped)
        if not stopped.is_set():
            _announce(config, ray.get_runtime_context().gcs_address)
        stopped.wait()
        say("serve: stopping")
    finally:
        if ray.is_initialized():
            # Ray would report what is shut down here as lost, on the terminal.
            with runtime.quiet_logging(), Path(os.devnull).open("w") as nothing, redirect_stderr(nothing):
                ray.serve.shutdown()
                if is_ours:
                    ray.shutdown()
    return 0


def _stop_on_signals(stopped: threading.Event) -> None:
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stopped.set())


def check_port(config: Config) -> None:
    """Raises UserError where another process listens there, or where the address is not one of this machine."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, config.port))
    except OSError as error:
        is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        raise UserError(
            f"{config.host}:{config.port} cannot be used ({error.strerror or error}). "
            "Choose another address with `--set serve.port=...` or `--set serve.host=...`.",
            code="in_use" if error.errno == errno.EADDRINUSE else "invalid_value",
            key="serve.port" if is_port else "serve.host",
        ) from error


def _deploy(app: Any, stopped: threading.Event) -> None:
    """Deploy, and report when each deployment is ready. Raises JobFailed where one fails to start."""
    import ray.serve

    failed: list[BaseException] = []

    def deploy() -> None:
        try:
            with runtime.quiet_logging():
                ray.serve.run(app, name=APP, route_prefix="/", blocking=False)
        except BaseException as error:  # raised below, in the main thread
            failed.append(error)

    began = time.monotonic()
    work = threading.Thread(target=deploy, daemon=True)
    say("serve: starting the models")
    work.start()
    ready: set[str] = set()
    while work.is_alive() and not stopped.is_set():
        work.join(0.5)
        for name in _healthy() - ready:
            say(f"serve: {name.removeprefix('evaluator-')} is ready ({time.monotonic() - began:.0f} s)")
            ready.add(name)
    if failed:
        raise JobFailed(f"A deployment failed to start: {_why(failed[0])}", code="start_failed") from failed[0]


def _healthy() -> set[str]:
    import ray.serve

    app = ray.serve.status().applications.get(APP)
    found = app.deployments if app else {}
    return {name for name, one in found.items() if one.status == "HEALTHY"}


def _why(error: BaseException) -> str:
    """The last line that names an error, of messages that may hold whole tracebacks."""
    import ray.serve

    app = ray.serve.status().applications.get(APP)
    texts = [one.message for one in (app.deployments.values() if app else ())] + [str(error)]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    shown = [line for line in lines if "Error" in line] or lines
    return (shown[-1] if shown else type(error).__name__)[:300]


def _announce(config: Config, address: str) -> None:
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{config.port}"
    body = {"task": "qa", "fields": {"source": "Why is the sky blue?", "candidate": "Air scatters blue light most."}}
    key = ' -H "authorization: Bearer $KEY"' if config.keys_file else ""
    say(f"serve: Ray cluster for `evaluate --through-serve`: ray.address={address}")
    say(f"serve: ready at {url} (page: {url}/, endpoints: {url}/docs). Press Ctrl-C to stop. Try:")
    say(f"curl {url}/v1/judge -H 'content-type: application/json'{key} -d '{json.dumps(body)}'")
