"""No peer speaks to anything but this machine: its opt-outs, and a hook that refuses every other address.

`install` before any peer is imported: some read their settings, or fetch a list of models, while they are.
"""

from __future__ import annotations

import os
import sys
from typing import Any

SETTINGS = {
    "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
    "DEEPEVAL_DISABLE_DOTENV": "1",
    "DEEPEVAL_FILE_SYSTEM": "READ_ONLY",
    "DEEPEVAL_NO_INSPECT_PROMPT": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_MODEL_CATALOG_URI": "",
    "DO_NOT_TRACK": "true",
    "LITELLM_OFFLINE_MODE": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "true",
    "LANGSMITH_TRACING": "false",
    "OPENAI_API_KEY": "none",
}
LOCAL = ("127.0.0.1", "::1", "localhost", "", None)
attempts: list[str] = []  # the hosts that were refused


def install() -> None:
    """For the rest of this process."""
    os.environ.update(SETTINGS)
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in LOCAL:
        attempts.append(str(host))
        raise OSError(f"{host}: no network in these tests")
