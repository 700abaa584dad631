"""Nothing outlives its driver for long, and nothing at all lives on into the time of the next."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local import reaper, worker_lock
from ashwood.backends.local.process import ReaperProcess
from ashwood.backends.local.worker_lock import clear_former_workers
from ashwood.errors import BackendError
from ashwood.testing.process_backend import wait_for_end, wait_for_number
from tests.backends.test_local_launchers import LAUNCH

DRIVER = """
import json, os, sys, time
from pathlib import Path
from ashwood.backends.local.backend import LocalBackend
from ashwood.experiment.events import ValidationReported
from ashwood.backends.port import StartAttempt
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, SaveOn, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Space

directory, kind, target, per_attempt, grace, goal, hparams, forks, deaf = json.loads(sys.argv[1])
directory = Path(directory)
search = SearchSettings(method=Method.RANDOM, max_length=100, max_trials=100)
spec = ExperimentSpec(name="driver", space=Space({}), search=search, metric="loss", unit=Unit.EPOCHS, seed=0,
                      entrypoint=Entrypoint(EntrypointKind(kind), target), workdir=str(directory), save_on=SaveOn.NONE)
backend = LocalBackend(spec, checkpoints=directory / "checkpoints", logs=directory / "logs", workers=1,
                       process_per_attempt=per_attempt, worker_lock=directory / "workers.lock", grace=grace)
backend.dispatch([StartAttempt(0, 1, goal, hparams, seed=0, length=0, checkpoint=None)])
(directory / "worker").write_text(str(backend._slot_states[0].worker.pid))
(directory / "reaper").write_text(str(backend._reaper.pid))
if forks and os.fork() == 0:
    (directory / "fork").write_text(str(os.getpid()))
    time.sleep(600)
while deaf:
    time.sleep(600)
while True:
    for event in backend.next_events(timeout=None):
        if isinstance(event, ValidationReported):
            (directory / "reported").write_text(str(event.length))
"""

TOY = "ashwood.testing.training:train"
MODES = [
    pytest.param(("function", TOY, False), id="inline"),
    pytest.param(("function", TOY, True), id="forked"),
    pytest.param(("command", f"exec {sys.executable} -m ashwood.testing.training", False), id="command"),
]
Mode = tuple[str, str, bool]


class Driver:
    """A driver in a process of its own, with one worker."""

    def __init__(self, directory: Path, mode: Mode, hparams: dict[str, Any], grace: float, target: int, **how: bool):
        self.directory = directory
        hparams = {"pid_file": str(directory / "pid"), **hparams}
        arguments = json.dumps([str(directory), *mode, grace, target, hparams, how["forks"], how["deaf"]])
        self.process = subprocess.Popen([sys.executable, "-c", DRIVER, arguments])

    def number(self, name: str) -> int:
        return wait_for_number(self.directory / name)

    def kill(self, *others: str) -> None:
        """Kill it, and others by the files that hold their numbers, before any can see another die."""
        numbers = [self.number(name) for name in others]
        self.process.send_signal(signal.SIGSTOP)
        for number in (*numbers, self.process.pid):
            os.kill(number, signal.SIGKILL)
        self.process.wait()


Drive = Callable[..., Driver]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    drivers: list[Driver] = []

    def drive(
        mode: Mode, *, grace: float = 10.0, target: int = 10**6, forks: bool = False, deaf: bool = False, **hparams: Any
    ) -> Driver:
        drivers.append(Driver(tmp_path, mode, hparams, grace, target, forks=forks, deaf=deaf))
        return drivers[-1]

    yield drive
    for driver in drivers:
        driver.process.kill()
        driver.process.wait()
    clear_former_workers(tmp_path / "workers.lock", grace=-worker_lock._MARGIN)


def saved(directory: Path) -> list[str]:
    return [path.name for path in (directory / "checkpoints").glob("trial-0/*")]


# -- the driver dies --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("victims", [[], ["reaper"]], ids=["driver", "driver and reaper"])
def test_trial_in_long_step_saves_after_driver_died(
    tmp_path: Path, drive: Drive, mode: Mode, victims: list[str]
) -> None:
    driver = drive(mode, do="tell", at=1, until=str(tmp_path / "go"))
    trial = driver.number("pid")
    driver.kill(*victims)
    (tmp_path / "go").touch()
    wait_for_end(trial, patience=5)
    wait_for_end(driver.number("worker"), patience=5)
    [name] = saved(tmp_path)
    # The worker tells a command that the driver is gone. Steps that take no time may go on until then.
    assert name == "length-2-attempt-1" or (mode[0] == "command" and name.startswith("length-"))


@pytest.mark.parametrize("mode", MODES)
def test_trial_that_waits_for_command_saves_after_driver_died(tmp_path: Path, drive: Drive, mode: Mode) -> None:
    driver = drive(mode, target=1, do="tell")
    driver.number("reported")
    driver.kill("reaper")
    wait_for_end(driver.number("pid"), patience=5)
    wait_for_end(driver.number("worker"), patience=5)
    assert saved(tmp_path) == ["length-1-attempt-1"]


@pytest.mark.parametrize("mode", MODES)
def test_children_of_trial_are_killed_after_driver_died(drive: Drive, mode: Mode) -> None:
    driver = drive(mode, do="fork", seconds=0.01)
    child = driver.number("pid")
    driver.kill()
    wait_for_end(child, patience=5)


LAUNCHED = ("command", f"exec {sys.executable} launch.py 2 -m ashwood.testing.training", False)


@pytest.mark.parametrize("victims", [[], ["reaper"]], ids=["driver", "driver and reaper"])
def test_ranks_in_own_sessions_save_and_exit(tmp_path: Path, drive: Drive, victims: list[str]) -> None:
    (tmp_path / "launch.py").write_text(LAUNCH)
    driver = drive(LAUNCHED, do="tell", at=1, until=str(tmp_path / "go"))
    driver.number("reported")
    driver.kill(*victims)
    (tmp_path / "go").touch()
    wait_for_end(driver.number("worker"), patience=10)
    # Steps that take no time go on until the worker tells rank 0 that the driver is gone.
    [name] = saved(tmp_path)
    assert name.startswith("length-")
    clear_former_workers(tmp_path / "workers.lock", on_wait=forbid)


def test_ranks_in_own_sessions_are_killed_if_they_hang(tmp_path: Path, drive: Drive) -> None:
    (tmp_path / "launch.py").write_text(LAUNCH)
    driver = drive(LAUNCHED, grace=0.1, do="tell", at=1, until="doomsday")
    driver.number("reported")
    driver.kill()
    wait_for_end(driver.number("pid"))


IMPORTS = """
import os, pathlib, time
pathlib.Path("importing").write_text(str(os.getpid()))
while not pathlib.Path("go").exists():
    time.sleep(0.01)

def train(trial):
    pathlib.Path("trained").touch()
"""


@pytest.mark.parametrize("reaper_dies", [False, True])
def test_worker_that_imports_when_driver_dies_never_trains(tmp_path: Path, drive: Drive, reaper_dies: bool) -> None:
    (tmp_path / "code_imports.py").write_text(IMPORTS)
    driver = drive(("function", "code_imports:train", False), grace=0.1)
    worker = driver.number("importing")
    driver.kill(*["reaper"] * reaper_dies)
    if reaper_dies:
        (tmp_path / "go").touch()
    wait_for_end(worker, patience=5)
    assert not (tmp_path / "trained").exists()


@pytest.mark.parametrize("deaf", [False, True], ids=["", "before the driver heard of it"])
def test_command_that_never_connects_is_killed_after_driver_died(drive: Drive, deaf: bool) -> None:
    command = "trap '' TERM INT HUP; echo $$ > pid; sleep 1000 & wait; wait"
    driver = drive(("command", command, False), grace=0.1, deaf=deaf)
    shell = driver.number("pid")
    driver.kill()
    wait_for_end(shell, patience=5)


def test_fork_of_driver_that_holds_sockets_keeps_no_worker_alive(drive: Drive) -> None:
    driver = drive(MODES[0].values[0], target=1, grace=0.1, forks=True)
    fork = driver.number("fork")
    driver.number("reported")
    driver.kill()
    try:
        wait_for_end(driver.number("worker"), patience=5)
    finally:
        os.kill(fork, signal.SIGKILL)


# -- the next driver --------------------------------------------------------------------------


@pytest.fixture
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_lock, "_MARGIN", 0.0)


def forbid(processes: int, seconds: float) -> None:
    raise AssertionError(f"waits {seconds} s for {processes} processes")


def test_clear_former_workers_returns_at_once_if_there_are_none(tmp_path: Path) -> None:
    clear_former_workers(tmp_path / "workers.lock", on_wait=forbid)
    with worker_lock.held(tmp_path / "workers.lock"):
        pass
    clear_former_workers(tmp_path / "workers.lock", on_wait=forbid)


def test_clear_former_workers_waits_for_saves(tmp_path: Path, drive: Drive) -> None:
    driver = drive(MODES[0].values[0], do="tell", at=1, until=str(tmp_path / "go"))
    driver.number("pid")
    driver.kill("reaper")
    waits: list[tuple[int, float]] = []

    def on_wait(*wait: Any) -> None:
        waits.append(wait)
        (tmp_path / "go").touch()

    clear_former_workers(tmp_path / "workers.lock", on_wait=on_wait)
    assert waits == [(1, reaper.GRACE + worker_lock._MARGIN)]
    assert saved(tmp_path) == ["length-2-attempt-1"]
    clear_former_workers(tmp_path / "workers.lock", on_wait=forbid)


@pytest.mark.usefixtures("no_margin")
@pytest.mark.parametrize(
    ("mode", "stopped"),
    [(MODES[0].values[0], True), (MODES[1].values[0], True), (MODES[2].values[0], False)],
    ids=["inline, stopped", "forked, stopped", "command"],
)
def test_workers_are_killed_after_grace_period(tmp_path: Path, drive: Drive, mode: Mode, stopped: bool) -> None:
    driver = drive(mode, do="tell", at=1, until="doomsday")
    trial, worker = driver.number("pid"), driver.number("worker")
    driver.kill("reaper")
    for process in {trial, worker} if stopped else ():  # before, the system would wake them with SIGHUP
        os.kill(process, signal.SIGSTOP)
    waits: list[tuple[int, float]] = []
    clear_former_workers(tmp_path / "workers.lock", grace=0.1, on_wait=lambda *wait: waits.append(wait))
    wait_for_end(trial, patience=5)
    wait_for_end(worker, patience=5)
    assert waits == [(len({trial, worker}), 0.1)]
    assert saved(tmp_path) == []


@pytest.mark.usefixtures("no_margin")
def test_ranks_in_own_sessions_hold_worker_lock(tmp_path: Path, drive: Drive) -> None:
    (tmp_path / "launch.py").write_text(LAUNCH)
    driver = drive(LAUNCHED, do="tell", at=1, until="doomsday")
    driver.number("reported")
    rank = driver.number("pid")
    driver.kill("reaper", "worker")
    waits: list[tuple[int, float]] = []
    clear_former_workers(tmp_path / "workers.lock", grace=0.1, on_wait=lambda *wait: waits.append(wait))
    wait_for_end(rank, patience=5)
    assert waits
    assert saved(tmp_path) == []


@pytest.mark.usefixtures("no_margin")
def test_workers_of_stopped_driver_are_killed_but_not_driver(tmp_path: Path, drive: Drive) -> None:
    driver = drive(MODES[1].values[0], do="tell", at=1, until="doomsday")
    trial = driver.number("pid")
    driver.process.send_signal(signal.SIGSTOP)
    clear_former_workers(tmp_path / "workers.lock", grace=0.1)
    wait_for_end(trial, patience=5)
    os.kill(driver.number("reaper"), 0)
    assert driver.process.poll() is None


@pytest.mark.usefixtures("no_margin")
def test_only_processes_that_hold_worker_lock_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "workers.lock"
    with worker_lock.held(path) as descriptors:
        holder = subprocess.Popen(["sleep", "600"], pass_fds=descriptors)
    reader = subprocess.Popen(["tail", "-f", path], stdout=subprocess.DEVNULL)
    (tmp_path / "other").mkdir()
    with worker_lock.held(tmp_path / "other" / "workers.lock") as descriptors:
        namesake = subprocess.Popen(["sleep", "600"], pass_fds=descriptors)
    try:
        clear_former_workers(path, grace=0.0)
        assert holder.wait() == -signal.SIGKILL
        assert reader.poll() is None
        assert namesake.poll() is None
    finally:
        for process in (holder, reader, namesake):
            process.kill()
            process.wait()


@pytest.mark.usefixtures("no_margin")
def test_lock_holder_that_cannot_be_found_is_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_lock, "_PROCESSES", tmp_path / "nothing")
    monkeypatch.setattr(worker_lock, "_UNSEEN_SECONDS", 0.0)
    path = tmp_path / "workers.lock"
    waits: list[tuple[int, float]] = []
    with worker_lock.held(path), pytest.raises(BackendError, match=rf"{path} is locked by .* cannot be found"):
        clear_former_workers(path, grace=0.0, on_wait=lambda *wait: waits.append(wait))
    assert waits == [(0, 0.0)]


STARTS = """
import pathlib, subprocess

def train(trial):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, close_fds=False)
    pathlib.Path("pid").write_text(str(child.pid))
    for epoch in trial.epochs():
        trial.report(loss=1)
"""


def test_programs_of_training_code_do_not_hold_worker_lock(tmp_path: Path, drive: Drive) -> None:
    (tmp_path / "code_starts.py").write_text(STARTS)
    driver = drive(("function", "code_starts:train", False), target=1)
    child = driver.number("pid")
    try:
        driver.number("reported")
        driver.kill()
        wait_for_end(driver.number("worker"), patience=5)
        clear_former_workers(tmp_path / "workers.lock", on_wait=forbid)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


# -- the worker reaper ------------------------------------------------------------------------


def test_reaper_that_was_killed_is_replaced_and_knows_all_groups() -> None:
    sleepers = [subprocess.Popen(["sleep", "600"], process_group=0) for _ in range(2)]
    reaper_process = ReaperProcess(grace=0.0)
    try:
        reaper_process.watch(sleepers[0].pid)
        os.kill(reaper_process.pid, signal.SIGKILL)
        wait_for_end(reaper_process.pid)
        reaper_process.watch(sleepers[1].pid)
        reaper_process.close()
        assert [sleeper.wait() for sleeper in sleepers] == [-signal.SIGKILL] * 2
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


def test_reaper_leaves_process_alone_that_reuses_old_number() -> None:
    stranger = subprocess.Popen(["sleep", "600"], process_group=0)
    try:
        reaper.end({stranger.pid: b"1"}, grace=0.0)
        assert stranger.poll() is None
        reaper.end({stranger.pid: reaper.start_of(stranger.pid)}, grace=0.0)
        assert stranger.wait() == -signal.SIGKILL
    finally:
        stranger.kill()
        stranger.wait()
