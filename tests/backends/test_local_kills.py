"""Processes that are killed: told alike in all modes, and nobody is left who could do harm."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.port import Abort, Command, ContinueAttempt
from ashwood.experiment.events import AttemptEnded, AttemptFailed, AttemptStarted, ValidationReported
from ashwood.experiment.spec import EntrypointKind
from ashwood.testing.backend import drive, events_of, job
from ashwood.testing.process_backend import RandomKills, wait_for_end, wait_for_number
from tests.backends.helpers import Make, error, write

TOY = "ashwood.testing.training:train"
COMMAND = f"exec {sys.executable} -m ashwood.testing.training"

Mode = Callable[[Make], LocalBackend]
INLINE: Mode = lambda make: make(TOY)  # noqa: E731
FORKED: Mode = lambda make: make(TOY, process_per_attempt=True)  # noqa: E731
SHELL: Mode = lambda make: make(COMMAND, EntrypointKind.COMMAND)  # noqa: E731

modes = pytest.mark.parametrize("mode", [INLINE, FORKED, SHELL], ids=["inline", "forked", "command"])
with_children = pytest.mark.parametrize(
    ("mode", "process"),
    [(FORKED, "the process of the trial"), (SHELL, "the command")],
    ids=["forked", "command"],
)


@with_children
def test_killed_child_is_reported_like_killed_worker_and_worker_survives(make: Make, mode: Mode, process: str) -> None:
    backend = mode(make)
    events = drive(backend, [job(target=5, hparams={"do": "kill", "at": 1})])
    assert error(events) == f"{process} was killed by SIGKILL: perhaps out of memory"
    worker = backend._slot_states[0].worker
    assert drive(backend, [job(attempt=2)])[-1] == AttemptEnded(0, 2, 1)
    assert backend._slot_states[0].worker is worker


@with_children
def test_worker_survives_abort_of_its_child(tmp_path: Path, make: Make, mode: Mode, process: str) -> None:
    backend = mode(make)
    start = job(hparams={"do": "tell", "until": "doomsday", "pid_file": str(tmp_path / "pid")})
    backend.dispatch([start])
    child = wait_for_number(tmp_path / "pid")
    worker = backend._slot_states[0].worker
    for event in events_of(backend):
        if isinstance(event, AttemptStarted):  # so the group is known
            break
    assert worker is not None
    os.kill(worker.pid, signal.SIGSTOP)  # nor does it need its help
    backend.dispatch([Abort(0, 1)])
    assert drive(backend, [start]) == [AttemptFailed(0, 1, "killed on request")]
    wait_for_end(child)
    assert drive(backend, [job(attempt=2)])[-1] == AttemptEnded(0, 2, 1)
    assert backend._slot_states[0].worker is worker


def test_child_that_holds_socket_of_killed_worker_is_killed(tmp_path: Path, make: Make) -> None:
    backend = INLINE(make)
    start = job(target=2, hparams={"do": "fork", "pid_file": str(tmp_path / "pid")})

    def answer(_: ValidationReported) -> None:
        worker = backend._slot_states[0].worker
        assert worker is not None
        os.kill(worker.pid, signal.SIGKILL)

    events = drive(backend, [start], answer)
    assert error(events) == "the worker process was killed by SIGKILL: perhaps out of memory"
    wait_for_end(wait_for_number(tmp_path / "pid"))


@with_children
def test_child_of_killed_worker_is_killed(tmp_path: Path, make: Make, mode: Mode, process: str) -> None:
    backend = mode(make)
    start = job(hparams={"do": "tell", "until": "doomsday", "pid_file": str(tmp_path / "pid")})
    backend.dispatch([start])
    child = wait_for_number(tmp_path / "pid")
    worker = backend._slot_states[0].worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert error(drive(backend, [start])).startswith("the worker process was killed by SIGKILL: perhaps out of memory")
    wait_for_end(child)


AGAIN = """
from ashwood.trial import get_trial

trial = get_trial()
list(trial.epochs())
trial.report(loss=1, checkpoint=lambda d: (d / "x").touch())
"""


def test_abort_between_two_runs_of_command_kills_second_run(tmp_path: Path, make: Make) -> None:
    (tmp_path / "script.py").write_text(AGAIN)
    backend = make(f"{sys.executable} script.py", EntrypointKind.COMMAND)

    def answer(report: ValidationReported) -> Command:
        worker = backend._slot_states[0].worker
        assert worker is not None
        assert report.length == 1
        worker.group = 2**22 + 1  # as if the first run had ended already: nobody has such a number
        backend.dispatch([Abort(0, 1)])
        return ContinueAttempt(0, 1, 2)

    assert drive(backend, [job()], answer)[-1] == AttemptFailed(0, 1, "killed on request")


GATE = """
import os, pathlib, time

pathlib.Path("pid").write_text(str(os.getpid()))
while not pathlib.Path("go").exists():
    time.sleep(0.01)
"""


def test_worker_killed_during_import_fails_only_its_attempt(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_gate.py", "")
    (tmp_path / "code_gate.py").write_text(GATE + (tmp_path / "code_gate.py").read_text())
    backend = make("code_gate:train")
    backend.dispatch([job()])
    os.kill(wait_for_number(tmp_path / "pid"), signal.SIGKILL)
    events = drive(backend, [job()])
    assert "killed by SIGKILL: perhaps out of memory while it imported the training code" in error(events)
    (tmp_path / "go").touch()
    assert drive(backend, [job(attempt=2)])[-1] == AttemptEnded(0, 2, 1)


def test_import_that_fails_later_fails_only_its_attempt(tmp_path: Path, make: Make) -> None:
    write(tmp_path, "code_worked.py", "if trial.id == 1: os._exit(3)")
    backend = make("code_worked:train", workers=1)
    assert drive(backend, [job()])[-1] == AttemptEnded(0, 1, 1)
    code = tmp_path / "code_worked.py"
    worked = code.read_text()
    code.write_text("raise RuntimeError('edited meanwhile')\n")
    assert "exit code 3" in error(drive(backend, [job(trial=1)]))  # the worker that has it loaded is gone
    assert "RuntimeError: edited meanwhile" in error(drive(backend, [job(trial=2)]))
    code.write_text(worked)
    assert drive(backend, [job(trial=2, attempt=2)])[-1] == AttemptEnded(2, 2, 1)


@modes
def test_workers_may_be_killed_at_any_instant(tmp_path: Path, make: Make, mode: Mode) -> None:
    backend = mode(lambda *arguments, **options: make(*arguments, workers=2, **options))
    Sabotage(backend, tmp_path, seed=1).run(turns=20)
    drive(backend, [job(trial=1_000), job(trial=1_001)])


class Sabotage(RandomKills):
    """A storm that hits workers too, whatever they do, and the worker reaper."""

    def _send_random(self, trial: int, attempt: int) -> None:
        super()._send_random(trial, attempt)
        backend = self._backend
        assert isinstance(backend, LocalBackend)
        workers = [place.worker for place in backend._slot_states if place.worker is not None]
        if workers and self._random.random() < 0.3:
            os.kill(self._random.choice(workers).pid, signal.SIGKILL)
        if backend._reaper is not None and self._random.random() < 0.1:
            os.kill(backend._reaper.pid, signal.SIGKILL)
