"""How long a call that fails is tried again; the clock is the tests' own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.checkpoints.patience import (
    HURRY_SECONDS,
    RETRY_SECONDS,
    SILENT_SECONDS,
    Patience,
    Stalled,
    TransferProgress,
    persist,
)


class Clock:
    """Seconds that pass only while a call waits or a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Outage:
    """A call that fails until a time, and takes some time itself."""

    def __init__(self, clock: Clock, until: float, takes: float = 0.0) -> None:
        self._clock, self._until, self._takes = clock, until, takes
        self.tries = 0

    def __call__(self, _progress: TransferProgress) -> str:
        self.tries += 1
        fails = self._clock() < self._until
        self._clock.now += self._takes
        if fails:
            raise OSError("the token has expired")
        return "done"


def persistently(
    call: Callable[[TransferProgress], str], clock: Clock, patience: Patience | None = None, *, final: bool = False
) -> str:
    return persist(call, patience or Patience(), lambda _: final, clock=clock, sleep=clock.sleep)


@given(outage=st.floats(0, RETRY_SECONDS), takes=st.floats(0, 16))
def test_outage_within_patience_costs_nothing(outage: float, takes: float) -> None:
    clock = Clock()
    assert persistently(Outage(clock, clock() + outage, takes), clock) == "done"
    assert clock() <= 1_000.0 + RETRY_SECONDS + 2 * takes + 1e-6


@given(seconds=st.floats(0, 100), takes=st.floats(0, 16))
def test_outage_for_good_ends_after_patience_and_one_try(seconds: float, takes: float) -> None:
    clock = Clock()
    outage = Outage(clock, float("inf"), takes)
    with pytest.raises(OSError, match="expired"):
        persistently(outage, clock, Patience(seconds))
    assert 1_000.0 + seconds <= clock() <= 1_000.0 + seconds + 2 * takes + 1e-6
    assert outage.tries <= 7 + seconds / 4


def test_final_error_is_not_tried_again() -> None:
    clock = Clock()
    outage = Outage(clock, float("inf"))
    with pytest.raises(OSError, match="expired"):
        persistently(outage, clock, final=True)
    assert outage.tries == 1


@given(asked_at=st.floats(0, RETRY_SECONDS))
def test_failing_call_ends_soon_after_request_to_stop(asked_at: float) -> None:
    clock = Clock()
    with pytest.raises(OSError, match="expired"):
        persistently(Outage(clock, float("inf")), clock, Patience(hurries=lambda: clock() >= 1_000.0 + asked_at))
    assert clock() <= 1_000.0 + min(RETRY_SECONDS, asked_at + HURRY_SECONDS) + 0.3


def test_call_without_progress_is_given_up() -> None:
    clock, over = Clock(), threading.Event()

    def silent(_progress: TransferProgress) -> str:
        clock.now += SILENT_SECONDS
        over.wait()
        return "late"

    with pytest.raises(Stalled, match="no answer for 60 s"):
        persistently(silent, clock, Patience(0.0))
    over.set()


def test_transfer_with_progress_continues_after_request_to_stop() -> None:
    clock = Clock()

    def slow(progress: TransferProgress) -> str:
        for _ in range(20):
            clock.now += HURRY_SECONDS - 1
            progress.note()
        return "done"

    assert persistently(slow, clock, Patience(hurries=lambda: True)) == "done"
