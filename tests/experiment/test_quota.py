"""Tests that checkpoints are deleted to keep max_size, in an order that costs the search least."""

from __future__ import annotations

from itertools import islice
from math import comb
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.decisions import Decision, DeleteCheckpoint, OverQuota, TrainTrial, Warn
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.quota import _excess
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.testing.search_method import search_settings
from tests.experiment.conftest import Begin
from tests.experiment.world import World, spec_of


def finish(world: World, trial: int, loss: float) -> tuple[Decision, ...]:
    """Let a trial reach its target, save and release its worker, and return the decisions at its checkpoint."""
    process = world.processes[trial]
    world.report(process, process.target, loss=loss)
    deleted = world.save(process)
    if world.processes.get(trial) is process and process.order == "release":
        world.end(process)
    return deleted


def deleted_by(decisions: tuple[Decision, ...]) -> list[int]:
    return [each.trial for each in decisions if isinstance(each, DeleteCheckpoint) and each.why is not None]


def kept(world: World) -> list[int]:
    return sorted(checkpoint.trial for checkpoint in world.experiment.checkpoints)


def test_worst_paused_trial_loses_its_checkpoint_first(begin: Begin) -> None:
    world = begin(slots=1, max_trials=8, divisor=4, max_length=4, max_size=25)
    assert deleted_by(finish(world, 0, 0.5)) == []
    assert deleted_by(finish(world, 1, 0.9)) == []
    assert finish(world, 2, 0.1) == (DeleteCheckpoint(1, "trial-1/length-1-attempt-1", OverQuota(30, 25, 0, 3, 3, 2)),)
    assert kept(world) == [0, 2]
    assert world.experiment.trials[1].checkpoint is None


def test_reason_of_deletion_is_a_sentence() -> None:
    assert str(OverQuota(30_000_000, 25_000_000, 0, 3, 8, 2)) == (
        "checkpoints exceed max_size (25.0 MB) by 5.0 MB; rank 3 of 8 at rung 0, the best 2 are expected to be promoted"
    )
    assert str(OverQuota(30_000_000, 25_000_000)).endswith("; the search does not need this one")


def test_checkpoints_that_the_search_does_not_need_go_before_those_of_paused_trials(begin: Begin) -> None:
    policy = CheckpointPolicy(save_trial_latest=2)
    world = begin(slots=3, max_trials=8, divisor=2, max_length=4, max_size=40, checkpoint_policy=policy)
    running, killed, best = (world.processes[trial] for trial in range(3))
    world.report(best, 1, loss=0.1)
    world.save(best)
    world.report(killed, 1, loss=0.6)
    world.save(killed)
    world.kill_trial(1)
    for length in (1, 2):
        world.report(running, length, loss=0.5)
        world.save(running)
    assert kept(world) == [0, 0, 1, 2]
    process = world.processes[3]
    world.report(process, 1, loss=0.4)
    assert deleted_by(world.save(process)) == [0], "it has a later checkpoint"
    world.report(process, 2, loss=0.4)
    assert deleted_by(world.save(process)) == [3], "it has a later checkpoint, too"
    assert deleted_by(finish(world, 4, 0.9)) == [1], "it was killed"


def test_checkpoint_of_trial_with_no_chance_goes_before_that_of_a_completed_one(begin: Begin) -> None:
    policy = CheckpointPolicy()
    world = begin(slots=1, max_trials=8, divisor=2, max_length=2, max_size=30, checkpoint_policy=policy)
    finish(world, 0, 0.4)
    finish(world, 1, 0.3)
    finish(world, 1, 0.3)
    assert world.experiment.trials[1].state is TrialState.COMPLETED
    assert deleted_by(finish(world, 2, 0.1)) == []
    assert deleted_by(finish(world, 2, 0.1)) == [], "its checkpoint replaces the former one"
    assert kept(world) == [0, 1, 2]
    assert deleted_by(finish(world, 3, 0.5)) == [1], "every paused trial may still be promoted"


def test_trial_promoted_without_its_checkpoint_starts_again_and_the_cost_is_counted(begin: Begin) -> None:
    world = begin(slots=1, max_trials=4, divisor=2, max_length=2, num_rungs=2, max_size=10)
    finish(world, 0, 0.5)
    assert deleted_by(finish(world, 1, 0.1)) == [0]
    finish(world, 1, 0.1)  # It is promoted and completed.
    assert deleted_by(finish(world, 2, 0.4)) == [2], "only the best trial keeps its checkpoint"
    decisions = world.report(world.processes[3], 1, loss=0.9)
    (again,) = [decision for decision in decisions if isinstance(decision, TrainTrial)]
    assert (again.trial, again.target, again.repeats) == (2, 2, 1)
    warning = world.begin(world.processes[2])
    assert warning == (
        Warn(
            "trial 2 repeats 1 steps of training from 0 on, because its checkpoint was deleted to keep "
            "checkpoint_storage.max_size. A larger max_size avoids that"
        ),
    )
    retried = world.fail(world.processes[2])
    assert [decision.repeats for decision in retried if isinstance(decision, TrainTrial)] == [0], "counted once"


def test_checkpoints_that_must_stay_cause_one_warning(begin: Begin) -> None:
    world = begin(slots=3, max_trials=3, method="random", max_length=4, max_size=15)
    warnings = []
    for length in (1, 2):
        for trial in range(3):
            world.report(world.processes[trial], length, loss=0.1 * trial)
            warnings += [decision for decision in world.save(world.processes[trial]) if isinstance(decision, Warn)]
    assert [str(warning.message) for warning in warnings] == [
        "the checkpoints take 20 B, more than checkpoint_storage.max_size (15 B), and none can be deleted: they are "
        "the latest ones of running trials and those of the best trial. Training continues"
    ]


def test_max_size_can_be_set_and_removed_while_the_experiment_runs(begin: Begin) -> None:
    world = begin(slots=1, max_trials=8, divisor=4, max_length=4)
    for trial, loss in enumerate([0.1, 0.5, 0.4]):
        finish(world, trial, loss)
    decisions = world.set(max_size=20)
    assert deleted_by(decisions) == [1]
    assert world.set(max_size=None)[0].max_size is None  # type: ignore[union-attr]
    assert deleted_by(finish(world, 3, 0.9)) == []
    assert kept(world) == [0, 2, 3]


def test_checkpoints_of_unknown_size_are_not_deleted(begin: Begin) -> None:
    world = begin(slots=2, max_trials=8, divisor=4, max_length=4)
    for trial, loss in enumerate([0.1, 0.5]):
        process = world.processes[trial]
        world.report(process, process.target, loss=loss)
        world.save(process, size=None)
    assert deleted_by(world.set(max_size=5)) == []


@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 30))
def test_order_of_paused_trials_agrees_with_chances_of_promotion(of: int, further: int, best: int) -> None:
    for rank in range(1, of + 1):
        is_beyond, excess = rank > best, _excess(rank, of, of + further, best)
        # Exactly j of the further results are better in this many of all orders.
        orders = (comb(rank - 1 + j, j) * comb(of - rank + further - j, further - j) for j in range(further + 1))
        chance = sum(islice(orders, max(0, best - rank + 1))) / comb(of + further, further)
        assert chance == 0 if is_beyond else (excess > -0.5 or chance > 0.5) and (excess < 0.5 or chance < 0.5)


@given(
    settings=search_settings(max_trials=20),
    size=st.integers(1, 150),
    slots=st.integers(1, 4),
    seed=st.integers(0, 1_000),
)
def test_search_decides_the_same_with_and_without_max_size(settings: Any, size: int, slots: int, seed: int) -> None:
    worlds = [World(spec_of(settings, checkpoint_policy=CheckpointPolicy(), max_size=each)) for each in (None, size)]
    for world in worlds:
        world.start(slots)
        luck = Random(seed)
        while world.processes and not world.experiment.over:
            process = luck.choice(list(world.processes.values()))
            if process.order == "train":
                world.report(process, process.target, loss=luck.random())
            else:
                check_order(world, world.save(process))
                world.end(process)
        for bracket in world.experiment.search.brackets:
            if not settings.stop_once:
                assert bracket.expected_results() == [len(rung) for rung in bracket.rungs]
        world.replay()
    plain, limited = ([_without_repeats(each) for _, each in world.log] for world in worlds)
    assert plain == limited


def check_order(world: World, decisions: tuple[Decision, ...]) -> None:
    """Check that no paused trial keeps its checkpoint while a better one at the same rung loses its own."""
    experiment = world.experiment
    for decision in decisions:
        if isinstance(decision, DeleteCheckpoint) and decision.why is not None and decision.why.rung is not None:
            number, _ = experiment.search.address(decision.trial)
            rung = experiment.search.brackets[number].rungs[decision.why.rung]
            best = experiment.checkpoints.best
            paused = {each.trial for each in experiment.checkpoints if rung.waits(each.trial)} - {best}
            assert all(
                rung.rank(trial) < decision.why.rank
                for trial in paused
                if experiment.trials[trial].state is TrialState.PAUSED
            )


def _without_repeats(decisions: tuple[Decision, ...]) -> list[Decision]:
    others = [each for each in decisions if not isinstance(each, DeleteCheckpoint | Warn)]
    return [each._replace(repeats=0) if isinstance(each, TrainTrial) else each for each in others]
