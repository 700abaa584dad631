"""Tests that the transitions in the table of a trial are exactly those that happen."""

from __future__ import annotations

import re
from itertools import product
from random import Random

import pytest

from ashwood.errors import IllegalEvent
from ashwood.experiment import experiment, lifecycle
from ashwood.experiment.lifecycle import TRANSITIONS, ExperimentState, Transition, TrialState, after
from tests.experiment.test_determinism import play
from tests.experiment.world import World, make_spec

ENDS = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.ERRORED, TrialState.INVALID, TrialState.KILLED)


def test_each_transition_of_the_table_happens_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[TrialState, Transition]] = set()

    def watched(state: TrialState, step: Transition) -> TrialState:
        seen.add((state, step))
        return after(state, step)

    monkeypatch.setattr(experiment, "after", watched)
    for seed in range(12):
        world = World(make_spec(max_trials=12, max_length=8, stop_once=seed % 3 == 0, max_concurrent_trials=3))
        play(world, Random(seed), slots=4, trouble=0.25)
        if any(trial.state is TrialState.ERRORED for trial in world.experiment.trials.values()):
            world.retry()
            play(world, Random(seed), slots=4)
        if any(trial.state is TrialState.COMPLETED for trial in world.experiment.trials.values()):
            world.extend(max_length=16)
    # By older rules a whole experiment can fail while trials train.
    world = World(make_spec(max_trials=2, max_concurrent_trials=2, rules=2))
    world.start(2)
    while not world.experiment.over:
        world.reject(world.processes[max(world.processes)])
    world.stop()
    world.retry()
    assert seen == set(TRANSITIONS)


@pytest.mark.parametrize(("state", "step"), sorted(set(product(TrialState, Transition)) - set(TRANSITIONS)))
def test_step_that_is_not_in_the_table_is_illegal(state: TrialState, step: Transition) -> None:
    with pytest.raises(IllegalEvent, match=f"a trial that is {state} can't take the step '{re.escape(step)}'"):
        after(state, step)


def test_every_state_is_reached_and_the_ends_are_final_unless_trials_are_reopened() -> None:
    assert {TrialState.RUNNING, *TRANSITIONS.values()} == set(TrialState)
    retries = (Transition.REOPENED, Transition.CONTINUED)
    assert not {state for state, step in TRANSITIONS if step not in retries} & set(ENDS)


def test_diagram_shows_each_step_of_the_table() -> None:
    assert lifecycle.__doc__ is not None
    pictured = re.sub(r"[^a-z_ ]+", " ", lifecycle.__doc__)
    for step in ("promoted", "paused at a rung", "bracket finished", "continued at once", "retried",
                 "reached max_length", "stopped early", "failed too often", "declared invalid", "killed by a user",
                 "reopened", "continued with the experiment"):  # fmt: skip
        assert step in pictured
        assert Transition(step) in {step for _, step in TRANSITIONS}
    assert len(Transition) == 12


def test_three_states_end_an_experiment() -> None:
    ended = {state for state in ExperimentState if state.ended}
    assert ended == {ExperimentState.COMPLETED, ExperimentState.ERRORED, ExperimentState.CANCELED}
    assert not {state for state in ended if state.active}
