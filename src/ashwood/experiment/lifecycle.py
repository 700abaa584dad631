"""The states of experiments and trials, and the table of a trial's life.

::

                             resumed
                    ┌────────────────────────┐
                    ▼                        │
    created ──► running ──► pausing ──► paused
                  │  │
                  │  └────► stopping ──► stopped (may be resumed) or canceled
                  └───────► completed or errored ──► paused, to retry failed trials

::

                    ┌────────── promoted ──────────┐
                    ▼                              │
    (created) ──► running ── waits at a rung ──► paused ── bracket finished ──► stopped
                    │ ▲ │                          │
          goes on,  └─┘ ├── reached max_length ──► completed
          retried       ├── dropped, stop() ─────► stopped
                        ├── failed too often ────► errored
                        ├── rejected ────────────► invalid
                        └── killed by a user ────► killed (also while it is paused)

    errored, or stopped with its bracket ── reopened ──► paused
    stopped with the experiment ── continued ──► running
"""

from __future__ import annotations

from enum import StrEnum

from ashwood.errors import IllegalEvent


class ExperimentState(StrEnum):
    """Where an experiment stands."""

    CREATED = "created"
    RUNNING = "running"
    PAUSING = "pausing"
    """Running trials save and let go; then it is paused."""
    PAUSED = "paused"
    STOPPING = "stopping"
    """Running trials save and let go; then it is stopped or canceled."""
    STOPPED = "stopped"
    """It reached what its user wanted of it; with a higher bound it can be resumed."""
    CANCELED = "canceled"
    COMPLETED = "completed"
    ERRORED = "errored"

    @property
    def ended(self) -> bool:
        """Nothing more can happen, except that failed trials are retried on request."""
        return self in (ExperimentState.COMPLETED, ExperimentState.ERRORED, ExperimentState.CANCELED)

    @property
    def active(self) -> bool:
        """A driver works on it, or died while it did."""
        return self in (ExperimentState.RUNNING, ExperimentState.PAUSING, ExperimentState.STOPPING)


class TrialState(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"
    """It has a job: a process works on it, or will as soon as a slot is free."""
    PAUSED = "paused"
    """It waits at a rung, and may be promoted; or it failed, and waits for a worker to be tried again."""
    COMPLETED = "completed"
    STOPPED = "stopped"
    ERRORED = "errored"
    INVALID = "invalid"
    KILLED = "killed"
    """By its user; it counts as the worst in its rung."""


class Step(StrEnum):
    """What can happen to a trial."""

    GOES_ON = "goes on"
    RETRIED = "retried"
    WAITS = "waits at a rung"
    PROMOTED = "promoted"
    REACHED_END = "reached max_length"
    DROPPED = "dropped"
    CLOSED = "bracket finished"
    GAVE_UP = "failed too often"
    REJECTED = "rejected"
    KILLED = "killed by a user"
    REOPENED = "reopened"
    CONTINUED = "continued"


TRANSITIONS: dict[tuple[TrialState, Step], TrialState] = {
    (TrialState.RUNNING, Step.GOES_ON): TrialState.RUNNING,
    (TrialState.RUNNING, Step.RETRIED): TrialState.RUNNING,
    (TrialState.RUNNING, Step.WAITS): TrialState.PAUSED,
    (TrialState.RUNNING, Step.REACHED_END): TrialState.COMPLETED,
    (TrialState.RUNNING, Step.DROPPED): TrialState.STOPPED,
    (TrialState.RUNNING, Step.GAVE_UP): TrialState.ERRORED,
    (TrialState.RUNNING, Step.REJECTED): TrialState.INVALID,
    (TrialState.RUNNING, Step.KILLED): TrialState.KILLED,
    (TrialState.PAUSED, Step.PROMOTED): TrialState.RUNNING,
    (TrialState.PAUSED, Step.DROPPED): TrialState.STOPPED,
    (TrialState.PAUSED, Step.KILLED): TrialState.KILLED,
    (TrialState.PAUSED, Step.CLOSED): TrialState.STOPPED,
    (TrialState.ERRORED, Step.REOPENED): TrialState.PAUSED,
    (TrialState.STOPPED, Step.REOPENED): TrialState.PAUSED,
    (TrialState.STOPPED, Step.CONTINUED): TrialState.RUNNING,
}


def after(state: TrialState, step: Step) -> TrialState:
    """The state that a step leads to.

    Raises:
        IllegalEvent: no such step from this state.
    """
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise IllegalEvent(f"a trial that is {state} can't be: {step}") from None
