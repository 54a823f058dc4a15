"""The hook that keeps the peers on this machine."""

from __future__ import annotations

import socket

import pytest

from tests.peers import offline
from tests.peers.conftest import HAS_PEERS


@pytest.mark.skipif(not HAS_PEERS, reason="needs the peers' own environment: run `make peers`")
def test_another_host_is_refused_and_noted() -> None:
    with pytest.raises(OSError, match="no network"):
        socket.getaddrinfo("example.com", 443)
    with pytest.raises(OSError, match="no network"), socket.socket() as one:
        one.connect(("192.0.2.1", 443))
    assert offline.attempts == ["example.com", "192.0.2.1"]
    offline.attempts.clear()
    assert socket.getaddrinfo("localhost", 80)
