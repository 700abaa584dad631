"""`play` must give the same course as the engine on the simulated backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate
from ashwood.experiment.decisions import CompleteTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptEnded, AttemptStarted, DriverStarted, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.costs import Costs
from ashwood.forecast.play import Underway, play
from ashwood.forecast.training import Exchangeable, PowerLaw, Training
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Audited
from ashwood.views.trials import TrialTable
from tests.views import streams
from tests.views.simulate import arrivals_of, asha, spec_of

seconds = st.sampled_from([0.0, 0.5, 3.0])


@st.composite
def models(draw: st.DrawFn) -> Training:
    spread = draw(st.sampled_from([1.0, 1.5, 4.0]))
    if draw(st.booleans()):
        return PowerLaw(max_length=60, rank_correlation=draw(st.sampled_from([0.2, 0.9])), spread=spread)
    return Exchangeable(unit_seconds=draw(st.sampled_from([0.0, 1.0])), spread=spread, noise=draw(st.floats(0, 1)))


class Observed:
    """The course of a simulated experiment, taken from its log entries."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self.trials = TrialTable(spec)
        self.first_end: float | None = None
        self.most_waiting = 0
        self.audits = 0

    def observe(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.trials.apply(entry)
            self.most_waiting = max(self.most_waiting, self.trials.states[TrialState.PAUSED])
            self.audits += sum(isinstance(getattr(each, "why", None), Audited) for each in entry.decisions)
            if self.first_end is None and any(isinstance(each, CompleteTrial) for each in entry.decisions):
                self.first_end = entry.at


@given(
    search=streams.settings(),
    training=models(),
    costs=st.builds(Costs, start=seconds, restore=seconds, save=seconds, straggling=st.sampled_from([0.0, 0.5])),
    workers=st.integers(1, 12),
)
def test_play_has_course_of_engine_on_simulated_backend(
    search: SearchSettings, training: Training, costs: Costs, workers: int
) -> None:
    spec = spec_of(search)
    observed = Observed(spec)
    backend = SimulatedBackend(spec, training, workers, costs=costs)
    experiment = simulate(Experiment(spec), backend, observers=[observed.observe])
    course = play(Tournament(search, spec.seed), training, workers, costs=costs, seed=spec.seed)
    assert course.arrivals == arrivals_of(experiment)
    assert course.seconds == backend.clock.now
    assert course.replicates == len(experiment.search.replicates.created)
    assert course.first_end == observed.first_end
    assert course.audits == observed.audits
    assert course.most_waiting == observed.most_waiting
    assert course.busy == pytest.approx(observed.trials.spending.busy_seconds)
    assert 0 <= course.full_until <= course.last_full <= course.seconds


def test_last_full_is_last_time_when_all_workers_were_busy() -> None:
    settings = asha(6, method=Method.RANDOM, max_length=10)
    course = play(Tournament(settings), Exchangeable(unit_seconds=2.0), 4, costs=Costs(start=1.0, save=3.0))
    assert course.seconds == 2 * (1 + 20 + 3)
    assert course.last_full == course.full_until == 1 + 20 + 3
    assert course.busy == 6 * 24
    assert course.trained == 6 * 20


def test_sync_halving_leaves_workers_idle_between_rungs() -> None:
    settings = asha(16, method=Method.SYNC_HALVING, max_length=16, num_rungs=2)
    course = play(Tournament(settings), Exchangeable(), 8)
    assert course.seconds == 4 + 4 + 12
    assert course.full_until == course.last_full == 8
    assert course.first_end == 20


class Recorder:
    def __init__(self) -> None:
        self.saved_lengths: dict[int, list[int]] = {}
        self.ended_trials: list[int] = []

    def watch(self, search: Tournament) -> None:
        """Observe any search in the same way."""

    def resumes(self, trial: int, length: int) -> int:
        assert self.saved_lengths[trial][-1] == length
        return length

    def saved(self, trial: int, length: int) -> None:
        self.saved_lengths.setdefault(trial, []).append(length)

    def ended(self, trial: int) -> None:
        self.ended_trials.append(trial)


@given(search=streams.settings(), workers=st.integers(1, 6))
def test_witness_gets_every_trial_and_its_checkpoints(search: SearchSettings, workers: int) -> None:
    recorder = Recorder()
    course = play(Tournament(search), Exchangeable(noise=0.5, spread=1.5), workers, witness=recorder)
    created = sum(bracket[0] for bracket in course.arrivals) + course.replicates
    assert sorted(recorder.ended_trials) == list(range(created))
    complete = [trial for trial, lengths in recorder.saved_lengths.items() if search.max_length in lengths]
    assert len(complete) == sum(bracket[-1] for bracket in course.arrivals) + course.replicates
    assert all(lengths == sorted(set(lengths)) for lengths in recorder.saved_lengths.values())


# -- searches that have started -----------------------------------------------------------------


@given(search=streams.settings(), workers=st.integers(1, 6), after=st.integers(0, 60))
def test_play_from_running_search_has_course_of_engine(search: SearchSettings, workers: int, after: int) -> None:
    spec = spec_of(search)
    training = Exchangeable(spread=1.5, noise=0.4)
    costs = Costs(start=0.7, restore=0.4, save=0.3)
    entries: list[Entry] = []
    middle: list[tuple[Mapping[str, Any], dict[int, int]]] = []
    experiment = Experiment(spec)

    def observe(turn: Sequence[Entry]) -> None:
        entries.extend(turn)
        if len(entries) > after and not middle and not any(isinstance(e.event, DriverStarted) for e in turn):
            targets = {trial.id: trial.target for trial in experiment.outstanding()}
            middle.append((experiment.search.snapshot(), targets))
            middle_at.append((len(entries), turn[-1].at))

    middle_at: list[tuple[int, float]] = []
    backend = SimulatedBackend(spec, training, workers, costs=costs)
    simulate(experiment, backend, observers=[observe])
    if not middle:
        return
    (snapshot, targets), (seen, now) = middle[0], middle_at[0]
    live = {
        entry.event.trial: entry.event.attempt for entry in entries[:seen] if isinstance(entry.event, AttemptStarted)
    }
    ended = {(e.event.trial, e.event.attempt) for e in entries[:seen] if isinstance(e.event, AttemptEnded)}
    remaining: dict[int, float] = {}
    leaving: dict[int, float] = {}
    for entry in reversed(entries[seen:]):
        event = entry.event
        match event:
            case ValidationReported() if live.get(event.trial) == event.attempt and event.length == targets.get(
                event.trial
            ):
                remaining[event.trial] = entry.at - now
            case AttemptEnded() if live.get(event.trial) == event.attempt:
                leaving[event.trial] = entry.at - now
    # Attempts that got a worker in this very turn start in the next one.  They count as if they had started.
    started = {trial for trial, attempt in live.items() if (trial, attempt) not in ended}
    remaining = {trial: seconds for trial, seconds in remaining.items() if trial in started}
    leaving = {t: seconds for t, seconds in leaving.items() if t in started and t not in remaining}
    played = Tournament(search, spec.seed)
    played.restore(snapshot)
    underway = Underway(seeds={}, remaining=remaining, leaving=leaving)
    course = play(played, training, workers, costs=costs, seed=spec.seed, underway=underway)
    assert course.arrivals == arrivals_of(experiment)
    assert now + course.seconds == pytest.approx(backend.clock.now)
