"""Starts drivers in the background."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ashwood.checkpoints.regular import open_to_append, open_to_read
from ashwood.engine import Home, open_home
from ashwood.errors import AshwoodError, RequestRefused
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.lifecycle import Action, ExperimentState, allowed_actions

_POLL_SECONDS = 0.05
_RELEASE_SECONDS = 30.0
_START_SECONDS = 60.0
_LAST_LINES = 20


def start_driver(
    home: str | None, experiment: ExperimentId, options: Sequence[str] = ()
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a driver that outlives this process; return its process and the file with its output.

    Args:
        home: the home as ``--home`` takes it, or None for the default home.
        experiment: ID of the experiment.
        options: options of ``ashwood resume``.

    Raises:
        RequestRefused: the experiment is running or has ended, or trials of its former driver are still running.
        AshwoodError: the driver ended without having started the experiment.
    """
    with open_home(home) as opened:
        check_can_start(opened, experiment)
        log = opened.directory(experiment) / "driver.log"
        driver = _start(home, experiment, options, log)
        _wait_until_it_drives(opened, experiment, driver, log)
    return driver, log


def check_can_start(home: Home, experiment: ExperimentId) -> None:
    """Wait until a former driver has released the experiment, and check that it can be resumed.

    Raises:
        RequestRefused: the experiment is running or has ended, or trials of its former driver are still running.
    """
    _wait_for_former_driver(home, experiment)
    state = home.store.record(experiment).state
    if Action.ACTIVATE not in allowed_actions(state, interrupted=state.active):
        raise RequestRefused(
            f"experiment {experiment} is {state}: there is nothing left to run. To retry trials that failed: "
            f"ashwood resume {experiment} --retry-failed"
        )


def _wait_for_former_driver(home: Home, experiment: ExperimentId) -> None:
    deadline = time.monotonic() + _RELEASE_SECONDS
    while (state := home.store.record(experiment).state, home.is_driven(experiment))[1]:
        if state in (ExperimentState.CREATED, ExperimentState.RUNNING):
            raise RequestRefused(f"experiment {experiment} is running already")
        if time.monotonic() > deadline:
            raise RequestRefused(
                f"experiment {experiment} is still {state}: some trials have not released their workers yet; try again "
                "later"
            )
        time.sleep(_POLL_SECONDS)


def _start(home: str | None, experiment: ExperimentId, options: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    # Passed in the environment: the home may be a URL with a password, and all users can read command lines.
    environment = {**os.environ, **({} if home is None else {"ASHWOOD_HOME": home})}
    try:
        out = open_to_append(log)
    except OSError as error:
        raise AshwoodError(f"cannot write the driver's output: {log} {error.strerror}; remove it") from None
    with out:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "ashwood", "resume", str(experiment), *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _wait_until_it_drives(home: Home, experiment: ExperimentId, driver: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the driver runs the experiment, waits for GPUs, or has already finished the experiment."""
    start = log.stat().st_size
    deadline = time.monotonic() + _START_SECONDS
    while True:
        code = driver.poll()
        if code == 0 or (code is None and _drives(home, experiment, driver)):
            return
        if code is not None:
            raise AshwoodError(f"experiment {experiment} could not be resumed:\n{_last_lines(log, start)}")
        if time.monotonic() > deadline:
            raise AshwoodError(f"the driver of experiment {experiment} (pid {driver.pid}) has not started; see {log}")
        time.sleep(_POLL_SECONDS)


def _drives(home: Home, experiment: ExperimentId, driver: subprocess.Popen[bytes]) -> bool:
    lease, record = home.store.lease(experiment), home.store.record(experiment)
    if lease is None or lease.driver.process != driver.pid:
        return False
    return record.state is ExperimentState.RUNNING or home.waits_for(record) is not None


def _last_lines(log: Path, start: int) -> str:
    with open_to_read(log) as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:]) or f"the driver printed nothing; see {log}"
