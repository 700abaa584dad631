"""The contract of a backend, to be run by whoever writes one: what the engine relies on.

Subclass it in a test module and say how to make one::

    class TestMyBackend(BackendContract):
        def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
            return MyBackend(spec, slots=2)

The backend needs room for two trials.  One that runs training code in processes has more to
keep: see `ashwood.testing.process_backend`.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.port import Abort, Backend, Command, Finish, GoOn, NoteBest, StartAttempt, Suspend
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    Event,
    LastWord,
    ValidationReported,
)
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, SaveOn, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Space

PATIENCE = 60.0
"""Seconds after which what hasn't happened never will."""

Answer = Callable[[ValidationReported], Command | None]


def toy_spec(workdir: Path, **changes: Any) -> ExperimentSpec:
    """An experiment over `ashwood.testing.training`, in epochs, with metric ``loss``."""
    fields: dict[str, Any] = {
        "name": "contract",
        "space": Space({}),
        "search": SearchSettings(method=Method.RANDOM, max_length=100, max_trials=100),
        "metric": "loss",
        "unit": Unit.EPOCHS,
        "entrypoint": Entrypoint(EntrypointKind.FUNCTION, "ashwood.testing.training:train"),
        "workdir": str(workdir),
        "seed": 0,
        "save_on": SaveOn.NONE,
    }
    return ExperimentSpec(**fields | changes)


def job(trial: int = 0, target: int = 1, hparams: Mapping[str, Any] | None = None, **changes: Any) -> StartAttempt:
    """The first attempt of a trial, unless ``changes`` say otherwise."""
    first = StartAttempt(trial, 1, target, hparams or {}, seed=trial, length=0, checkpoint=None)
    return first._replace(**changes)


def endless(trial: int = 0) -> StartAttempt:
    """An attempt that trains until somebody ends it."""
    return job(trial, target=1_000_000, hparams={"seconds": 0.01})


def finish(report: ValidationReported, *, save: bool = True) -> Finish:
    """The command that lets go of a trial that reported."""
    return Finish(report.trial, report.attempt, save=save)


def say_nothing(_: ValidationReported) -> None:
    """No command."""


def drive(
    backend: Backend, starts: Sequence[StartAttempt], answer: Answer = finish, on_the_way: Answer = say_nothing
) -> list[Event]:
    """Run attempts to their ends; returns all events.

    Args:
        backend: what runs them.
        starts: the attempts, as many as it has slots for.
        answer: asked about reports at the target of an attempt, which a `GoOn` of its moves.
        on_the_way: asked about the other reports.
    """
    targets = {(start.trial, start.attempt): start.target for start in starts}
    backend.dispatch(starts)
    events: list[Event] = []
    for event in hear(backend):
        events.append(event)
        if isinstance(event, ValidationReported):
            at_target = event.length >= targets[event.trial, event.attempt]
            command = answer(event) if at_target else on_the_way(event)
            if isinstance(command, GoOn):
                targets[command.trial, command.attempt] = command.target
            backend.dispatch([] if command is None else [command])
        if sum(isinstance(event, LastWord) for event in events) == len(starts):
            return events
    raise AssertionError(f"the attempts have not ended; so far: {events}")


def hear(backend: Backend) -> Iterator[Event]:
    """The events of a backend as they come, until it has been silent for long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for event in backend.next_events(timeout=1.0):
            yield event
            deadline = time.monotonic() + PATIENCE


def until_last_word(backend: Backend) -> list[Event]:
    """Return the events up to the end of the attempt, which is the only one."""
    events: list[Event] = []
    while not (events and isinstance(events[-1], LastWord)):
        events.extend(backend.next_events(timeout=None))
    return events


def reported(events: Sequence[Event], trial: int = 0) -> list[int]:
    """The lengths at which a trial reported."""
    return [event.length for event in events if isinstance(event, ValidationReported) and event.trial == trial]


class BackendContract(ABC):
    """What the engine relies on, whatever it is that trains."""

    @abstractmethod
    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        """A backend with at least two slots for an experiment; whatever it writes goes into ``directory``.

        Its trials do as `ashwood.testing.training`: report a ``loss`` of 1 / length after every unit of length,
        each of which takes ``hparams["seconds"]``, 0 by default.
        """

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        """A backend for the toy experiment, closed after the test."""
        backend = self.make(toy_spec(tmp_path), tmp_path)
        yield backend
        backend.close()

    def test_it_has_room_for_two(self, backend: Backend) -> None:
        """The contract itself needs two slots."""
        assert backend.slots >= 2

    def test_an_attempt_reports_up_to_its_target_saves_and_ends(self, backend: Backend) -> None:
        """Events come in the order in which things happened; what is saved on the way is the backend's own affair."""
        started, *events, saved, ended = drive(backend, [job(target=3)])
        assert isinstance(started, AttemptStarted)
        assert (started.trial, started.attempt, started.length) == (0, 1, 0)
        reports = [event for event in events if not isinstance(event, CheckpointSaved)]
        assert reports == [ValidationReported(0, 1, length, {"loss": 1 / length}) for length in (1, 2, 3)]
        assert saved == CheckpointSaved(0, 1, 3, "trial-0/length-3-attempt-1", {"loss": 1 / 3})
        assert ended == AttemptEnded(0, 1, 3)

    def test_finish_without_save_saves_nothing(self, backend: Backend) -> None:
        """A trial that is stopped for good costs no disk."""
        events = drive(backend, [job()], lambda report: finish(report, save=False))
        assert not any(isinstance(event, CheckpointSaved) for event in events)
        assert events[-1] == AttemptEnded(0, 1, 1)

    def test_go_on_trains_on_in_the_same_attempt(self, backend: Backend) -> None:
        """The trial keeps its worker."""

        def answer(report: ValidationReported) -> Command:
            return GoOn(report.trial, report.attempt, 4) if report.length == 2 else finish(report)

        events = drive(backend, [job(target=2)], answer)
        assert reported(events) == [1, 2, 3, 4]
        assert sum(isinstance(event, AttemptStarted) for event in events) == 1

    def test_a_later_attempt_starts_from_the_checkpoint(self, backend: Backend) -> None:
        """The length of the checkpoint is where training resumes."""
        saved = drive(backend, [job(target=2)])[-2]
        assert isinstance(saved, CheckpointSaved)
        events = drive(backend, [job(target=4, attempt=2, length=saved.length, checkpoint=saved.path)])
        assert isinstance(events[0], AttemptStarted)
        assert (events[0].attempt, events[0].length) == (2, 2)
        assert reported(events) == [3, 4]

    def test_trials_run_side_by_side_one_live_attempt_each(self, backend: Backend) -> None:
        """Two trials that both wait for a verdict hold two slots."""
        backend.dispatch([job(trial=0), job(trial=1)])
        slots: dict[int, int] = {}
        waiting: list[ValidationReported] = []
        for event in hear(backend):
            if isinstance(event, AttemptStarted):
                slots[event.trial] = event.slot
            if isinstance(event, ValidationReported):
                waiting.append(event)
            if len(waiting) == 2:
                break
        assert len(set(slots.values())) == 2
        assert all(0 <= slot < backend.slots for slot in slots.values())
        backend.dispatch([finish(report) for report in waiting])

    def test_a_slot_is_free_when_its_attempt_has_ended(self, backend: Backend) -> None:
        """Many more trials than slots run one after the other."""
        for first in range(0, 8, 2):
            drive(backend, [job(trial=first), job(trial=first + 1)])

    def test_a_start_that_is_repeated_is_ignored(self, backend: Backend) -> None:
        """Dispatching twice is safe."""
        start = job()
        backend.dispatch([start])
        assert sum(isinstance(event, AttemptStarted) for event in drive(backend, [start])) == 1

    def test_a_suspended_attempt_saves_and_ends(self, backend: Backend) -> None:
        """Suspend comes at any time, also again, and what was trained is kept."""
        *events, saved, ended = drive(backend, [endless()], on_the_way=lambda _: Suspend(0, 1))
        assert isinstance(saved, CheckpointSaved)
        assert 0 < max(reported(events)) <= saved.length
        assert ended == AttemptEnded(0, 1, saved.length)

    def test_suspend_answers_a_report_at_the_target(self, backend: Backend) -> None:
        """A trial that waits for a verdict saves and lets go."""
        events = drive(backend, [job(target=2)], lambda _: Suspend(0, 1))
        assert isinstance(events[-2], CheckpointSaved)
        assert events[-1] == AttemptEnded(0, 1, 2)

    def test_an_aborted_attempt_ends_without_its_target(self, backend: Backend) -> None:
        """It has failed on request, nobody else is disturbed, and its slot is free."""
        events = drive(
            backend,
            [endless(), job(trial=1, target=3)],
            on_the_way=lambda report: None if report.trial else Abort(0, 1),
        )
        assert AttemptEnded(1, 1, 3) in events
        aborted = [event for event in events if getattr(event, "trial", None) == 0]
        assert aborted[-1] == AttemptFailed(0, 1, "killed on request")
        assert AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=2)])

    def test_an_attempt_is_aborted_at_its_target(self, backend: Backend) -> None:
        """Nothing is saved."""
        *_, report, failed = drive(backend, [job()], lambda _: Abort(0, 1))
        assert isinstance(report, ValidationReported)
        assert failed == AttemptFailed(0, 1, "killed on request")

    def test_attempt_that_one_batch_starts_and_aborts_has_only_a_last_word(self, backend: Backend) -> None:
        """It never begins, whether its worker is new or waits for work; the event wakes ``next_events``."""
        for start in (job(), job(trial=1)):
            backend.dispatch([start, Abort(start.trial, 1)])
            backend.dispatch([start])
            assert until_last_word(backend) == [AttemptFailed(start.trial, 1, ABORTED)]
            assert drive(backend, [job(trial=2), job(trial=3)])

    def test_attempt_that_one_batch_starts_and_suspends_trains_nothing(self, backend: Backend) -> None:
        """It ends at the length of its checkpoint."""
        saved = drive(backend, [job(target=2)])[-2]
        assert isinstance(saved, CheckpointSaved)
        resumed = job(target=4, attempt=2, length=saved.length, checkpoint=saved.path)
        for start in (resumed, job(trial=1)):
            backend.dispatch([start, Suspend(start.trial, start.attempt)])
            backend.dispatch([start])
            *events, ended = until_last_word(backend)
            assert ended == AttemptEnded(start.trial, start.attempt, start.length)
            assert not any(isinstance(event, ValidationReported | CheckpointSaved) for event in events)

    def test_in_a_storm_every_attempt_ends_exactly_once(self, backend: Backend) -> None:
        """Attempts that are aborted and suspended at random instants free their slots."""
        Storm(backend, seed=0).rage(turns=30)
        assert drive(backend, [job(trial=1_000), job(trial=1_001)])

    def test_commands_for_an_attempt_that_is_gone_are_ignored(self, backend: Backend) -> None:
        """Also when the trial has another attempt by then."""
        late: list[Command] = [GoOn(0, 1, 9), Finish(0, 1, save=True), Suspend(0, 1), NoteBest(0, 1, 0.5), Abort(0, 1)]
        drive(backend, [job()])
        backend.dispatch(late)
        backend.dispatch([job(attempt=2, target=2)])
        backend.dispatch(late)
        report: list[ValidationReported] = []
        for event in hear(backend):
            if isinstance(event, ValidationReported) and event.length == 2:
                backend.dispatch([*late, finish(event)])
                report.append(event)
            if isinstance(event, LastWord):
                break
        assert [event.attempt for event in report] == [2]
        assert event == AttemptEnded(0, 2, 2)

    def test_next_events_waits_no_longer_than_it_may(self, backend: Backend) -> None:
        """With nothing to tell it returns nothing."""
        assert list(backend.next_events(timeout=0)) == []
        assert list(backend.next_events(timeout=0.01)) == []

    def test_wake_wakes(self, backend: Backend) -> None:
        """Also when it comes before the wait."""
        backend.wake()
        assert list(backend.next_events(timeout=None)) == []

    def test_close_may_be_repeated(self, backend: Backend) -> None:
        """Also with attempts that are busy."""
        backend.dispatch([endless()])
        backend.close()
        backend.close()


class Storm:
    """Two attempts at a time that random commands hit; each has to end exactly once, and no event comes after.

    Args:
        seed: of what happens; not of when.
    """

    def __init__(self, backend: Backend, seed: int) -> None:
        self._backend = backend
        self._chance = random.Random(seed)  # noqa: S311 - a storm, no secret
        self._live: dict[tuple[int, int], StartAttempt] = {}
        self._trials = 0

    def rage(self, turns: int) -> None:
        """Strike so many times, then let every attempt come to its end."""
        for _ in range(turns):
            while len(self._live) < 2:
                self._start()
            self._listen(self._chance.random() * 0.03)
            if self._live and self._chance.random() < 0.7:
                self._strike(*self._chance.choice(list(self._live)))
        self._backend.dispatch([Abort(*attempt) for attempt in self._live])
        deadline = time.monotonic() + PATIENCE
        while self._live:
            assert time.monotonic() < deadline, f"these attempts never ended: {list(self._live)}"
            self._listen(1.0)

    def hparams(self, _trial: int) -> dict[str, Any]:
        """What a trial of the storm trains with."""
        return {"seconds": 0.002}

    def _start(self) -> None:
        trial = self._trials
        start = job(trial, self._chance.choice([1, 3, 1_000]), self.hparams(trial))
        self._trials += 1
        self._live[start.trial, start.attempt] = start
        self._backend.dispatch([start])

    def _listen(self, seconds: float) -> None:
        for event in self._backend.next_events(timeout=seconds):
            attempt = getattr(event, "trial", -1), getattr(event, "attempt", -1)
            assert attempt in self._live, f"{event} is about no attempt that lives"
            if isinstance(event, ValidationReported) and event.length >= self._live[attempt].target:
                self._backend.dispatch([finish(event, save=self._chance.random() < 0.5)])
            if isinstance(event, LastWord):
                del self._live[attempt]

    def _strike(self, trial: int, attempt: int) -> None:
        aborts = self._chance.random() < 0.5
        self._backend.dispatch([Abort(trial, attempt) if aborts else Suspend(trial, attempt)])
