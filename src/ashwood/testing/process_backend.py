"""The contract of backends that run training code in processes.

It contains `ashwood.testing.backend.BackendContract`, and tests of what users rely on: crashes, hangs,
child processes, checkpoints.  To test a new backend, subclass it and define ``make``::

    class TestMyBackend(ProcessBackendContract):
        def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
            return MyBackend(spec, checkpoints=directory / "checkpoints", slots=2)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.port import Abort, Backend, NoteBest, Suspend
from ashwood.checkpoints import open_storage
from ashwood.errors import BackendError
from ashwood.experiment import events as e
from ashwood.experiment.spec import Entrypoint, EntrypointKind, SaveOn
from ashwood.testing.backend import (
    PATIENCE,
    BackendContract,
    RandomCommands,
    drive,
    endless,
    events_of,
    finish,
    job,
    reported,
    say_nothing,
    toy_spec,
    until_final_event,
)


class ProcessBackendContract(BackendContract):
    """Tests that every backend with processes passes; ``make`` must use the storage ``directory / "checkpoints"``."""

    def test_checkpoint_is_complete_when_it_is_reported(self, backend: Backend, tmp_path: Path) -> None:
        """A reported checkpoint has the files that the training code wrote, and their size."""
        saved = drive(backend, [job(target=3)])[-2]
        assert isinstance(saved, e.CheckpointSaved)
        with open_storage(tmp_path / "checkpoints").fetch(saved.path) as directory:
            assert (directory / "length").read_text() == "3"
        assert saved.size == 1

    def test_report_that_is_better_than_all_checkpoints_of_the_experiment_is_saved(self, tmp_path: Path) -> None:
        """The process knows the experiment's best loss from the start, and gets better ones during training."""
        backend = self.make(toy_spec(tmp_path, save_on=SaveOn.BEST), tmp_path)
        until = tmp_path / "go"
        try:
            # The losses are 1, 1/2, 1/3, …
            hparams = {"do": "tell", "at": 3, "pid_file": str(tmp_path / "pid"), "until": str(until)}
            start = job(target=6, hparams=hparams, best=0.5)
            backend.dispatch([start])
            wait_for_number(tmp_path / "pid")
            backend.dispatch([NoteBest(0, 1, 0.19)])
            until.touch()
            events = drive(backend, [start], lambda report: finish(report, save=False))
            assert [event.length for event in events if isinstance(event, e.CheckpointSaved)] == [3, 6]
        finally:
            backend.close()

    def test_training_code_without_checkpoints_is_suspended_too(self, backend: Backend) -> None:
        """Without a checkpoint the training is lost, but the suspended attempt ends."""
        start = endless()._replace(hparams={"seconds": 0.01, "save": False})
        events = drive(backend, [start], on_the_way=lambda _: Suspend(0, 1))
        assert not any(isinstance(event, e.CheckpointSaved) for event in events)
        assert isinstance(events[-1], e.AttemptEnded)

    def test_aborted_attempt_ends_within_a_step_and_has_only_its_last_event(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        """Unread reports of an aborted attempt are dropped.  Other attempts continue, and its slot is free."""
        hparams = {"do": "tell", "at": 1, "until": "doomsday", "pid_file": str(tmp_path / "pid")}
        starts = [job(target=5, hparams=hparams), job(trial=1, target=2)]
        backend.dispatch(starts)
        process = wait_for_number(tmp_path / "pid")
        backend.dispatch([Abort(0, 1), Abort(0, 1)])
        events = drive(backend, starts)
        aborted = [event for event in events if getattr(event, "trial", None) == 0]
        assert aborted == [e.AttemptFailed(0, 1, "killed on request")]
        assert e.AttemptEnded(1, 1, 2) in events
        wait_for_end(process)
        assert e.AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=2)])

    @pytest.mark.parametrize("misdeed", ["hang", "swallow"])
    def test_hung_attempt_is_killed_after_request_to_stop(self, tmp_path: Path, misdeed: str) -> None:
        """A killed attempt counts as preempted, not as failed, and its slot is free."""
        backend = self.make(toy_spec(tmp_path, grace_period=0.3), tmp_path)
        try:
            backend.dispatch([job(target=5, hparams={"do": misdeed, "at": 1, "pid_file": str(tmp_path / "pid")})])
            process = wait_for_number(tmp_path / "pid")
            backend.dispatch([Suspend(0, 1)])
            killed = next(event for event in events_of(backend) if isinstance(event, e.FinalEvent))
            assert killed == e.AttemptPreempted(
                0, 1, "it finished no step and no save for 0.3 s after the request to stop", hung=True
            )
            wait_for_end(process)
            assert e.AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=1)])
        finally:
            backend.close()

    @pytest.mark.parametrize("misdeed", ["hang", "swallow"])
    def test_silent_attempt_fails(self, tmp_path: Path, misdeed: str) -> None:
        """A silent attempt counts as failed, its process is ended, and its slot is free."""
        backend = self.make(toy_spec(tmp_path, max_silence=3.0), tmp_path)
        try:
            start = job(target=5, hparams={"do": misdeed, "at": 1, "pid_file": str(tmp_path / "pid")})
            *_, failed = drive(backend, [start])
            assert isinstance(failed, e.AttemptFailed)
            assert failed.error.startswith("it finished no step and no save for 3 s (max_silence)")
            wait_for_end(wait_for_number(tmp_path / "pid"))
            assert e.AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=1)])
        finally:
            backend.close()

    def test_training_time_is_reported_while_code_hangs_and_before_the_end(self, tmp_path: Path) -> None:
        """With ``max_trial_time``, training time is reported early enough for the engine to stop the trial."""
        backend = self.make(toy_spec(tmp_path, max_trial_time=1.0, grace_period=0.3), tmp_path)
        try:
            *_, trained, ended = drive(backend, [job(hparams={"seconds": 0.01})])
            assert isinstance(trained, e.TrialTrained)
            assert isinstance(ended, e.AttemptEnded)
            assert trained.seconds > 0.01
            hangs = {"do": "hang", "at": 1, "pid_file": str(tmp_path / "pid")}
            backend.dispatch([job(trial=1, target=5, hparams=hangs)])
            trained = next(event for event in events_of(backend) if isinstance(event, e.TrialTrained))
            backend.dispatch([Suspend(1, 1)])
            *_, last, killed = until_final_event(backend)
            assert isinstance(killed, e.AttemptPreempted)
            assert isinstance(last, e.TrialTrained)
            assert min(trained.seconds, last.seconds) > 0.25
        finally:
            backend.close()

    def test_child_processes_of_aborted_attempt_are_ended(self, backend: Backend, tmp_path: Path) -> None:
        """An abort also ends child processes that ignore SIGTERM."""
        start = job(hparams={"do": "fork", "pid_file": str(tmp_path / "pid")})
        assert drive(backend, [start], lambda _: Abort(0, 1))[-1] == e.AttemptFailed(0, 1, "killed on request")
        wait_for_end(wait_for_number(tmp_path / "pid"))

    def test_attempts_end_exactly_once_under_random_kills(self, backend: Backend, tmp_path: Path) -> None:
        """Processes that are killed and attempts that are aborted at random times free their slots."""
        random_kills = RandomKills(backend, tmp_path, seed=0)
        random_kills.run(turns=30)
        drive(backend, [job(trial=1_000), job(trial=1_001)])
        backend.close()
        for process in random_kills.processes():
            wait_for_end(process)

    def test_full_disk_does_not_count_as_failure_of_training_code(self, backend: Backend) -> None:
        """A full disk is recognized also if a library wraps the exception, and the slot stays usable."""
        *_, filled = drive(backend, [job(hparams={"do": "lack_space"})])
        assert isinstance(filled, e.StorageFailed)
        assert filled.error.startswith("RuntimeError: the library can't write its file\n")
        assert "No space left on device" in filled.error
        assert filled.cause == e.FULL
        assert drive(backend, [job(trial=1), job(trial=2)])

    def test_storage_outage_does_not_count_as_failure_of_training_code(self, backend: Backend) -> None:
        """An outage is recognized also if a library wraps the exception, and the slot stays usable."""
        *_, failed = drive(backend, [job(hparams={"do": "lose_storage"})])
        assert isinstance(failed, e.StorageFailed)
        assert failed.error.startswith("can't upload s3://bucket/x: the token has expired\n")
        assert failed.cause == e.UNREACHABLE
        assert drive(backend, [job(trial=1), job(trial=2)])

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
    def test_crash_ends_its_attempt_only(self, backend: Backend, misdeed: str, words: Sequence[str]) -> None:
        """Earlier reports come first, the error says why it failed, and the slot stays usable."""
        bad = job(trial=0, target=5, hparams={"do": misdeed, "at": 2})
        events = drive(backend, [bad, job(trial=1, target=3)])
        of_bad = [event for event in events if getattr(event, "trial", None) == 0]
        assert reported(of_bad) == [1, 2]
        assert isinstance(of_bad[-1], e.AttemptFailed)
        for word in words:
            assert word in of_bad[-1].error
        assert sum(isinstance(event, e.FinalEvent) for event in of_bad) == 1
        assert e.AttemptEnded(1, 1, 3) in events
        assert e.AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2), job(trial=2)])

    def test_training_code_that_returns_too_early_fails(self, tmp_path: Path) -> None:
        """The error says what was expected."""
        backend = self.make(toy_spec(tmp_path, metric="accuracy"), tmp_path)
        try:
            *_, failed = drive(backend, [job(target=2)], say_nothing)
        finally:
            backend.close()
        assert isinstance(failed, e.AttemptFailed)
        assert "ended at 2 epochs without reporting 'accuracy'" in failed.error.partition("\n")[0]
        assert "'loss' (last at 2 epochs)" in failed.error

    def test_invalid_hyperparameters_and_stop(self, backend: Backend) -> None:
        """Invalid hyperparameters and ``trial.stop()`` end an attempt with different kinds of events."""
        invalid = job(trial=0, hparams={"do": "invalid"})
        stops = job(trial=1, hparams={"do": "stop"})
        events = drive(backend, [invalid, stops])
        assert e.HparamsInvalid(0, 1, "they make no sense") in events
        assert e.TrialStopped(1, 1) in events

    def test_missing_training_code_raises(self, tmp_path: Path) -> None:
        """No trial can run, so the backend raises instead of failing trials."""
        entrypoint = Entrypoint(EntrypointKind.FUNCTION, "ashwood.testing.training:trian")
        backend = self.make(toy_spec(tmp_path, entrypoint=entrypoint), tmp_path)
        try:
            backend.dispatch([job()])
            with pytest.raises(BackendError, match=r"did you mean 'train'\?"):
                list(events_of(backend))
        finally:
            backend.close()

    def test_close_ends_attempts_and_their_children(self, backend: Backend, tmp_path: Path) -> None:
        """No process outlives the backend."""
        backend.dispatch([job(target=2, hparams={"do": "fork", "at": 1, "pid_file": str(tmp_path / "pid")})])
        for event in events_of(backend):
            if isinstance(event, e.ValidationReported) and event.length == 2:
                break
        child = int((tmp_path / "pid").read_text())
        backend.close()
        wait_for_end(child)


class RandomKills(RandomCommands):
    """A `RandomCommands` that also kills processes.

    Args:
        backend: the backend.
        directory: directory to which processes write their ids.
        seed: seed of the commands and kills; their timing is not reproducible.
    """

    def __init__(self, backend: Backend, directory: Path, seed: int) -> None:
        super().__init__(backend, seed)
        self._directory = directory

    def hparams(self, trial: int) -> dict[str, Any]:
        """Return the hyperparameters of a trial."""
        return super().hparams(trial) | {"do": "tell", "pid_file": str(self._pid_file(trial))}

    def processes(self) -> list[int]:
        """Return the ids of all processes that ran attempts."""
        texts = (path.read_text() for path in self._directory.glob("random_kills-*"))
        return [int(text) for text in texts if text]

    def _send_random(self, trial: int, attempt: int) -> None:
        if self._random.random() < 0.5:
            super()._send_random(trial, attempt)
        elif self._pid_file(trial).exists() and (process := self._pid_file(trial).read_text()):
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)

    def _pid_file(self, trial: int) -> Path:
        return self._directory / f"random_kills-{trial}"


def wait_for_number(path: Path, patience: float = PATIENCE) -> int:
    """Wait until a process has written a number to a file, such as its id, and return it."""
    deadline = time.monotonic() + patience
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"no process wrote {path}"
        time.sleep(0.01)
    return int(path.read_text())


def wait_for_end(process: int, patience: float = PATIENCE) -> None:
    """Wait until a process, of whatever parent, is gone or a zombie."""
    deadline = time.monotonic() + patience
    while _lives(process):
        assert time.monotonic() < deadline, f"process {process} is still running"
        time.sleep(0.01)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:  # Linux lists a dead process as a zombie (Z) until its parent has waited for it
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self/stat").exists()
