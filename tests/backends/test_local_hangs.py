"""Attempts that must stop and hang, in real processes; see also the contract of process backends."""

import sys
from pathlib import Path

import pytest

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.port import Suspend
from ashwood.experiment.events import AttemptEnded, AttemptPreempted, CheckpointSaved, FinalEvent, ValidationReported
from ashwood.experiment.spec import EntrypointKind
from ashwood.testing.backend import drive, events_of, job
from ashwood.testing.process_backend import wait_for_end, wait_for_number
from tests.backends.helpers import Make

KILLED = AttemptPreempted(0, 1, "it finished no step and no save for 0.3 s after the request to stop", hung=True)


def final_event(backend: LocalBackend) -> FinalEvent:
    return next(event for event in events_of(backend) if isinstance(event, FinalEvent))


def suspend_after_report(backend: LocalBackend) -> None:
    next(event for event in events_of(backend) if isinstance(event, ValidationReported))
    backend.dispatch([Suspend(0, 1)])


@pytest.mark.parametrize("misdeed", ["hang", "swallow"])
def test_hung_command_is_killed_with_all_its_processes(tmp_path: Path, make: Make, misdeed: str) -> None:
    backend = make(f"{sys.executable} -m ashwood.testing.training; true", EntrypointKind.COMMAND, grace_period=0.3)
    backend.dispatch([job(target=5, hparams={"do": misdeed, "at": 1, "pid_file": str(tmp_path / "pid")})])
    process = wait_for_number(tmp_path / "pid")
    backend.dispatch([Suspend(0, 1)])
    assert final_event(backend) == KILLED
    wait_for_end(process)
    assert AttemptEnded(0, 2, 1) in drive(backend, [job(attempt=2)])


@pytest.mark.parametrize("forks", [False, True], ids=["inline", "forked"])
def test_training_code_that_hangs_while_it_saves_is_killed(tmp_path: Path, make: Make, forks: bool) -> None:
    (tmp_path / "saving.py").write_text(
        "import os, pathlib, ctypes\n\n"
        "def save(directory):\n"
        "    (directory / 'model').write_text('a part')\n"
        "    pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "    ctypes.PyDLL(None).sleep(3600)\n\n"
        "def train(trial):\n"
        "    for epoch in trial.epochs():\n"
        "        trial.report(loss=1.0, checkpoint=save)\n"
    )
    backend = make("saving:train", grace_period=0.3, process_per_attempt=forks)
    backend.dispatch([job(target=10**9)])
    suspend_after_report(backend)
    assert final_event(backend) == KILLED
    wait_for_end(wait_for_number(tmp_path / "pid"))


def test_code_that_hangs_after_it_saved_keeps_its_checkpoint(tmp_path: Path, make: Make) -> None:
    (tmp_path / "after.py").write_text(
        "import ctypes\n\n"
        "def train(trial):\n"
        "    for epoch in trial.epochs():\n"
        "        trial.report(loss=1.0, checkpoint=lambda d: (d / 'model').write_text('weights'))\n"
        "    ctypes.PyDLL(None).sleep(3600)\n"
    )
    backend = make("after:train", grace_period=0.3)
    backend.dispatch([job(target=10**9)])
    suspend_after_report(backend)
    saved = next(event for event in events_of(backend) if isinstance(event, CheckpointSaved))
    assert saved.length > 0
    assert final_event(backend) == KILLED
