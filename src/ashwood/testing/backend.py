"""The contract of backends: tests of everything that the engine relies on.

To test a new backend, subclass the contract in a test module and define ``make``::

    class TestMyBackend(BackendContract):
        def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
            return MyBackend(spec, slots=2)

The backend needs at least two slots.  For a backend that runs training code in processes, use the
larger contract in `ashwood.testing.process_backend`.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.port import Abort, Backend, Command, ContinueAttempt, Finish, NoteBest, StartAttempt, Suspend
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    Event,
    FinalEvent,
    ValidationReported,
)
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, SaveOn, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Space

PATIENCE = 60.0
"""Seconds after which a test fails if an expected event has not happened."""

Answer = Callable[[ValidationReported], Command | None]


def toy_spec(workdir: Path, **changes: Any) -> ExperimentSpec:
    """Return a spec that trains `ashwood.testing.training`, with lengths in epochs and the metric ``loss``."""
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
    """Return the command to start the first attempt of a trial, with ``changes`` to its fields."""
    first = StartAttempt(trial, 1, target, hparams or {}, seed=trial, length=0, checkpoint=None)
    return first._replace(**changes)


def endless(trial: int = 0) -> StartAttempt:
    """Return the command to start an attempt that trains until it is ended by another command."""
    return job(trial, target=1_000_000, hparams={"seconds": 0.01})


def finish(report: ValidationReported, *, save: bool = True) -> Finish:
    """Return the command to end an attempt that has reported at its target."""
    return Finish(report.trial, report.attempt, save=save)


def say_nothing(_: ValidationReported) -> None:
    """Return no command."""


def drive(
    backend: Backend, starts: Sequence[StartAttempt], answer: Answer = finish, on_the_way: Answer = say_nothing
) -> list[Event]:
    """Run attempts to their ends, and return all events.

    Args:
        backend: the backend that runs them.
        starts: the attempts, at most as many as the backend has slots.
        answer: returns the command to send after a report at the target of an attempt; a `ContinueAttempt` sets a new
            target.
        on_the_way: returns the command to send after any other report.
    """
    targets = {(start.trial, start.attempt): start.target for start in starts}
    backend.dispatch(starts)
    events: list[Event] = []
    for event in events_of(backend):
        events.append(event)
        if isinstance(event, ValidationReported):
            at_target = event.length >= targets[event.trial, event.attempt]
            command = answer(event) if at_target else on_the_way(event)
            if isinstance(command, ContinueAttempt):
                targets[command.trial, command.attempt] = command.target
            backend.dispatch([] if command is None else [command])
        if sum(isinstance(event, FinalEvent) for event in events) == len(starts):
            return events
    raise AssertionError(f"the attempts have not ended; so far: {events}")


def events_of(backend: Backend) -> Iterator[Event]:
    """Yield the events of a backend until there was none for `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for event in backend.next_events(timeout=1.0):
            yield event
            deadline = time.monotonic() + PATIENCE


def until_final_event(backend: Backend) -> list[Event]:
    """Return the events up to the end of the only attempt."""
    events: list[Event] = []
    while not (events and isinstance(events[-1], FinalEvent)):
        events.extend(backend.next_events(timeout=None))
    return events


def reported(events: Sequence[Event], trial: int = 0) -> list[int]:
    """Return the lengths at which a trial reported."""
    return [event.length for event in events if isinstance(event, ValidationReported) and event.trial == trial]


class BackendContract(ABC):
    """Tests that every backend passes, whether it runs processes or simulates them."""

    @abstractmethod
    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        """Return a backend with at least two slots, which writes its files to ``directory``.

        Its trials must behave like `ashwood.testing.training`: they report a ``loss`` of 1 / length after every unit
        of length, each of which takes ``hparams["seconds"]``, or 0 seconds by default.
        """

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        """Backend for the toy experiment, which is closed after the test."""
        backend = self.make(toy_spec(tmp_path), tmp_path)
        yield backend
        backend.close()

    def test_backend_has_two_slots(self, backend: Backend) -> None:
        """The other tests of the contract need a backend with two slots."""
        assert backend.slots >= 2

    def test_attempt_reports_up_to_its_target_saves_and_ends(self, backend: Backend) -> None:
        """Events are in the order in which they happened; a backend may save more checkpoints on the way."""
        started, *events, saved, ended = drive(backend, [job(target=3)])
        assert isinstance(started, AttemptStarted)
        assert (started.trial, started.attempt, started.length) == (0, 1, 0)
        reports = [event for event in events if not isinstance(event, CheckpointSaved)]
        assert reports == [ValidationReported(0, 1, length, {"loss": 1 / length}) for length in (1, 2, 3)]
        assert isinstance(saved, CheckpointSaved)
        assert saved == CheckpointSaved(0, 1, 3, "trial-0/length-3-attempt-1", {"loss": 1 / 3}, saved.size)
        assert ended == AttemptEnded(0, 1, 3)

    def test_finish_without_save_saves_nothing(self, backend: Backend) -> None:
        """A trial that is stopped for good needs no disk space."""
        events = drive(backend, [job()], lambda report: finish(report, save=False))
        assert not any(isinstance(event, CheckpointSaved) for event in events)
        assert events[-1] == AttemptEnded(0, 1, 1)

    def test_new_target_continues_the_same_attempt(self, backend: Backend) -> None:
        """A trial that is promoted at its target keeps its worker, and trains to the new target."""

        def answer(report: ValidationReported) -> Command:
            return ContinueAttempt(report.trial, report.attempt, 4) if report.length == 2 else finish(report)

        events = drive(backend, [job(target=2)], answer)
        assert reported(events) == [1, 2, 3, 4]
        assert sum(isinstance(event, AttemptStarted) for event in events) == 1

    def test_later_attempt_starts_from_checkpoint(self, backend: Backend) -> None:
        """Training resumes at the length of the checkpoint."""
        saved = drive(backend, [job(target=2)])[-2]
        assert isinstance(saved, CheckpointSaved)
        events = drive(backend, [job(target=4, attempt=2, length=saved.length, checkpoint=saved.path)])
        assert isinstance(events[0], AttemptStarted)
        assert (events[0].attempt, events[0].length) == (2, 2)
        assert reported(events) == [3, 4]

    def test_two_trials_run_in_two_slots(self, backend: Backend) -> None:
        """Two trials that wait for a command occupy two different slots."""
        backend.dispatch([job(trial=0), job(trial=1)])
        slots: dict[int, int] = {}
        waiting: list[ValidationReported] = []
        for event in events_of(backend):
            if isinstance(event, AttemptStarted):
                slots[event.trial] = event.slot
            if isinstance(event, ValidationReported):
                waiting.append(event)
            if len(waiting) == 2:
                break
        assert len(set(slots.values())) == 2
        assert all(0 <= slot < backend.slots for slot in slots.values())
        backend.dispatch([finish(report) for report in waiting])

    def test_slot_is_free_when_its_attempt_has_ended(self, backend: Backend) -> None:
        """More trials than slots can run one after the other."""
        for first in range(0, 8, 2):
            drive(backend, [job(trial=first), job(trial=first + 1)])

    def test_repeated_start_is_ignored(self, backend: Backend) -> None:
        """A command may be dispatched twice."""
        start = job()
        backend.dispatch([start])
        assert sum(isinstance(event, AttemptStarted) for event in drive(backend, [start])) == 1

    def test_suspended_attempt_saves_and_ends(self, backend: Backend) -> None:
        """Suspend may come at any time, and repeatedly, and no training is lost."""
        *events, saved, ended = drive(backend, [endless()], on_the_way=lambda _: Suspend(0, 1))
        assert isinstance(saved, CheckpointSaved)
        assert 0 < max(reported(events)) <= saved.length
        assert ended == AttemptEnded(0, 1, saved.length)

    def test_suspend_answers_a_report_at_the_target(self, backend: Backend) -> None:
        """An attempt that waits for a command saves and ends."""
        events = drive(backend, [job(target=2)], lambda _: Suspend(0, 1))
        assert isinstance(events[-2], CheckpointSaved)
        assert events[-1] == AttemptEnded(0, 1, 2)

    def test_aborted_attempt_ends_before_its_target(self, backend: Backend) -> None:
        """An aborted attempt is reported as failed on request; its slot is free, and other attempts continue."""
        events = drive(
            backend,
            [endless(), job(trial=1, target=3)],
            on_the_way=lambda report: None if report.trial else Abort(0, 1),
        )
        assert AttemptEnded(1, 1, 3) in events
        aborted = [event for event in events if getattr(event, "trial", None) == 0]
        assert aborted[-1] == AttemptFailed(0, 1, "killed on request")
        assert AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=2)])

    def test_attempt_aborted_at_its_target_saves_nothing(self, backend: Backend) -> None:
        """An abort also answers a report at the target."""
        *_, report, failed = drive(backend, [job()], lambda _: Abort(0, 1))
        assert isinstance(report, ValidationReported)
        assert failed == AttemptFailed(0, 1, "killed on request")

    def test_attempt_that_one_batch_starts_and_aborts_has_only_its_last_event(self, backend: Backend) -> None:
        """The attempt trains nothing, whether its worker is new or idle, and its end wakes ``next_events``."""
        for start in (job(), job(trial=1)):
            backend.dispatch([start, Abort(start.trial, 1)])
            backend.dispatch([start])
            assert until_final_event(backend) == [AttemptFailed(start.trial, 1, ABORTED)]
            assert drive(backend, [job(trial=2), job(trial=3)])

    def test_attempt_that_one_batch_starts_and_suspends_trains_nothing(self, backend: Backend) -> None:
        """The attempt ends at the length of the checkpoint from which it starts."""
        saved = drive(backend, [job(target=2)])[-2]
        assert isinstance(saved, CheckpointSaved)
        resumed = job(target=4, attempt=2, length=saved.length, checkpoint=saved.path)
        for start in (resumed, job(trial=1)):
            backend.dispatch([start, Suspend(start.trial, start.attempt)])
            backend.dispatch([start])
            *events, ended = until_final_event(backend)
            assert ended == AttemptEnded(start.trial, start.attempt, start.length)
            assert not any(isinstance(event, ValidationReported | CheckpointSaved) for event in events)

    def test_attempts_end_exactly_once_under_random_commands(self, backend: Backend) -> None:
        """Attempts that are aborted or suspended at random times free their slots."""
        RandomCommands(backend, seed=0).run(turns=30)
        assert drive(backend, [job(trial=1_000), job(trial=1_001)])

    def test_commands_for_ended_attempt_are_ignored(self, backend: Backend) -> None:
        """Commands for an ended attempt are ignored also if the trial has another attempt by then."""
        late: list[Command] = [
            ContinueAttempt(0, 1, 9),
            Finish(0, 1, save=True),
            Suspend(0, 1),
            NoteBest(0, 1, 0.5),
            Abort(0, 1),
        ]
        drive(backend, [job()])
        backend.dispatch(late)
        backend.dispatch([job(attempt=2, target=2)])
        backend.dispatch(late)
        report: list[ValidationReported] = []
        for event in events_of(backend):
            if isinstance(event, ValidationReported) and event.length == 2:
                backend.dispatch([*late, finish(event)])
                report.append(event)
            if isinstance(event, FinalEvent):
                break
        assert [event.attempt for event in report] == [2]
        assert event == AttemptEnded(0, 2, 2)

    def test_next_events_returns_after_timeout(self, backend: Backend) -> None:
        """Without events, ``next_events`` returns an empty sequence."""
        assert list(backend.next_events(timeout=0)) == []
        assert list(backend.next_events(timeout=0.01)) == []

    def test_wake_makes_next_events_return(self, backend: Backend) -> None:
        """`wake` also has an effect if it is called before the wait."""
        backend.wake()
        assert list(backend.next_events(timeout=None)) == []

    def test_close_may_be_repeated(self, backend: Backend) -> None:
        """A backend with running attempts can be closed, and closed again."""
        backend.dispatch([endless()])
        backend.close()
        backend.close()


class RandomCommands:
    """Runs two attempts at a time, sends them random commands, and checks that each ends exactly once.

    No event of an attempt may come after its end.

    Args:
        backend: the backend.
        seed: seed of the commands; their timing is not reproducible.
    """

    def __init__(self, backend: Backend, seed: int) -> None:
        self._backend = backend
        self._random = random.Random(seed)  # noqa: S311 - for tests, not for cryptography
        self._live: dict[tuple[int, int], StartAttempt] = {}
        self._trials = 0

    def run(self, turns: int) -> None:
        """Send random commands for a number of turns, then abort all attempts and wait for their ends."""
        for _ in range(turns):
            while len(self._live) < 2:
                self._start()
            self._receive(self._random.random() * 0.03)
            if self._live and self._random.random() < 0.7:
                self._send_random(*self._random.choice(list(self._live)))
        self._backend.dispatch([Abort(*attempt) for attempt in self._live])
        deadline = time.monotonic() + PATIENCE
        while self._live:
            assert time.monotonic() < deadline, f"these attempts did not end: {list(self._live)}"
            self._receive(1.0)

    def hparams(self, _trial: int) -> dict[str, Any]:
        """Return the hyperparameters of a trial."""
        return {"seconds": 0.002}

    def _start(self) -> None:
        trial = self._trials
        start = job(trial, self._random.choice([1, 3, 1_000]), self.hparams(trial))
        self._trials += 1
        self._live[start.trial, start.attempt] = start
        self._backend.dispatch([start])

    def _receive(self, seconds: float) -> None:
        for event in self._backend.next_events(timeout=seconds):
            attempt = getattr(event, "trial", -1), getattr(event, "attempt", -1)
            assert attempt in self._live, f"{event} is about an attempt that is not running"
            if isinstance(event, ValidationReported) and event.length >= self._live[attempt].target:
                self._backend.dispatch([finish(event, save=self._random.random() < 0.5)])
            if isinstance(event, FinalEvent):
                del self._live[attempt]

    def _send_random(self, trial: int, attempt: int) -> None:
        aborts = self._random.random() < 0.5
        self._backend.dispatch([Abort(trial, attempt) if aborts else Suspend(trial, attempt)])
