"""The service that most tests of the interface speak to."""

from pathlib import Path

import pytest

from tests.serve.online import Local, Noting, configured


@pytest.fixture
def service(tmp_path: Path) -> Local:
    return Local(configured(tmp_path), {"a": Noting(), "b": Noting()})
