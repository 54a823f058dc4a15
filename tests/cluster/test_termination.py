"""SIGTERM: what it ends, with which exit code, and whose handler is there afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cluster import runtime
from cluster.config import RayConfig
from cluster.termination import Terminated, stopped_by_sigterm

CAUGHT: list[int] = []


def surrounding(number: int, _: object) -> None:
    """A handler of before, which also protects the tests' own process."""
    CAUGHT.append(number)


@pytest.fixture(autouse=True)
def surrounded() -> Iterator[None]:
    CAUGHT.clear()
    before = signal.signal(signal.SIGTERM, surrounding)
    yield
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_one_does_not_interrupt_how_the_block_ends() -> None:
    ended = []
    with pytest.raises(Terminated, match="the same command resumes") as caught, stopped_by_sigterm() as stop:
        try:
            terminate()
            pytest.fail("the block went on")
        finally:
            stop.is_ending = True
            terminate()
            ended.append("in order")
    assert (ended, caught.value.exit_code, caught.value.code) == (["in order"], 143, "terminated")
    assert not CAUGHT
    assert signal.getsignal(signal.SIGTERM) is surrounding


def test_one_that_comes_while_the_block_ends_is_told_afterwards() -> None:
    with pytest.raises(Terminated), stopped_by_sigterm() as stop:
        stop.is_ending = True
        terminate()
        ended = True
    assert ended


def test_one_whose_exception_was_lost_does_not_make_the_next_one_mute() -> None:
    with pytest.raises(Terminated), stopped_by_sigterm():
        with suppress(KeyboardInterrupt):  # as Python does in a destructor
            terminate()
        terminate()
        pytest.fail("the block went on")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_ends_a_block_otherwise_is_not_changed(error: type[BaseException]) -> None:
    with pytest.raises(error), stopped_by_sigterm():
        raise error
    with stopped_by_sigterm():
        pass
    terminate()
    assert CAUGHT == [signal.SIGTERM]


@pytest.mark.ray
@pytest.mark.parametrize("is_kept", [True, False])
def test_the_handler_stays_when_ray_starts_and_rays_own_replaces_the_default(
    is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def rays(*_: object) -> None:
        pass

    if not is_kept:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, rays))
    runtime.start(RayConfig(address="10.0.0.9:1"))
    assert signal.getsignal(signal.SIGTERM) is (surrounding if is_kept else rays)
