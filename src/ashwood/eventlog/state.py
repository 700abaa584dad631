"""An experiment's state as its latest entries tell it, for the lists that stores keep."""

from __future__ import annotations

from collections.abc import Sequence

from ashwood.eventlog.port import Entry
from ashwood.experiment.decisions import EndExperiment
from ashwood.experiment.events import DriverStarted, DriverStopped, PauseRequested
from ashwood.experiment.lifecycle import ExperimentState


def state_after(entries: Sequence[Entry]) -> ExperimentState | None:
    """The state that the last of these entries to change it leads to; None: none changes it."""
    for entry in reversed(entries):
        match entry.event:
            case DriverStopped():
                return next(decision.state for decision in entry.decisions if isinstance(decision, EndExperiment))
            case DriverStarted():
                return ExperimentState.RUNNING
            case PauseRequested():
                return ExperimentState.PAUSING
    return None
