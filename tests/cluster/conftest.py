"""Fixtures of the tests in this folder."""

from collections.abc import Iterator

import pytest

from tests.cluster.fake_endpoint import Endpoint, serving


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as found:
        yield found
