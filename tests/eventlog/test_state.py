"""State of an experiment after its latest entries."""

import pytest

from ashwood.eventlog.state import state_after
from ashwood.experiment.decisions import Asked, Decision, EndExperiment, LeaveExperiment
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    CancelRequested,
    DriverStarted,
    DriverStopped,
    Event,
    PauseRequested,
    TimeRanOut,
)
from ashwood.experiment.lifecycle import ExperimentState as S


def leave(state: S) -> LeaveExperiment:
    return LeaveExperiment(state, Asked("it"))


@pytest.mark.parametrize(
    ("event", "decisions", "state"),
    [
        (DriverStarted(1), (), S.RUNNING),
        (PauseRequested(), (), S.PAUSING),  # As in version 1.
        (PauseRequested(), (leave(S.PAUSED),), S.PAUSING),
        (TimeRanOut(1.0), (leave(S.STOPPED),), S.STOPPING),
        (CancelRequested(), (leave(S.CANCELED),), S.STOPPING),
        (CancelRequested(), (leave(S.CANCELED), EndExperiment(S.CANCELED, "")), S.CANCELED),
        (DriverStopped(), (EndExperiment(S.STOPPED, ""),), S.STOPPED),
        (DriverStopped(), (), None),
    ],
)
def test_state_after_returns_latest_state_or_none(
    event: Event, decisions: tuple[Decision, ...], state: S | None
) -> None:
    entry = Entry(1.0, event, decisions)
    assert state_after([entry]) == state
    assert state_after([entry, Entry(2.0, DriverStopped(), ())]) == state
    assert state_after([entry, Entry(2.0, DriverStarted(1), ())]) == S.RUNNING
    assert state_after([]) is None
