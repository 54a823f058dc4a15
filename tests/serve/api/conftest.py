"""The service that most tests of the interface speak to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import serve.api.metrics
from tests.serve.online import Local, Noting, configured


class Counted(dict[tuple[str, ...], float]):
    """(metric, label values) -> the sum of what was counted or observed."""

    def metric(self, name: str, *_: Any) -> Any:
        return _Metric(self, name)


class _Metric:
    def __init__(self, counted: Counted, name: str) -> None:
        self._counted = counted
        self._name = name

    def inc(self, value: float = 1, tags: Mapping[str, str] | None = None) -> None:
        assert value > 0  # as Ray's
        key = (self._name, *(tags or {}).values())
        self._counted[key] = self._counted.get(key, 0) + value

    def observe(self, value: float, tags: Mapping[str, str]) -> None:
        key = (self._name, *tags.values())
        self._counted[key] = self._counted.get(key, 0) + 1

    def set(self, value: float) -> None:
        self._counted[(self._name,)] = value


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """What the interface counts, in place of Ray's metrics."""
    found = Counted()
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(serve.api.metrics, kind, found.metric)
    return found


@pytest.fixture
def service(tmp_path: Path) -> Local:
    return Local(configured(tmp_path), {"a": Noting(), "b": Noting()})
