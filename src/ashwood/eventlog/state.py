"""The state of an experiment according to its latest entries; stores save it for lists of experiments."""

from __future__ import annotations

from collections.abc import Sequence

from ashwood.experiment.decisions import EndExperiment, LeaveExperiment
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import DriverStarted, PauseRequested
from ashwood.experiment.lifecycle import ExperimentState


def state_after(entries: Sequence[Entry]) -> ExperimentState | None:
    """Return the state that an experiment has after these entries, or None if none of them changes its state."""
    return next((state for entry in reversed(entries) if (state := _state_after(entry)) is not None), None)


def _state_after(entry: Entry) -> ExperimentState | None:
    for decision in reversed(entry.decisions):
        if isinstance(decision, EndExperiment):
            return decision.state
        if isinstance(decision, LeaveExperiment):
            pauses = decision.state is ExperimentState.PAUSED
            return ExperimentState.PAUSING if pauses else ExperimentState.STOPPING
    match entry.event:
        case DriverStarted():
            return ExperimentState.RUNNING
        case PauseRequested():  # Version 1 recorded no `LeaveExperiment` decision for it.
            return ExperimentState.PAUSING
    return None
