"""Retries of calls to a storage, with time limits that do not depend on the storage's client library.

Client libraries have retries and time limits of their own, or none.  So each call runs in a thread.  If it makes no
progress, the thread is abandoned: the process does not wait for it, not even at exit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import TypeVar

_T = TypeVar("_T")

RETRY_SECONDS = 45.0
"""Seconds for which a call that fails is repeated."""

HURRY_SECONDS = 8.0
"""Seconds for which a failing call is still repeated after the request to stop or pause its trial."""

SILENT_SECONDS = 60.0
"""Seconds without any progress after which a call is given up."""

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 4.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Patience:
    """The time limit for repeating a call that fails.

    Attributes:
        seconds: seconds after the start of the first try for which a failed call is repeated; 0 for a single try.
        hurries: function that returns whether the caller must stop soon; called several times a second during a call.
    """

    seconds: float = RETRY_SECONDS
    hurries: Callable[[], bool] = lambda: False


ONCE = Patience(0.0)
"""A single try."""

BRIEF = Patience(10.0)
"""Ten seconds, for commands on the command line, whose user waits."""


class Stalled(TimeoutError):
    """The error of a call that was given up because it made no progress."""


class TransferProgress:
    """The time at which a call last transferred data."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.at = clock()

    def note(self) -> None:
        """Record that data was transferred now."""
        self.at = self._clock()


def persist(
    call: Callable[[TransferProgress], _T],
    patience: Patience,
    is_final: Callable[[Exception], bool],
    *,
    expected_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """Return the result of a call, which is repeated while it fails and ``patience`` allows.

    Args:
        call: function that makes one try; it runs in a thread, and records its progress.
        patience: time for which to repeat the call.
        is_final: function that returns whether further tries after an exception are useless.
        expected_seconds: time in seconds that a normal try may take before it records progress.
        clock: monotonic clock, in seconds.
        sleep: function that waits for a number of seconds.

    Raises:
        Exception: the exception of the last try, or one that is final.
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
            # The last try begins after the time is over, not before.  So an outage that is shorter than the time never
            # causes an error.
            if is_final(error) or began >= over_at or haste.is_over:
                raise
        failed = True
        until = min(clock() + pause, over_at)
        pause = min(2 * pause, _LONGEST_PAUSE)
        while (left := until - clock()) > 0 and not haste.is_over:
            sleep(min(left, _LOOK_SECONDS))


class _Haste:
    """A check whether `HURRY_SECONDS` have passed since the caller first had to stop."""

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
    call: Callable[[TransferProgress], _T],
    haste: _Haste,
    failed: bool,
    expected_seconds: float,
    clock: Callable[[], float],
) -> _T:
    """Make one try in a thread, and give it up if it stalls."""
    progress, done = TransferProgress(clock), Event()
    result: list[_T] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call(progress))
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            raised.append(error)
        finally:
            done.set()

    Thread(target=work, name="ashwood-storage", daemon=True).start()
    while not done.wait(_LOOK_SECONDS):
        silent = clock() - progress.at
        if silent >= SILENT_SECONDS + expected_seconds:
            raise Stalled(f"no answer for {silent:.0f} s")
        # A transfer that makes progress is not given up, no matter how long it takes.
        if haste.is_over and (failed or silent >= HURRY_SECONDS + expected_seconds):
            raise Stalled(f"no answer for {silent:.0f} s, and the trial must stop")
    if raised:
        raise raised[0]
    return result[0]
