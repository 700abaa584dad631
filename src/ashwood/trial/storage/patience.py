"""How long a storage that fails is tried again, whatever its client repeats by itself.

Clients of storages have retries and time limits of their own, or none.  So each call runs in a thread, which is given
up if it makes no progress.  The process does not wait for such a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import TypeVar

_T = TypeVar("_T")

RETRY_SECONDS = 45.0
"""Seconds for which a call that fails is tried again."""

HURRY_SECONDS = 8.0
"""Seconds that a call which is in trouble still gets after its trial was told to stop or to pause."""

SILENT_SECONDS = 60.0
"""Seconds without any progress after which a call is given up."""

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 4.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Patience:
    """How long calls that fail are tried again.

    Attributes:
        seconds: for how long after the first try began; 0: not at all.
        hurries: whether the caller needs an end soon; asked several times a second while a call is in trouble.
    """

    seconds: float = RETRY_SECONDS
    hurries: Callable[[], bool] = lambda: False


ONCE = Patience(0.0)
"""One try."""

BRIEF = Patience(10.0)
"""For commands, whose user waits."""


class Stalled(TimeoutError):
    """A call was given up because it made no progress."""


class Progress:
    """Notes when a call that transfers data last got on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.at = clock()

    def note(self) -> None:
        """Data was transferred."""
        self.at = self._clock()


def persist(
    call: Callable[[Progress], _T],
    patience: Patience,
    is_final: Callable[[Exception], bool],
    *,
    expected_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """Return what a call returns; repeat it while it fails and there is patience.

    Args:
        call: makes one try; runs in a thread, and notes its progress.
        patience: for how long to try.
        is_final: whether an exception makes further tries useless.
        expected_seconds: how long a try that is not in trouble may take until it tells of progress.
        clock: seconds, never going back.
        sleep: waits.

    Raises:
        Exception: the last try raised it, or it is final.
        Stalled: the last try made no progress.
    """
    over_at = clock() + patience.seconds
    haste = _Haste(patience.hurries, clock)
    pause, failed = _FIRST_PAUSE, False
    while True:
        began = clock()
        try:
            return _watched(call, haste, failed, expected_seconds, clock)
        except Exception as error:
            # The last try begins when the time is over, so that no outage which is shorter costs anything.
            if is_final(error) or began >= over_at or haste.is_over:
                raise
        failed = True
        until = min(clock() + pause, over_at)
        pause = min(2 * pause, _LONGEST_PAUSE)
        while (left := until - clock()) > 0 and not haste.is_over:
            sleep(min(left, _LOOK_SECONDS))


class _Haste:
    """Tells when a caller has waited `HURRY_SECONDS` since it first needed an end."""

    def __init__(self, hurries: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._hurries = hurries
        self._clock = clock
        self._since: float | None = None

    @property
    def is_over(self) -> bool:
        if self._since is None:
            if not self._hurries():
                return False
            self._since = self._clock()
        return self._clock() >= self._since + HURRY_SECONDS


def _watched(
    call: Callable[[Progress], _T], haste: _Haste, failed: bool, expected_seconds: float, clock: Callable[[], float]
) -> _T:
    """Make one try in a thread, and give it up if it stalls."""
    progress, done = Progress(clock), Event()
    result: list[_T] = []
    trouble: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call(progress))
        except BaseException as error:  # noqa: BLE001 - raised again below
            trouble.append(error)
        finally:
            done.set()

    Thread(target=work, name="ashwood-storage", daemon=True).start()
    while not done.wait(_LOOK_SECONDS):
        silent = clock() - progress.at
        if silent >= SILENT_SECONDS + expected_seconds:
            raise Stalled(f"no answer for {silent:.0f} s")
        # A transfer that gets on is not in trouble, and may end however long it takes.
        if haste.is_over and (failed or silent >= HURRY_SECONDS + expected_seconds):
            raise Stalled(f"no answer for {silent:.0f} s, and the trial has to stop")
    if trouble:
        raise trouble[0]
    return result[0]
