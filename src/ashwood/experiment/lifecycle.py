"""The states of experiments and trials, what users may request in each, and the transitions of a trial.

::

                             resumed
                    ┌────────────────────────┐
                    ▼                        │
    created ──► running ──► pausing ──► paused
                  │  │
                  │  └────► stopping ──► stopped (may be resumed) or canceled
                  └───────► completed or errored ──► paused, to retry failed trials or to extend the search

::

                        ┌────────── promoted ──────────┐
                        ▼                              │
    (created) ──────► running ── paused at a rung ──► paused ── bracket finished ──► stopped
                        │ ▲ │                          │
    continued at once,  └─┘ ├── reached max_length ──► completed
    retried                 ├── stopped early ───────► stopped (also while it is paused)
                            ├── failed too often ────► errored
                            ├── declared invalid ────► invalid
                            └── killed by a user ────► killed (also while it is paused)

    errored, or stopped with its bracket, or completed before the search was extended ── reopened ──► paused
    stopped with the experiment ── continued with the experiment ──► running

"Stopped early" has three causes: the search, the training code (``trial.stop()``), and the user or a limit.
"""

from __future__ import annotations

from enum import StrEnum

from ashwood.errors import IllegalEvent


class ExperimentState(StrEnum):
    """The state of an experiment."""

    CREATED = "created"
    RUNNING = "running"
    PAUSING = "pausing"
    """Running trials save and release their slots; then the experiment is paused."""
    PAUSED = "paused"
    STOPPING = "stopping"
    """Running trials save and release their slots; then the experiment is stopped or canceled."""
    STOPPED = "stopped"
    """It reached its goal or its time limit; it can be resumed with a better goal or a higher limit."""
    CANCELED = "canceled"
    COMPLETED = "completed"
    ERRORED = "errored"

    @property
    def ended(self) -> bool:
        """Whether the experiment has ended for good, unless a user retries its failed trials or extends its search."""
        return self in (ExperimentState.COMPLETED, ExperimentState.ERRORED, ExperimentState.CANCELED)

    @property
    def active(self) -> bool:
        """Whether a driver runs the experiment, or has died while it ran the experiment."""
        return self in (ExperimentState.RUNNING, ExperimentState.PAUSING, ExperimentState.STOPPING)


class Action(StrEnum):
    """A change of an experiment that a user requests, by its name in the HTTP API."""

    PAUSE = "pause"
    ACTIVATE = "activate"
    """Resume it with a new driver."""
    CANCEL = "cancel"
    KILL = "kill"
    SET = "set"
    """Change its settings."""
    RETRY_FAILED = "retry_failed"
    ADD_TRIAL = "add_trial"
    EXTEND = "extend"
    """Add trials, or a greater length, to its search."""


_NOT_ENDED = frozenset(state for state in ExperimentState if not state.ended)

ALLOWED: dict[Action, frozenset[ExperimentState]] = {
    Action.PAUSE: frozenset({ExperimentState.RUNNING}),
    Action.ACTIVATE: frozenset({ExperimentState.CREATED, ExperimentState.PAUSED, ExperimentState.STOPPED}),
    Action.CANCEL: _NOT_ENDED,
    Action.KILL: _NOT_ENDED,
    Action.SET: _NOT_ENDED,
    Action.RETRY_FAILED: frozenset(ExperimentState) - {ExperimentState.CANCELED},
    Action.ADD_TRIAL: _NOT_ENDED,
    Action.EXTEND: _NOT_ENDED | {ExperimentState.COMPLETED},
}
"""The states in which each action is possible.  The experiment, the commands and the dashboard use this table."""


def allowed_actions(state: ExperimentState, *, interrupted: bool = False) -> frozenset[Action]:
    """Return the actions that are possible in a state.

    If the experiment is interrupted, its driver died in an active state, so a new driver can resume it.
    """
    allowed = {action for action, states in ALLOWED.items() if state in states}
    return frozenset(allowed | ({Action.ACTIVATE} if interrupted else set()))


class TrialState(StrEnum):
    """The state of a trial."""

    RUNNING = "running"
    """It has a job: a process trains it, or will when a slot is free."""
    PAUSED = "paused"
    """It is paused at a rung and may be promoted, or it failed and is retried when a worker is free."""
    COMPLETED = "completed"
    STOPPED = "stopped"
    ERRORED = "errored"
    INVALID = "invalid"
    KILLED = "killed"
    """Ended by a user; it counts as the worst in its rung."""

    @property
    def ended(self) -> bool:
        """Whether the trial has ended, so that it trains again only if it is reopened on request."""
        return self not in (TrialState.RUNNING, TrialState.PAUSED)


class Transition(StrEnum):
    """A transition of a trial from one state to another or to the same one."""

    CONTINUED_AT_ONCE = "continued at once"
    RETRIED = "retried"
    WAITS = "paused at a rung"
    PROMOTED = "promoted"
    REACHED_END = "reached max_length"
    DROPPED = "stopped early"
    CLOSED = "bracket finished"
    GAVE_UP = "failed too often"
    INVALID = "declared invalid"
    KILLED = "killed by a user"
    REOPENED = "reopened"
    CONTINUED = "continued with the experiment"


TRANSITIONS: dict[tuple[TrialState, Transition], TrialState] = {
    (TrialState.RUNNING, Transition.CONTINUED_AT_ONCE): TrialState.RUNNING,
    (TrialState.RUNNING, Transition.RETRIED): TrialState.RUNNING,
    (TrialState.RUNNING, Transition.WAITS): TrialState.PAUSED,
    (TrialState.RUNNING, Transition.REACHED_END): TrialState.COMPLETED,
    (TrialState.RUNNING, Transition.DROPPED): TrialState.STOPPED,
    (TrialState.RUNNING, Transition.GAVE_UP): TrialState.ERRORED,
    (TrialState.RUNNING, Transition.INVALID): TrialState.INVALID,
    (TrialState.RUNNING, Transition.KILLED): TrialState.KILLED,
    (TrialState.PAUSED, Transition.PROMOTED): TrialState.RUNNING,
    (TrialState.PAUSED, Transition.DROPPED): TrialState.STOPPED,
    (TrialState.PAUSED, Transition.KILLED): TrialState.KILLED,
    (TrialState.PAUSED, Transition.CLOSED): TrialState.STOPPED,
    (TrialState.ERRORED, Transition.REOPENED): TrialState.PAUSED,
    (TrialState.STOPPED, Transition.REOPENED): TrialState.PAUSED,
    (TrialState.COMPLETED, Transition.REOPENED): TrialState.PAUSED,
    (TrialState.STOPPED, Transition.CONTINUED): TrialState.RUNNING,
}


def after(state: TrialState, step: Transition) -> TrialState:
    """Return the state of a trial after a step.

    Raises:
        IllegalEvent: the step is not possible in this state.
    """
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise IllegalEvent(f"a trial that is {state} can't take the step '{step}'") from None
