"""The simulated backend: each attempt takes one slot and ends exactly once, at the right time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ashwood.backends.port import Abort, Backend, Command, ContinueAttempt, Finish, StartAttempt, Suspend
from ashwood.backends.simulated import SimulatedBackend
from ashwood.errors import BackendError
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    Event,
    FinalEvent,
    ValidationReported,
)
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.costs import NO_COSTS, NO_FAULTS, Costs, Faults, Workers
from ashwood.forecast.training import Exchangeable, Setting, Trained
from ashwood.testing.backend import BackendContract, drive, endless, finish, job, reported, say_nothing, toy_spec

SPEC = toy_spec(Path("nowhere"))


class Toy:
    """A model of `ashwood.testing.training`."""

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        return Trained((end - begin) * setting.hparams.get("seconds", 0.0), 1 / end)


class TestContract(BackendContract):
    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        return SimulatedBackend(spec, Toy(), 2, period=1)


def simulated(
    workers: Workers | int = 2, *, seconds: float = 1.0, spread: float = 1.0, **options: Any
) -> SimulatedBackend:
    """Return a backend whose trials take about a second for each step."""
    return SimulatedBackend(SPEC, Exchangeable(unit_seconds=seconds, spread=spread), workers, **options)


def course(backend: SimulatedBackend, starts: Sequence[StartAttempt], answer: Any = finish) -> list[tuple[float, str]]:
    """Return the time and kind of each event until all attempts have ended."""
    events: list[tuple[float, str]] = []
    left = len(starts)
    backend.dispatch(starts)
    while left:
        for event in backend.next_events(None):
            events.append((backend.clock(), type(event).__name__))
            if isinstance(event, ValidationReported) and (command := answer(event)) is not None:
                backend.dispatch([command])
            left -= isinstance(event, FinalEvent)
    return events


# -- durations -----------------------------------------------------------------------------------


def test_new_trial_takes_time_to_start_train_and_save() -> None:
    backend = simulated(costs=Costs(start=5.0, restore=2.0, save=0.5))
    assert course(backend, [job(target=3)]) == [
        (0.0, "AttemptStarted"),
        (8.0, "ValidationReported"),
        (8.5, "CheckpointSaved"),
        (8.5, "AttemptEnded"),
    ]


def test_resumed_trial_takes_time_to_restore_and_to_train_the_rest() -> None:
    backend = simulated(costs=Costs(start=5.0, restore=2.0))
    assert course(backend, [job(target=4, length=1, attempt=2, checkpoint="x")])[1] == (10.0, "ValidationReported")


def test_continued_attempt_takes_time_for_training_alone() -> None:
    backend = simulated(costs=Costs(start=5.0, save=1.0))
    events = course(
        backend, [job(target=1)], lambda report: ContinueAttempt(0, 1, 3) if report.length == 1 else finish(report)
    )
    assert [at for at, event in events if event == "ValidationReported"] == [6.0, 8.0]


def test_end_without_checkpoint_takes_no_time() -> None:
    backend = simulated(costs=Costs(save=9.0))
    assert course(backend, [job()], lambda report: finish(report, save=False))[-1] == (1.0, "AttemptEnded")


def test_straggling_has_a_draw_for_each_segment() -> None:
    costs = Costs(straggling=0.5)
    backend = simulated(costs=costs)
    events = course(
        backend, [job(target=4)], lambda report: ContinueAttempt(0, 1, 8) if report.length == 4 else finish(report)
    )
    first, second = [at for at, event in events if event == "ValidationReported"]
    assert first == pytest.approx(4 * costs.delay(0, 0))
    assert second == pytest.approx(first + 4 * costs.delay(0, 4))


def test_attempt_with_period_reports_and_saves_before_target() -> None:
    backend = simulated(period=4)
    events = drive(backend, [job(target=10)])
    assert reported(events) == [4, 8, 10]
    assert [event.length for event in events if isinstance(event, CheckpointSaved)] == [4, 8, 10]
    assert backend.clock() == 10.0


@pytest.mark.parametrize("smaller_is_better", [True, False])
def test_metric_is_loss_or_its_negative(smaller_is_better: bool) -> None:
    spec = toy_spec(Path("nowhere"), metric="score", smaller_is_better=smaller_is_better)
    events = drive(SimulatedBackend(spec, Toy(), 1), [job(target=4)])
    (report,) = [event for event in events if isinstance(event, ValidationReported)]
    assert report.metrics == {"score": 0.25 if smaller_is_better else -0.25}


# -- suspended, aborted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "saved", "length", "ends"),
    [
        (3.0, False, 0, 3.0),  # during start-up
        (5.0, False, 0, 5.0),
        (5.1, True, 1, 6.5),  # after the step and the time to save
        (7.0, True, 2, 7.5),
        (14.9, True, 10, 15.5),
    ],
)
def test_suspended_attempt_finishes_its_step(at: float, saved: bool, length: int, ends: float) -> None:
    backend = simulated(costs=Costs(start=5.0, save=0.5))
    backend.dispatch([job(target=10)])
    assert [type(event) for event in backend.next_events(at)] == [AttemptStarted]
    assert list(backend.next_events(at)) == []
    backend.dispatch([Suspend(0, 1)])
    events = list(backend.next_events(None))
    assert backend.clock() == pytest.approx(ends)
    assert events[-1] == AttemptEnded(0, 1, length)
    assert events[:-1] == ([CheckpointSaved(0, 1, length, f"trial-0/length-{length}-attempt-1", {})] if saved else [])


def test_suspend_has_no_effect_while_attempt_saves() -> None:
    backend = simulated(costs=Costs(save=2.0))
    drive_to_report(backend, job(target=4))
    backend.dispatch([Finish(0, 1, save=True)])
    backend.next_events(1.0)
    backend.dispatch([Suspend(0, 1)])
    assert list(backend.next_events(None))[-1] == AttemptEnded(0, 1, 4)
    assert backend.clock() == 6.0


def test_second_suspend_has_no_effect() -> None:
    backend = simulated(seconds=10.0)
    backend.dispatch([job(target=10)])
    backend.next_events(None)
    for at in (15.0, 3.0):
        backend.next_events(at)
        backend.dispatch([Suspend(0, 1)])
    assert list(backend.next_events(None))[-1] == AttemptEnded(0, 1, 2)
    assert backend.clock() == 20.0


def test_suspend_right_after_periodic_checkpoint_saves_nothing() -> None:
    backend = simulated(period=4)
    backend.dispatch([job(target=10)])
    for _ in range(2):
        backend.next_events(None)
    assert backend.clock() == 4.0
    backend.dispatch([Suspend(0, 1)])
    assert list(backend.next_events(None)) == [AttemptEnded(0, 1, 4)]


def test_attempt_aborted_while_it_saves_leaves_no_checkpoint() -> None:
    backend = simulated(costs=Costs(save=2.0))
    drive_to_report(backend, job(target=4))
    backend.dispatch([Finish(0, 1, save=True)])
    backend.next_events(1.0)
    backend.dispatch([Abort(0, 1), Suspend(0, 1)])
    assert list(backend.next_events(None)) == [AttemptFailed(0, 1, "killed on request")]
    assert backend.clock() == 5.0


def test_suspend_does_not_undo_abort() -> None:
    backend = simulated()
    backend.dispatch([endless()])
    backend.next_events(None)
    backend.next_events(3.5)
    backend.dispatch([Abort(0, 1), Suspend(0, 1)])
    assert list(backend.next_events(None)) == [AttemptFailed(0, 1, "killed on request")]
    assert backend.clock() == 3.5


def drive_to_report(backend: SimulatedBackend, start: StartAttempt) -> None:
    backend.dispatch([start])
    while not any(isinstance(event, ValidationReported) for event in backend.next_events(None)):
        pass


# -- faults ---------------------------------------------------------------------------------------


def test_crashes_and_preemptions_have_their_rates() -> None:
    backend = simulated(1, faults=Faults(crashes=0.03, preemptions=0.01))
    lived: dict[type, list[float]] = {AttemptFailed: [], AttemptPreempted: []}
    for trial in range(400):
        began = backend.clock()
        *_, last = drive(backend, [job(trial, target=10_000)], say_nothing)
        lived[type(last)].append(backend.clock() - began)
    crashed, preempted = lived[AttemptFailed], lived[AttemptPreempted]
    assert 260 <= len(crashed) <= 340  # three quarters, plus or minus four standard deviations
    assert sum(crashed + preempted) / 400 == pytest.approx(1 / 0.04, rel=0.2)


def test_each_attempt_has_its_own_time_of_crash() -> None:
    faults = Faults(crashes=1.0)
    assert len({faults.crash_after(7, attempt) for attempt in range(20)}) == 20


@pytest.mark.parametrize("moment", ["start", "train", "save"])
def test_attempt_can_be_preempted_in_each_phase(moment: str) -> None:
    lost_at = Faults(preemptions=1e-3).preempted_after(0, 1)
    costs = {"start": Costs(start=2 * lost_at), "train": NO_COSTS, "save": Costs(save=2 * lost_at)}[moment]
    length = {"start": 1, "train": 10**9, "save": 1}[moment]
    backend = simulated(1, costs=costs, faults=Faults(preemptions=1e-3))
    *_, last = drive(backend, [job(target=length)])
    assert isinstance(last, AttemptPreempted)
    assert backend.clock() == lost_at


def test_preemption_of_waiting_attempt_takes_effect_at_next_command() -> None:
    backend = simulated(1, faults=Faults(preemptions=1e-3))
    drive_to_report(backend, job())
    backend.next_events(1e9)
    now = backend.clock()
    backend.dispatch([ContinueAttempt(0, 1, 5)])
    assert [type(event) for event in backend.next_events(None)] == [AttemptPreempted]
    assert backend.clock() == now


def test_endless_preemptions_raise() -> None:
    backend = simulated(1, faults=Faults(preemptions=100.0))

    def retry_for_ever() -> None:
        for attempt in count(1):
            drive(backend, [job(attempt=attempt, target=100)])

    with pytest.raises(BackendError, match="1101 attempts in a row were preempted before any reported"):
        retry_for_ever()


def test_rare_reports_count_as_progress() -> None:
    backend = simulated(1, seconds=4.0, faults=Faults(preemptions=1.0))
    reports = 0
    for attempt in range(1, 4_000):
        reports += len(reported(drive(backend, [job(attempt=attempt)])))
    assert 40 <= reports <= 110  # exp(-4) of them


# -- changing numbers of workers -----------------------------------------------------------------


def test_removed_workers_preempt_their_attempts() -> None:
    backend = simulated(Workers(((0.0, 3), (2.5, 1), (4.5, 2))))
    backend.dispatch([job(trial, target=10) for trial in range(3)])
    backend.next_events(None)
    assert list(backend.next_events(None)) == [CapacityChanged(1)]
    assert backend.slots == 1
    lost = [event for _ in range(2) for event in backend.next_events(None)]
    assert lost == [AttemptPreempted(trial, 1, "its worker was taken away") for trial in (1, 2)]
    assert list(backend.next_events(None)) == [CapacityChanged(2)]
    backend.dispatch([job(trial=3)])
    assert list(backend.next_events(None)) == [AttemptStarted(3, 1, 1, 0)]


def test_removed_worker_saves_nothing() -> None:
    backend = simulated(Workers(((0.0, 1), (2.5, 0))))
    backend.dispatch([endless()])
    backend.next_events(None)
    backend.next_events(None)
    backend.dispatch([Suspend(0, 1)])
    assert list(backend.next_events(None)) == [AttemptPreempted(0, 1, "its worker was taken away")]


def test_number_of_workers_may_be_zero_for_a_while() -> None:
    backend = simulated(Workers(((0.0, 0), (5.0, 1), (6.5, 0), (9.0, 2))))
    assert list(backend.next_events(None)) == [CapacityChanged(1)]
    backend.dispatch([endless()])
    events = [event for _ in range(4) for event in backend.next_events(None)]
    assert [type(event) for event in events] == [AttemptStarted, CapacityChanged, AttemptPreempted, CapacityChanged]
    assert backend.clock() == 9.0


def test_next_events_raises_if_nothing_can_happen() -> None:
    backend = simulated(0)
    assert list(backend.next_events(3.0)) == []
    assert backend.clock() == 3.0
    with pytest.raises(BackendError, match="the simulation has come to a standstill"):
        backend.next_events(None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ((), "begin at 0"),
        (((1.0, 2),), "begin at 0"),
        (((0.0, 2), (0.0, 1)), "and rise"),
        (((0.0, -1),), "at least 0, not -1"),
    ],
)
def test_workers_with_invalid_changes_raise(changes: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Workers(changes)


# -- arbitrary commands in any order -------------------------------------------------------------


@dataclass
class Known:
    """The expected state of a live attempt, from its events and commands."""

    start: StartAttempt
    slot: int | None = None
    length: int = 0
    saved: int = 0
    waits: bool = False
    leaves: bool = False


schedules = st.lists(st.integers(0, 4), min_size=1, max_size=6).map(
    lambda numbers: Workers(tuple((4.0 * i, number) for i, number in enumerate(numbers)))
)
conditions = st.fixed_dictionaries(
    {
        "workers": schedules,
        "spread": st.sampled_from([1.0, 2.0]),
        "costs": st.sampled_from([NO_COSTS, Costs(start=0.5, restore=0.25, save=0.5), Costs(straggling=1.0)]),
        "faults": st.sampled_from([NO_FAULTS, Faults(crashes=0.1, preemptions=0.1), Faults(preemptions=2.0)]),
        "period": st.sampled_from([None, 1, 3]),
    }
)


class BackendMachine(RuleBasedStateMachine):
    """Two backends with the same commands, whose events must be equal and fit the expected states."""

    @initialize(options=conditions)
    def begin(self, options: dict[str, Any]) -> None:
        self.backend, self.twin = simulated(**options), simulated(**options)
        self.live: dict[int, Known] = {}
        self.attempts: dict[int, tuple[int, int]] = {}
        self.starts: list[StartAttempt] = []

    def dispatch(self, *commands: Command) -> None:
        self.backend.dispatch(commands)
        self.twin.dispatch(commands)

    @precondition(lambda self: len(self.live) < self.backend.slots)
    @rule(first=st.integers(0, 9), further=st.lists(st.integers(0, 9), min_size=1, max_size=4))
    def start(self, first: int, further: list[int]) -> None:
        for trial, distance in enumerate(further, first):
            if trial not in self.live and len(self.live) < self.backend.slots:
                attempt, length = self.attempts.get(trial, (0, 0))
                start = job(trial, length + distance, attempt=attempt + 1, seed=trial, length=length)
                self.starts.append(start)
                self.live[trial] = Known(start, length=length, saved=length)
                self.dispatch(start, start)

    @precondition(lambda self: self.live)
    @rule(pick=st.integers(0, 9), further=st.integers(1, 5), what=st.sampled_from(["continue", "finish", "drop"]))
    def answer(self, pick: int, further: int, what: str) -> None:
        """Send a command that a waiting attempt obeys at once, and any other one ignores."""
        known = list(self.live.values())[pick % len(self.live)]
        trial, attempt = known.start.trial, known.start.attempt
        if what == "continue":
            target = known.start.target + further
            self.dispatch(ContinueAttempt(trial, attempt, target))
            if known.waits:
                known.start = known.start._replace(target=target)
        else:
            self.dispatch(Finish(trial, attempt, save=what == "finish"))
            known.leaves |= known.waits
        known.waits = False

    @precondition(lambda self: self.live)
    @rule(pick=st.integers(0, 9), what=st.sampled_from([Suspend, Suspend, Abort]))
    def interrupt(self, pick: int, what: type[Suspend] | type[Abort]) -> None:
        known = list(self.live.values())[pick % len(self.live)]
        known.waits, known.leaves = False, True
        self.dispatch(what(known.start.trial, known.start.attempt))

    @precondition(lambda self: self.starts)
    @rule(pick=st.integers(0, 99), what=st.sampled_from([Suspend, Abort]))
    def command_ended_attempt(self, pick: int, what: type[Suspend] | type[Abort]) -> None:
        start = self.starts[pick % len(self.starts)]
        if self.attempts.get(start.trial, (0, 0))[0] >= start.attempt:
            self.dispatch(what(start.trial, start.attempt), ContinueAttempt(start.trial, start.attempt, 99))

    @rule(timeout=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
    def listen(self, timeout: float) -> None:
        before = self.backend.clock()
        events = self.backend.next_events(timeout)
        assert list(self.twin.next_events(timeout)) == list(events)
        assert before <= self.backend.clock() <= before + timeout
        assert self.twin.clock() == self.backend.clock()
        for event in events:
            self.take(event)

    def take(self, event: Event) -> None:
        if isinstance(event, CapacityChanged):
            assert event.slots == self.backend.slots
            return
        known = self.live[event.trial]  # type: ignore[union-attr]
        assert event.attempt == known.start.attempt  # type: ignore[union-attr]
        if known.slot is None:  # the start of an attempt that is aborted at once is not reported
            assert isinstance(event, AttemptStarted | FinalEvent)
        else:
            assert not isinstance(event, AttemptStarted)
        match event:
            case AttemptStarted(slot=slot, length=length):
                assert length == known.length
                assert slot not in [other.slot for other in self.live.values()]
                assert slot < self.backend.slots
                known.slot = slot
            case ValidationReported(length=length):
                assert not known.waits
                assert not known.leaves
                assert known.length < length <= known.start.target or length == known.length >= known.start.target
                known.length, known.waits = length, length >= known.start.target
            case CheckpointSaved(length=length):
                assert known.length <= length <= max(known.start.length, known.start.target)
                known.length = known.saved = length
            case _:
                assert isinstance(event, FinalEvent)
                if isinstance(event, AttemptEnded):
                    assert event.length >= known.length
                self.attempts[event.trial] = known.start.attempt, known.saved
                del self.live[event.trial]

    def teardown(self) -> None:
        """Abort all attempts; after that only the number of workers may change."""
        if not hasattr(self, "backend"):
            return
        self.dispatch(*(Abort(trial, known.start.attempt) for trial, known in self.live.items()))
        for _ in range(50):
            self.listen(1.0)
        assert not self.live
        with pytest.raises(BackendError, match="standstill"):
            self.backend.next_events(None)


BackendMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50)
TestBackend = BackendMachine.TestCase


@given(seed=st.integers(0, 10**6), attempt=st.integers(1, 99), length=st.integers(0, 10**6))
def test_default_faults_and_costs_have_no_effect(seed: int, attempt: int, length: int) -> None:
    assert NO_FAULTS.crash_after(seed, attempt) == NO_FAULTS.preempted_after(seed, attempt) == inf
    assert NO_COSTS.delay(seed, length) == 1.0
    assert Costs(straggling=1.0).delay(seed, length) >= 1.0
    assert 0 <= Faults(crashes=1.0).crash_after(seed, attempt) < inf
