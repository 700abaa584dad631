"""The contract of a backend that runs training code, to be run by whoever writes one.

Subclass it in a test module and say how to make one::

    class TestMyBackend(BackendContract):
        def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
            return MyBackend(spec, checkpoints=directory / "checkpoints", slots=2)

The backend needs room for two trials.
"""

from __future__ import annotations

import os
import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.port import Abort, Backend, Command, Finish, GoOn, StartAttempt, Suspend
from ashwood.errors import BackendError
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    DiskFilled,
    Event,
    HparamsRejected,
    LastWord,
    TrialStopped,
    ValidationReported,
)
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Space
from ashwood.trial.storage import open_storage

_PATIENCE = 30.0

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
    }
    return ExperimentSpec(**fields | changes)


def job(trial: int = 0, target: int = 1, hparams: Mapping[str, Any] | None = None, **changes: Any) -> StartAttempt:
    """The first attempt of a trial, unless ``changes`` say otherwise."""
    first = StartAttempt(trial, 1, target, hparams or {}, seed=trial, length=0, checkpoint=None)
    return first._replace(**changes)


def finish(report: ValidationReported, *, save: bool = True) -> Finish:
    """The command that lets go of a trial that reported."""
    return Finish(report.trial, report.attempt, save=save)


def drive(backend: Backend, starts: Sequence[StartAttempt], answer: Answer = finish) -> list[Event]:
    """Run attempts to their ends, answering reports at the target; returns all events.

    ``answer`` is asked about reports at the target of an attempt, which a `GoOn` of its moves.
    """
    targets = {(start.trial, start.attempt): start.target for start in starts}
    backend.dispatch(starts)
    events: list[Event] = []
    for event in hear(backend):
        events.append(event)
        if isinstance(event, ValidationReported) and event.length >= targets[event.trial, event.attempt]:
            command = answer(event)
            if isinstance(command, GoOn):
                targets[command.trial, command.attempt] = command.target
            backend.dispatch([] if command is None else [command])
        if sum(isinstance(event, LastWord) for event in events) == len(starts):
            return events
    raise AssertionError(f"the attempts have not ended; so far: {events}")


def hear(backend: Backend) -> Iterator[Event]:
    """The events of a backend as they come, until it has been silent for long."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for event in backend.next_events(timeout=1.0):
            yield event
            deadline = time.monotonic() + _PATIENCE


class BackendContract(ABC):
    """What the engine relies on."""

    @abstractmethod
    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        """A backend with at least two slots for an experiment; checkpoints go to its ``checkpoints``."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        """A backend for the toy training code, closed after the test."""
        backend = self.make(toy_spec(tmp_path), tmp_path)
        yield backend
        backend.close()

    def test_it_has_room_for_two(self, backend: Backend) -> None:
        """The contract itself needs two slots."""
        assert backend.slots >= 2

    def test_an_attempt_reports_up_to_its_target_saves_and_ends(self, backend: Backend, tmp_path: Path) -> None:
        """Events come in the order in which things happened, and a checkpoint is there when it is told."""
        started, *reports, saved, ended = drive(backend, [job(target=3)])
        assert isinstance(started, AttemptStarted)
        assert (started.trial, started.attempt, started.length) == (0, 1, 0)
        assert reports == [ValidationReported(0, 1, length, {"loss": 1 / length}) for length in (1, 2, 3)]
        assert isinstance(saved, CheckpointSaved)
        assert saved[:3] == (0, 1, 3)
        assert saved.path == "trial-0/length-3-attempt-1"
        with open_storage(tmp_path / "checkpoints").fetch(saved.path) as directory:
            assert (directory / "length").read_text() == "3"
        assert ended == AttemptEnded(0, 1, 3)

    def test_finish_without_save_saves_nothing(self, backend: Backend) -> None:
        """A trial that is stopped for good costs no disk."""
        events = drive(backend, [job()], lambda report: finish(report, save=False))
        assert not any(isinstance(event, CheckpointSaved) for event in events)
        assert events[-1] == AttemptEnded(0, 1, 1)

    def test_go_on_trains_on_in_the_same_process(self, backend: Backend) -> None:
        """The trial keeps its process and its attempt."""

        def answer(report: ValidationReported) -> Command:
            return GoOn(report.trial, report.attempt, 4) if report.length == 2 else finish(report)

        events = drive(backend, [job(target=2)], answer)
        assert [event.length for event in events if isinstance(event, ValidationReported)] == [1, 2, 3, 4]
        assert sum(isinstance(event, AttemptStarted) for event in events) == 1

    def test_a_later_attempt_starts_from_the_checkpoint(self, backend: Backend) -> None:
        """The length of the checkpoint is where training resumes."""
        saved = next(event for event in drive(backend, [job(target=2)]) if isinstance(event, CheckpointSaved))
        again = job(target=4, attempt=2, length=saved.length, checkpoint=saved.path)
        events = drive(backend, [again])
        assert isinstance(events[0], AttemptStarted)
        assert (events[0].attempt, events[0].length) == (2, 2)
        assert [event.length for event in events if isinstance(event, ValidationReported)] == [3, 4]

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
        """Suspend comes at any time, and what was trained is kept."""
        backend.dispatch([job(target=10_000, hparams={"seconds": 0.01})])
        events: list[Event] = []
        for event in hear(backend):
            events.append(event)
            if isinstance(event, ValidationReported) and event.length == 2:
                backend.dispatch([Suspend(0, 1)])
            if isinstance(event, LastWord):
                break
        saved, ended = events[-2:]
        assert isinstance(saved, CheckpointSaved)
        assert isinstance(ended, AttemptEnded)
        assert 2 <= saved.length == ended.length < 10_000

    def test_suspend_answers_a_report_at_the_target(self, backend: Backend) -> None:
        """A trial that waits for a verdict saves and lets go."""
        events = drive(backend, [job(target=2)], lambda report: Suspend(report.trial, report.attempt))
        assert isinstance(events[-2], CheckpointSaved)
        assert events[-1] == AttemptEnded(0, 1, 2)

    def test_training_code_without_checkpoints_is_suspended_too(self, backend: Backend) -> None:
        """It loses its work, but it lets go."""
        hparams = {"seconds": 0.01, "save": False}
        backend.dispatch([job(target=10_000, hparams=hparams)])
        for event in hear(backend):
            if isinstance(event, ValidationReported) and event.length == 2:
                backend.dispatch([Suspend(0, 1)])
            if isinstance(event, LastWord):
                break
        assert isinstance(event, AttemptEnded)

    def test_an_aborted_attempt_ends_in_the_middle_of_a_step(self, backend: Backend, tmp_path: Path) -> None:
        """It has failed on request, nobody else is disturbed, and its slot is free."""
        hparams = {"do": "tell", "at": 1, "until": "doomsday", "pid_file": str(tmp_path / "pid")}
        starts = [job(target=5, hparams=hparams), job(trial=1, target=2)]
        backend.dispatch(starts)
        process = wait_for_number(tmp_path / "pid")
        backend.dispatch([Abort(0, 1), Abort(0, 1)])
        events = drive(backend, starts)
        aborted = [event for event in events if getattr(event, "trial", None) == 0]
        assert aborted[1:] == [ValidationReported(0, 1, 1, {"loss": 1.0}), AttemptFailed(0, 1, "killed on request")]
        assert AttemptEnded(1, 1, 2) in events
        wait_for_end(process)
        assert AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=2)])

    def test_an_attempt_is_aborted_at_its_target_with_all_that_it_started(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        """Nothing is saved, and no child of its process lives on."""
        start = job(hparams={"do": "fork", "pid_file": str(tmp_path / "pid")})
        *_, reported, failed = drive(backend, [start], lambda report: Abort(report.trial, report.attempt))
        assert isinstance(reported, ValidationReported)
        assert failed == AttemptFailed(0, 1, "killed on request")
        wait_for_end(wait_for_number(tmp_path / "pid"))

    def test_an_attempt_is_aborted_before_it_begins(self, backend: Backend) -> None:
        """While its process starts or imports the training code, and when that is long done."""
        start = job()
        backend.dispatch([start, Abort(0, 1)])
        assert drive(backend, [start]) == [AttemptFailed(0, 1, "killed on request")]
        drive(backend, [job(trial=1), job(trial=2)])
        again = job(attempt=2)
        backend.dispatch([again, Abort(0, 2)])
        assert drive(backend, [again])[-1] == AttemptFailed(0, 2, "killed on request")

    def test_in_a_storm_of_kills_every_attempt_ends_exactly_once(self, backend: Backend, tmp_path: Path) -> None:
        """Processes killed and attempts aborted at random instants free their slots, and leave nothing behind."""
        storm = Storm(backend, tmp_path, seed=0)
        storm.rage(turns=30)
        drive(backend, [job(trial=1_000), job(trial=1_001)])
        backend.close()
        for process in storm.processes():
            wait_for_end(process)

    def test_a_full_disk_is_not_the_fault_of_the_training_code(self, backend: Backend) -> None:
        """It is told apart, also where a library wraps it, and the slot works on."""
        *_, filled = drive(backend, [job(hparams={"do": "lack_space"})])
        assert isinstance(filled, DiskFilled)
        assert filled.error.startswith("RuntimeError: the library can't write its file\n")
        assert "No space left on device" in filled.error
        assert drive(backend, [job(trial=1), job(trial=2)])

    def test_commands_for_an_attempt_that_is_gone_are_ignored(self, backend: Backend) -> None:
        """Also when the trial has another attempt by then."""
        late: list[Command] = [GoOn(0, 1, 9), Finish(0, 1, save=True), Suspend(0, 1), Abort(0, 1)]
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

    @pytest.mark.parametrize(
        ("misdeed", "words"),
        [
            ("raise", ["ValueError: the training code raised this", "Traceback"]),
            ("sys_exit", ["sys.exit"]),
            ("os_exit", ["exit code 3"]),
            ("kill", ["SIGKILL", "out of memory"]),
            ("segfault", ["SIGSEGV"]),
        ],
    )
    def test_a_crash_costs_its_attempt_only(self, backend: Backend, misdeed: str, words: Sequence[str]) -> None:
        """What was reported before comes first, the reason is told, and the slot works on."""
        bad = job(trial=0, target=5, hparams={"do": misdeed, "at": 2})
        events = drive(backend, [bad, job(trial=1, target=3)])
        of_bad = [event for event in events if getattr(event, "trial", None) == 0]
        assert [event.length for event in of_bad if isinstance(event, ValidationReported)] == [1, 2]
        assert isinstance(of_bad[-1], AttemptFailed)
        for word in words:
            assert word in of_bad[-1].error
        assert sum(isinstance(event, LastWord) for event in of_bad) == 1
        assert AttemptEnded(1, 1, 3) in events
        assert AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=2)])

    def test_training_code_that_returns_too_early_has_failed(self, tmp_path: Path) -> None:
        """The error says what was expected."""
        backend = self.make(toy_spec(tmp_path, metric="accuracy"), tmp_path)
        try:
            *_, failed = drive(backend, [job(target=2)], lambda _: None)
        finally:
            backend.close()
        assert isinstance(failed, AttemptFailed)
        assert "'accuracy' at length 2 epochs" in failed.error.partition("\n")[0]
        assert "'loss' (last at length 2)" in failed.error

    def test_invalid_hyperparameters_and_stop(self, backend: Backend) -> None:
        """Both are ends of their own."""
        invalid = job(trial=0, hparams={"do": "invalid"})
        stops = job(trial=1, hparams={"do": "stop"})
        events = drive(backend, [invalid, stops])
        assert HparamsRejected(0, 1, "they make no sense") in events
        assert TrialStopped(1, 1) in events

    def test_training_code_that_is_not_there(self, tmp_path: Path) -> None:
        """No trial can ever run, which is no trial's fault."""
        entrypoint = Entrypoint(EntrypointKind.FUNCTION, "ashwood.testing.training:trian")
        backend = self.make(toy_spec(tmp_path, entrypoint=entrypoint), tmp_path)
        try:
            backend.dispatch([job()])
            with pytest.raises(BackendError, match=r"did you mean 'train'\?"):
                list(hear(backend))
        finally:
            backend.close()

    def test_next_events_waits_no_longer_than_it_may(self, backend: Backend) -> None:
        """With nothing to tell it returns nothing."""
        assert list(backend.next_events(timeout=0)) == []
        assert list(backend.next_events(timeout=0.01)) == []

    def test_wake_wakes(self, backend: Backend) -> None:
        """Also when it comes before the wait."""
        backend.wake()
        assert list(backend.next_events(timeout=None)) == []

    def test_close_ends_everything_and_may_be_repeated(self, backend: Backend, tmp_path: Path) -> None:
        """Neither a busy attempt nor what it started outlives the backend."""
        backend.dispatch([job(target=2, hparams={"do": "fork", "at": 1, "pid_file": str(tmp_path / "pid")})])
        for event in hear(backend):
            if isinstance(event, ValidationReported) and event.length == 2:
                break
        child = int((tmp_path / "pid").read_text())
        backend.close()
        backend.close()
        wait_for_end(child)


class Storm:
    """Two attempts at a time under random kills and aborts; each has to end exactly once, and no event comes after.

    Args:
        seed: of what happens; not of when.
    """

    def __init__(self, backend: Backend, directory: Path, seed: int) -> None:
        self._backend = backend
        self._directory = directory
        self._chance = random.Random(seed)  # noqa: S311 - a storm, no secret
        self._live: dict[tuple[int, int], StartAttempt] = {}
        self._trials = 0

    def rage(self, turns: int) -> None:
        """Strike so many times, then let every attempt come to its end."""
        for _ in range(turns):
            while len(self._live) < 2:
                self._start()
            self._listen(self._chance.random() * 0.03)
            self._strike()
        self._backend.dispatch([Abort(*attempt) for attempt in self._live])
        deadline = time.monotonic() + _PATIENCE
        while self._live:
            assert time.monotonic() < deadline, f"these attempts never ended: {list(self._live)}"
            self._listen(1.0)

    def processes(self) -> list[int]:
        """The processes that worked on attempts."""
        texts = (path.read_text() for path in self._directory.glob("storm-*"))
        return [int(text) for text in texts if text]

    def _start(self) -> None:
        hparams = {"do": "tell", "pid_file": str(self._pid_file(self._trials)), "seconds": 0.002}
        start = job(trial=self._trials, target=self._chance.choice([1, 3, 1_000]), hparams=hparams)
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

    def _strike(self) -> None:
        if not self._live or self._chance.random() < 0.3:
            return
        trial, attempt = self._chance.choice(list(self._live))
        if self._chance.random() < 0.5:
            self._backend.dispatch([Abort(trial, attempt)])
        elif self._pid_file(trial).exists() and (process := self._pid_file(trial).read_text()):
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)

    def _pid_file(self, trial: int) -> Path:
        return self._directory / f"storm-{trial}"


def wait_for_number(path: Path, patience: float = _PATIENCE) -> int:
    """Wait until a process has left a number in a file, such as its id."""
    deadline = time.monotonic() + patience
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"nobody wrote {path}"
        time.sleep(0.01)
    return int(path.read_text())


def wait_for_end(process: int, patience: float = _PATIENCE) -> None:
    """Wait until a process, of whatever parent, is gone or a zombie."""
    deadline = time.monotonic() + patience
    while _lives(process):
        assert time.monotonic() < deadline, f"process {process} still lives"
        time.sleep(0.01)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:  # Linux shows the dead whom nobody has buried yet
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self/stat").exists()
