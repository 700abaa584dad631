"""Errors of a driver that does not own an experiment, the same for all stores."""

from __future__ import annotations

from ashwood.errors import EventLogError, ExperimentBusy, LeaseLost
from ashwood.eventlog.port import ExperimentId, LeaseState, Seq


def busy(owner: LeaseState | None) -> ExperimentBusy:
    """Return the error of a driver that cannot take a lease, because another driver owns the experiment.

    ``owner`` is None if the other driver has released the lease since.
    """
    name = f" ({owner.driver})" if owner else ""
    return ExperimentBusy(f"another ashwood{name} is running this experiment")


def lost(experiment: ExperimentId, owner: LeaseState | None) -> LeaseLost:
    """Return the error of a driver that has lost its lease.

    ``owner`` is the present owner, or None if the lease was released or the experiment was deleted.
    """
    cause = f"another ashwood ({owner.driver}) has taken it over" if owner else "it was released or deleted"
    return LeaseLost(f"this ashwood does not own experiment {experiment} any more: {cause}; nothing was recorded")


def moved_on(experiment: ExperimentId, last: Seq) -> EventLogError:
    """Return the error of a log whose last entry is not ``last``, as its writer assumed."""
    return EventLogError(
        f"the log of experiment {experiment} does not end with entry {last} any more: another process has added to "
        "it; nothing was recorded"
    )
