"""Tests that decisions follow from events, trials from the seed, and promotions of SHA from results in any order."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ashwood.errors import IllegalEvent
from ashwood.experiment.decisions import ContinueTrial, CreateTrial, TrainTrial
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.vocabulary import Promoted
from ashwood.testing.search_method import search_settings
from tests.experiment.world import Process, World, make_spec, spec_of

lucks = st.randoms(use_true_random=True)


def play(
    world: World,
    luck: Random,
    *,
    slots: int,
    trouble: float = 0.0,
    loss: Callable[[Process], float] = lambda process: unit_draw(0, process.trial, process.target),
) -> None:
    """Run an experiment in a random order of events, with failures, pauses and driver crashes."""
    world.start(slots)
    while not world.experiment.over:
        if luck.random() < trouble / 10:
            crash: list[Callable[[], object]] = [world.pause, world.stop, tuple]
            luck.choice(crash)()
            world.start(luck.randint(1, slots))
            continue
        process = luck.choice(list(world.processes.values()))
        if luck.random() < trouble / 5:
            living = [trial.id for trial in world.experiment.trials.values() if not trial.ended]
            luck.choice([world.kill_trial, world.stop_trial])(luck.choice(living))
        elif luck.random() < trouble / 5:
            with suppress(IllegalEvent):  # All trials were created.
                world.add(x=luck.random(), extra=luck.random() < 0.3)
        elif luck.random() < trouble:
            troubles = [world.fail, world.fail, world.preempt, world.reject, world.give_up, world.end, world.save]
            luck.choice(troubles)(process)
        elif process.order == "release":
            world.end(process)
        else:
            world.report(process, process.target, loss=loss(process))
    world.stop()


@settings(max_examples=40)
@given(search_settings(max_trials=30), st.integers(1, 12), lucks)
def test_replay_makes_same_decisions(search: SearchSettings, slots: int, luck: Random) -> None:
    world = World(spec_of(search, seed=luck.randrange(100), max_restarts=1))
    play(world, luck, slots=slots, trouble=0.2)
    assert world.experiment.state in (ExperimentState.COMPLETED, ExperimentState.ERRORED)
    world.replay()


def trials_of(world: World) -> set[str]:
    return {json.dumps([trial.hparams, trial.seed]) for trial in world.experiment.trials.values()}


@settings(max_examples=30)
@given(search_settings(max_trials=30), lucks)
def test_same_seed_gives_same_trials_with_any_workers(search: SearchSettings, luck: Random) -> None:
    spec = spec_of(search, seed=3)
    lives = [World(spec) for _ in range(3)]
    for world, slots in zip(lives, (1, 4, 100), strict=True):
        play(world, luck, slots=slots, loss=lambda _: luck.random())
        assert len(world.experiment.trials) == search.max_trials
    assert trials_of(lives[0]) == trials_of(lives[1]) == trials_of(lives[2])


@settings(max_examples=30)
@given(
    search_settings(methods=[each for each in Method if each is not Method.GRID], max_trials=30),
    st.lists(st.floats(-1, 2), max_size=4),
    lucks,
)
def test_starting_points_change_no_other_trial(search: SearchSettings, xs: list[float], luck: Random) -> None:
    xs = xs[: search.max_trials]
    plain = spec_of(search, seed=3)
    given = replace(plain, start_with=tuple({"x": x} for x in xs))
    lives = [World(spec) for spec in (plain, given)]
    for world in lives:
        play(world, luck, slots=luck.randint(1, 9), loss=lambda _: luck.random())
        world.replay()
    created = [
        {(d.bracket, d.nth): d for _, ds in world.log for d in ds if isinstance(d, CreateTrial)} for world in lives
    ]
    assert created[0].keys() == created[1].keys()
    for at, other in created[1].items():
        drawn = created[0][at]
        assert other.seed == drawn.seed
        assert other.hparams == {**drawn.hparams, **other.given}
    assert sorted(xs) == sorted(d.given["x"] for d in created[1].values() if d.given)


@settings(max_examples=25)
@given(lucks)
def test_invalid_trials_are_replaced_by_same_trials(luck: Random) -> None:
    def live(slots: int) -> set[str]:
        world = World(make_spec(Method.ADAPTIVE_ASHA, max_trials=12, max_length=16))
        world.start(slots)
        while not world.experiment.over:
            process = luck.choice(list(world.processes.values()))
            if process.order == "release":
                world.end(process)
            elif world.experiment.trials[process.trial].hparams["x"] < 0.4:
                world.reject(process)
            else:
                world.report(process, process.target, loss=luck.random())
        assert len(world.experiment.trials) - world.invalid == 12
        return trials_of(world)

    assert live(1) == live(5) == live(50)


def test_other_seed_gives_other_trials() -> None:
    lives = [World(make_spec(Method.RANDOM, max_trials=20, seed=seed)) for seed in (0, 1)]
    for world in lives:
        play(world, Random(0), slots=4)
    assert not trials_of(lives[0]) & trials_of(lives[1])


@settings(max_examples=30)
@given(
    search=search_settings(methods=[Method.SYNC_HALVING], max_trials=40),
    failing=st.sets(st.integers(0, 39), max_size=6),
    ties=st.booleans(),
    luck=lucks,
)
def test_sync_halving_promotes_same_trials_in_any_order(
    search: SearchSettings, failing: set[int], ties: bool, luck: Random
) -> None:
    def loss(process: Process) -> float:
        drawn = unit_draw(1, process.trial, process.target)
        return float(int(drawn * 3)) if ties else drawn

    def promotions(slots: int) -> set[tuple[int, Promoted]]:
        world = World(spec_of(search, max_restarts=0))
        world.start(slots)
        while not world.experiment.over:
            process = luck.choice(list(world.processes.values()))
            if process.order == "release":
                world.end(process)
            elif process.trial in failing and process.target == min(search.max_length, 5):
                world.fail(process)
            else:
                world.report(process, process.target, loss=loss(process))
        trained = [d for _, ds in world.log for d in ds if isinstance(d, TrainTrial | ContinueTrial)]
        return {(d.trial, d.why) for d in trained if isinstance(d.why, Promoted)}

    assert promotions(1) == promotions(6) == promotions(1_000)


def test_sync_halving_numbers_are_exact() -> None:
    world = World(make_spec(Method.SYNC_HALVING, max_trials=27, max_length=9, divisor=Fraction(3), num_rungs=3))
    play(world, Random(0), slots=5)
    created = [d.trial for _, ds in world.log for d in ds if isinstance(d, CreateTrial)]
    ended = [trial.length for trial in world.experiment.trials.values()]
    assert (len(created), ended.count(1), ended.count(3), ended.count(9)) == (27, 18, 6, 3)
    best = {t for t in range(27) if world.experiment.trials[t].state is TrialState.COMPLETED}
    by_hand = sorted(range(27), key=lambda t: unit_draw(0, t, 1))[:9]
    assert best == set(sorted(by_hand, key=lambda t: unit_draw(0, t, 3))[:3])
