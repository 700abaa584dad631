"""Leases: at most one driver owns an experiment, and renews its lease with heartbeats.

A process that wants to drive an experiment looks at the present owner:

- there is none: the lease is taken;
- its process was on this machine and has ended: the lease is taken over at once;
- its process on this machine is alive and its last heartbeat is recent: the experiment is busy;
- otherwise its heartbeat is watched for up to ``stale_after`` seconds: if there is a new one, the experiment is busy,
  if not, the lease is taken over.

Taking over is a compare-and-swap in the store, so only one of several processes succeeds.  A former owner that was only
suspended has an old token when it wakes up, so the store rejects what it appends.

Clocks of two machines are never compared.  The age of the last heartbeat is measured by the wall clock, which may jump,
but it decides only whether to watch the owner.  So a wrong age costs at most ``stale_after`` seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ashwood.errors import EventLogError
from ashwood.eventlog.driver import is_alive, this_driver
from ashwood.eventlog.port import ExperimentId, LeaseState, Store, Token
from ashwood.eventlog.refusals import busy

STALE_AFTER = 15.0
"""Seconds without a heartbeat after which a driver on another machine is considered dead."""

_BEATS = 5
"""Number of heartbeats of a driver in ``stale_after`` seconds."""

_POLLS = 30
"""How often the heartbeat of another driver is read in ``stale_after`` seconds."""


class Lease:
    """Ownership of an experiment until `release` or the end of the context; call `beat` to keep it.

    Attributes:
        token: fencing token; a log that is opened with it rejects entries once the lease is lost.
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
        """Record a heartbeat if the last one is at least ``stale_after / 5`` seconds old.

        Call it several times in that period; it is cheap.

        Raises:
            LeaseLost: this driver does not own the experiment any more.
        """
        now = self._clock()
        if now >= self._due:
            self._store.beat(self._experiment, self.token)
            self._due = now + self._period

    def release(self) -> None:
        """Give the lease back.  Idempotent."""
        if self._held:
            self._held = False
            # An error of the store, such as a full disk, must not hide why the driver ends.  The lease may stay: the
            # next driver finds that this process is dead, or that its heartbeat has stopped.
            with contextlib.suppress(EventLogError):
                self._store.release_lease(self._experiment, self.token)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # The store has already retried for up to a minute.  Without `hurry`, releasing the lease would wait as long.
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
    """Take the lease of an experiment, which takes up to ``stale_after`` seconds if its owner may be dead.

    Raises:
        ExperimentBusy: another driver owns the experiment.
        NotFound: there is no such experiment.
    """
    owner = store.lease(experiment)
    if owner is not None:
        if is_alive(owner.driver) and 0 <= owner.idle < stale_after:
            raise busy(owner)
        _wait_for_end(store, experiment, owner, stale_after, clock, sleep)
    token = store.take_lease(experiment, this_driver(), over=owner)
    return Lease(store, experiment, token, stale_after=stale_after, clock=clock)


def is_driven(store: Store, experiment: ExperimentId, *, stale_after: float = STALE_AFTER) -> bool:
    """Return whether an experiment seems to have a driver, without watching its heartbeat; for lists."""
    owner = store.lease(experiment)
    if owner is None:
        return False
    alive = is_alive(owner.driver)
    return owner.idle < stale_after if alive is None else alive


def _wait_for_end(
    store: Store,
    experiment: ExperimentId,
    owner: LeaseState,
    stale_after: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Wait until the owner is considered dead or has released its lease.

    Raises:
        ExperimentBusy: there is a new heartbeat or a new owner.
    """
    deadline = clock() + stale_after
    while is_alive(owner.driver) is not False and clock() < deadline:
        sleep(stale_after / _POLLS)
        now = store.lease(experiment)
        if now is None:
            return
        if (now.token, now.beat) != (owner.token, owner.beat):
            raise busy(now)
