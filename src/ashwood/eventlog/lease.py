"""Two drivers never own one experiment: a lease in the store, with a heartbeat.

Who wants to drive looks at who does:

| the owner | what happens |
|---|---|
| nobody | taken |
| its process is dead, on this machine | taken over at once |
| its process lives on this machine, and gave a sign of life of late | busy |
| silent, or on another machine | its heartbeat is watched: it moves: busy; it doesn't for so long: taken over |

Taking over is a compare-and-swap in the store, so of several one wins; and a driver that was only asleep finds its
token worthless when it wakes up: nothing that it appends is added.  No clocks of two machines are compared.  The wall
clock, which may jump, settles only whether to watch at all; so the worst that it can do is to cost time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import TracebackType

from ashwood.errors import EventLogError
from ashwood.eventlog.driver import is_alive, this_driver
from ashwood.eventlog.port import ExperimentId, LeaseState, Store, Token
from ashwood.eventlog.refusals import busy

STALE_AFTER = 15.0
"""Seconds without a heartbeat after which a driver that can't be seen is taken for dead."""

_BEATS = 5
_LOOKS = 30


class Lease:
    """The right to drive an experiment, until `release` or the end of the context; keep it by calling `beat`.

    Attributes:
        token: opens the log so that nothing can be appended once the lease is lost.
    """

    def __init__(
        self,
        store: Store,
        experiment: ExperimentId,
        token: Token,
        *,
        stale_after: float = STALE_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.token = token
        self._store = store
        self._experiment = experiment
        self._period = stale_after / _BEATS
        self._clock = clock
        self._due = clock() + self._period
        self._held = True

    def beat(self) -> None:
        """Give a sign of life, if one is due: cheap, to be called several times in ``stale_after / 5`` seconds.

        Raises:
            LeaseLost: another driver owns the experiment now.
        """
        now = self._clock()
        if now >= self._due:
            self._store.beat(self._experiment, self.token)
            self._due = now + self._period

    def release(self) -> None:
        """Let go of it.  Idempotent."""
        if self._held:
            self._held = False
            # A store that can't be written (its disk is full) mustn't hide why the driver ends: the next one will
            # find that this process is dead.
            with contextlib.suppress(EventLogError):
                self._store.release_lease(self._experiment, self.token)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What the store could not do for a minute, it is not given another minute for.
        if isinstance(error, EventLogError):
            self._store.hurry()
        self.release()


def take_lease(
    store: Store,
    experiment: ExperimentId,
    *,
    stale_after: float = STALE_AFTER,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease:
    """Become the driver of an experiment; takes up to ``stale_after`` seconds where the last one may be dead.

    Raises:
        ExperimentBusy: another driver lives.
        NotFound: there is no such experiment.
    """
    owner = store.lease(experiment)
    if owner is not None:
        if is_alive(owner.driver) and 0 <= owner.idle < stale_after:
            raise busy(owner)
        _watch(store, experiment, owner, stale_after, clock, sleep)
    token = store.take_lease(experiment, this_driver(), over=owner)
    return Lease(store, experiment, token, stale_after=stale_after, clock=clock)


def is_driven(store: Store, experiment: ExperimentId, *, stale_after: float = STALE_AFTER) -> bool:
    """Whether somebody drives an experiment, as far as can be told at a glance: for lists."""
    owner = store.lease(experiment)
    if owner is None:
        return False
    alive = is_alive(owner.driver)
    return owner.idle < stale_after if alive is None else alive


def _watch(
    store: Store,
    experiment: ExperimentId,
    owner: LeaseState,
    stale_after: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Return when the owner is taken for dead, or has let go.

    Raises:
        ExperimentBusy: it lives.
    """
    give_up_at = clock() + stale_after
    while is_alive(owner.driver) is not False and clock() < give_up_at:
        sleep(stale_after / _LOOKS)
        now = store.lease(experiment)
        if now is None:
            return
        if (now.token, now.beat) != (owner.token, owner.beat):
            raise busy(now)
