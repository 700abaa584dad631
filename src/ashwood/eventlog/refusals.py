"""What every store says to a driver that isn't, or is no longer, the owner of an experiment."""

from __future__ import annotations

from ashwood.errors import EventLogError, ExperimentBusy, LeaseLost
from ashwood.eventlog.port import ExperimentId, LeaseState, Seq


def busy(owner: LeaseState | None) -> ExperimentBusy:
    """Somebody else owns the experiment; ``owner`` is None where they let go a moment ago."""
    who = f" ({owner.driver})" if owner else ""
    return ExperimentBusy(f"another ashwood{who} is running this experiment")


def lost(experiment: ExperimentId, owner: LeaseState | None) -> LeaseLost:
    """This driver owned the experiment, and another has taken it over, or it was released or deleted."""
    who = f"another ashwood ({owner.driver}) has taken it over" if owner else "it was released or deleted"
    return LeaseLost(f"this ashwood doesn't own experiment {experiment} any more: {who}; nothing was recorded")


def moved_on(experiment: ExperimentId, last: Seq) -> EventLogError:
    """The log is longer, or shorter, than its writer knows."""
    return EventLogError(
        f"the log of experiment {experiment} doesn't end with entry {last} any more: another process has added to it; "
        "nothing was recorded"
    )
