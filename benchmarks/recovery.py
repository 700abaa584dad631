"""What a crash costs: how soon a large experiment goes on, what requests cost, what is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path

from tests.engine.instant_backend import InstantBackend, Quiet
from tests.torture.rack import Rack, random_cases

from ashwood.checkpoints import open_storage
from ashwood.config import read_experiment
from ashwood.engine import open_home, worker_hosts
from ashwood.engine.session import Session
from ashwood.errors import NotFound
from ashwood.experiment.events import CheckpointSaved, Event, SettingsChanged, ValidationReported
from ashwood.experiment.spec import ExperimentSpec
from benchmarks import ours
from benchmarks.steps import Steps
from benchmarks.tables import Options, Table
from benchmarks.workload import Workload

_MAX_LENGTH = 192
"""Three rungs at 12, 48 and 192 steps: 30 reports a trial."""
_REQUESTS_PER_SECOND = 200


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` resumes a twentieth of the trials and kills 20 times."""
    yield _resume(500 if options.quick else 10_000)
    yield _requests(
        {
            "steps of 20 ms": Workload(trials=40 if options.quick else 160, workers=8, step_seconds=0.02),
            "steps that cost nothing": Workload(trials=200 if options.quick else 2_000, workers=2, step_seconds=0),
        }
    )
    yield _torture(20 if options.quick else 1_000)


# -- how soon it goes on ------------------------------------------------------------------------


def _resume(trials: int) -> Table:
    reports = 30 * trials
    with tempfile.TemporaryDirectory() as directory:
        place = _SlotState(Path(directory), trials)
        place.build(reports)
        killed = place.seconds_to_first_step(signal.SIGKILL)
        killed_again = place.seconds_to_first_step(signal.SIGINT)
        paused = place.seconds_to_first_step(signal.SIGKILL)
        place.snapshot.unlink()
        folded = place.seconds_to_first_step(signal.SIGKILL)
    return Table(
        "Resume",
        f"Seconds from the command `ashwood resume` to the first training step of an experiment with {trials:,} trials "
        f"and {reports:,} reports, 2 workers. Aim: under 3 with 10,000 trials.",
        ["", "seconds"],
        [
            ["after kill -9 of a driver that had run it all", killed],
            ["after kill -9 of a driver that had just begun", killed_again],
            ["after a pause", paused],
            ["after kill -9, without a snapshot", folded],
        ],
    )


class _SlotState:
    """A directory with a large experiment.

    Attributes:
        snapshot: what spares a driver to fold the log again.
    """

    def __init__(self, path: Path, trials: int) -> None:
        self._path = path
        self._log = path / "steps"
        self._home = path / "home"
        self.snapshot = self._home / "experiments" / "1" / "snapshot"
        self._file = path / "large.yaml"
        self._file.write_text(json.dumps(_experiment(trials, self._log)))  # JSON is YAML

    def build(self, reports: int) -> None:
        """Run the experiment in a process that is killed when there are so many reports."""
        driver = os.fork()
        if driver == 0:
            try:
                self._run(reports)
            finally:
                os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]) != -signal.SIGKILL:
            raise RuntimeError("the experiment could not be built")

    def seconds_to_first_step(self, end: signal.Signals) -> float:
        """Resume it, and end the driver with a signal as soon as training has begun."""
        self._log.unlink(missing_ok=True)
        command = [str(Path(sys.executable).with_name("ashwood")), "resume", "1", "--workers", "2"]
        environment = {**os.environ, "ASHWOOD_HOME": str(self._home), "PYTHONPATH": ours.python_path()}
        began = time.monotonic()
        with (self._path / "output").open("w") as output:
            driver = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        while not self._log.exists() or not self._log.read_text().endswith("\n"):
            if driver.poll() is not None:
                raise RuntimeError(f"ashwood failed:\n{(self._path / 'output').read_text()[-2000:]}")
            time.sleep(0.005)
        first = min(float(line.split()[1]) for line in self._log.read_text().splitlines())
        driver.send_signal(end)
        driver.wait()
        self._wait_for_workers()
        return first - began

    def _wait_for_workers(self) -> None:
        """Workers of a dead driver save and leave; that is no part of resuming at a later time."""
        lock = self._home / "experiments" / "1" / "workers.lock"
        while any(_holds(process, lock) for process in Path("/proc").iterdir() if process.name.isdigit()):
            time.sleep(0.01)

    def _run(self, reports: int) -> None:
        loaded = read_experiment(self._file, overrides=[], default_seed=0)
        with open_home(self._home, create=True) as home:
            # All of a real driver, but for the processes that train.
            worker_hosts.LocalBackend = partial(_Trainers, reports=reports)  # type: ignore[misc,assignment]
            Session.create(home, loaded.spec, at=time.time()).run(Quiet())


class _Trainers(InstantBackend):
    """Trains in no time, saves real checkpoints, and takes the driver down after so many reports."""

    def __init__(self, _spec: ExperimentSpec, *, checkpoints: str, reports: int, **_: object) -> None:
        super().__init__(lambda hparams, _: hparams["x"], slots=16)
        self._storage = open_storage(checkpoints)
        self._left = reports

    def __enter__(self) -> _Trainers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next_events(self, timeout: float | None) -> Sequence[Event]:  # noqa: ARG002 - it never has to wait
        events = [self._events.popleft() for _ in range(min(50, len(self._events)))]
        self._left -= sum(isinstance(event, ValidationReported) for event in events)
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return [self._saved(event) if isinstance(event, CheckpointSaved) else event for event in events]

    def _saved(self, event: CheckpointSaved) -> CheckpointSaved:
        name = f"trial-{event.trial}/length-{event.length}-attempt-{event.attempt}"
        self._storage.save(name, lambda directory: (directory / "state").touch())
        return event._replace(path=name)


def _experiment(trials: int, log: Path) -> dict[str, object]:
    return {
        "name": "large",
        "entrypoint": "benchmarks.toy:train",
        "data": {"log": str(log), "step_seconds": 0.01},
        "hyperparameters": {"x": {"type": "double", "minval": 0.0, "maxval": 1.0}},
        # A few more than are measured, so that there is something left to do.
        "searcher": {
            "name": "async_halving",
            "metric": "loss",
            "max_length": _MAX_LENGTH,
            "max_trials": trials * 11 // 10,
            "num_rungs": 3,
            "divisor": 4,
        },
    }


def _holds(process: Path, file: Path) -> bool:
    try:
        return any(handle.readlink() == file for handle in (process / "fd").iterdir())
    except OSError:  # gone, or another user's
        return False


# -- what requests cost -------------------------------------------------------------------------


def _requests(workloads: Mapping[str, Workload]) -> Table:
    rows: list[list[object]] = []
    for name, workload in workloads.items():
        quiet, _ = _trials_per_second(workload, 0)
        busy, posted = _trials_per_second(workload, _REQUESTS_PER_SECOND)
        rows.append([f"{name}, {workload.workers} workers", posted, quiet, busy, 100 * busy / quiet])
    return Table(
        "Requests",
        "Trials/s of a whole search, left alone and while another thread asks it to change its settings so many times "
        f"a second, each request made durable. Aim: {_REQUESTS_PER_SECOND} a second don't disturb. Where steps cost "
        "nothing, whatever needs the processor or the disk takes it from the search.",
        ["", "requests/s", "left alone", "asked", "share, %"],
        rows,
    )


def _trials_per_second(workload: Workload, rate: int) -> tuple[float, float]:
    """Trials and requests a second."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "steps")
        over = threading.Event()
        posted = 0

        def post() -> None:
            nonlocal posted
            home = None
            due = time.monotonic()
            while rate and not over.wait(max(0.0, due - time.monotonic())):
                due += 1 / rate
                try:
                    home = home or open_home(Path(directory, "home"))
                    home.store.post(1, SettingsChanged({"max_concurrent_trials": 16}), at=time.time())
                    posted += 1
                except NotFound:
                    continue
            if home is not None:
                home.close()

        poster = threading.Thread(target=post)
        poster.start()
        try:
            run = ours.search("promotion", workload, Path(directory), log)
        finally:
            over.set()
            poster.join()
        steps = Steps.read(log, workload)
        seconds = run.ended - steps.first
        return steps.trials / seconds, posted / seconds


# -- what is lost -------------------------------------------------------------------------------


def _torture(kills: int) -> Table:
    with tempfile.TemporaryDirectory() as directory:
        rack = Rack(Path(directory))
        cases = takewhile(lambda _: rack.totals.kills < kills, random_cases(0))
        rack.work_off(cases, jobs=2, tell=lambda line: print(line, file=sys.stderr))
    totals = rack.totals
    return Table(
        "Kills",
        f"Drivers and workers of small experiments are killed at random instants ({totals.experiments} experiments of "
        "all methods; `make torture`), and what is left is compared with undisturbed runs. The peers were killed once "
        "each, in the middle of 100 trials, and measured earlier.",
        ["", "kills", "reports acknowledged", "lost", "steps repeated beyond the last checkpoint", "manual steps"],
        [
            ["Ashwood", totals.kills, totals.reports, totals.lost, totals.beyond, totals.manual],
            ["Ray Tune", 1, 851, 28, "up to 164", None],
            ["Syne Tune", 1, None, "39 to 48", None, None],
            ["Optuna, SQLite", 1, None, 0, None, "running trials stay, never finished"],
        ],
    )
