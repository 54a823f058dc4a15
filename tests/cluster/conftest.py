"""Fixtures of the tests in this folder."""

from collections.abc import Iterator

import pytest

from tests.cluster.fake_endpoint import Endpoint, serving
from tests.cluster.s3_server import ENVIRONMENT, Store, s3_server


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as found:
        yield found


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with s3_server() as found:
        yield found
