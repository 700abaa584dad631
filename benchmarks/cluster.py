"""A Ray cluster of several nodes on this machine: Ashwood on it, and Ray Tune on the same one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.clusters import Nodes, ray_cluster

from ashwood.engine import open_home
from ashwood.errors import AshwoodError
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptPreempted, AttemptStarted
from benchmarks import ours
from benchmarks.ours import Ended
from benchmarks.peers import environment
from benchmarks.steps import Steps
from benchmarks.tables import Options, Table
from benchmarks.workload import Workload

_LIMIT = 900.0
"""Seconds that a search may take."""
_RAY_NOTICES = 20.0
"""Seconds until Ray knows that nodes are gone, and sends nobody there any more."""
_PATIENCE = 120.0
"""Seconds within which workers come, and a dead node's trials run elsewhere."""


class _System(NamedTuple):
    """A way to run a search on the cluster.

    Attributes:
        name: for people.
        variant: of Ashwood; None: Ray Tune.
        shared: whether Ashwood's checkpoints are kept where all nodes reach them; otherwise they travel to the driver.
        patience: how many trials it gets where steps cost nothing, as a share of what others get.
    """

    name: str
    variant: str | None
    shared: bool = True
    patience: float = 1.0


_STOPPING = _System("Ashwood, stopping", "stopping")
_PROMOTION = _System("Ashwood, promotion, shared directory", "promotion")
_TRAVELLING = _System("Ashwood, promotion, checkpoints travel", "promotion", shared=False, patience=0.2)
_TUNE = _System("Ray Tune ASHA, `reuse_actors`", None, patience=0.1)


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick``: less of everything."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    # For the nodes, whose workers have it from them.
    os.environ["PYTHONPATH"] = ours.python_path()
    peers = [_TUNE] if options.peers else []
    if options.peers:
        environment.prepare(["ray"])
    with ray_cluster() as nodes:
        yield _deaths(nodes, 1 if options.quick else 5)
        with _added(nodes, 4, cpus=4 if options.quick else 16):
            yield _utilisation(nodes.address, 16 if options.quick else 64, peers)
        with _added(nodes, 4, cpus=1):
            yield _long_trials(nodes.address, 100 if options.quick else 1_000, peers)
            yield _short_trials(nodes.address, 500 if options.quick else 5_000, peers)


@contextmanager
def _added(nodes: Nodes, count: int, cpus: int) -> Iterator[list[Any]]:
    """So many nodes more; whoever takes one away takes it out of the list."""
    added = [nodes.add(num_cpus=cpus) for _ in range(count)]
    try:
        yield added
    finally:
        for node in added:
            nodes.kill(node)
        time.sleep(_RAY_NOTICES)


# -- searches -----------------------------------------------------------------------------------


class _Run(NamedTuple):
    """A search that ran.

    Attributes:
        steps: what its training said.
        ended: when the driver began and ended, and its memory.
    """

    steps: Steps
    ended: Ended

    @property
    def seconds(self) -> float:
        """From the first step to the last."""
        return self.steps.last - self.steps.first


def _run(system: _System, workload: Workload, address: str) -> _Run | None:
    """Run a workload; None: it takes too long."""
    print(f"  {system.name}, {workload.trials} trials", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="ashwood-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        log = directory / "steps"
        try:
            if system.variant is None:
                with _environment(RAY_ADDRESS=address):
                    ended = environment.search("ray", "asha", workload, log, limit=_LIMIT)
            else:
                more = _more(address, directory if system.shared else None)
                ended = ours.search(system.variant, workload, directory, log, more=more, limit=_LIMIT)
        except TimeoutError as error:
            print(f"    {error}", file=sys.stderr)
            return None
        run = _Run(Steps.read(log, workload), ended)
        print(f"    {run}", file=sys.stderr)
        return run


def _more(address: str, shared: Path | None) -> dict[str, object]:
    """What stands in an experiment file for a cluster."""
    more: dict[str, object] = {"backend": {"type": "ray", "address": address}}
    return more if shared is None else {**more, "checkpoint_storage": str(shared / "checkpoints")}


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _short_trials(address: str, trials: int, peers: Sequence[_System]) -> Table:
    whole = [peer._replace(patience=1.0) for peer in peers]
    rows = []
    for system in (_STOPPING, _PROMOTION, _TRAVELLING, *peers, *whole):
        workload = Workload(round(trials * system.patience), workers=4, step_seconds=0, min_length=1)
        run = _run(system, workload, address)
        row: list[object] = [system.name, workload.trials]
        if run is None:
            rows.append([*row, None, None, None])
        else:
            per_trial = 1000 * run.seconds / run.steps.trials
            rows.append([*row, per_trial, run.ended.ended - run.ended.began, run.ended.peak_mb])
    return Table(
        "On a Ray cluster: short trials",
        "4 nodes of one worker each; trials are judged after 1, 4 and 16 steps that cost nothing, 2.5 reports a trial. "
        "Milliseconds a trial, of the time from the first step to the last; seconds of the whole command; the most "
        "memory that the driver's process had. Aims: at most 1/5 of Ray Tune's time, at most half of its memory at "
        "5,000 trials.",
        ["", "trials", "ms a trial", "s in all", "driver, MB"],
        rows,
    )


def _long_trials(address: str, trials: int, peers: Sequence[_System]) -> Table:
    rows = []
    for system in (_STOPPING, _PROMOTION, *peers):
        workload = Workload(round(trials * system.patience), workers=4, step_seconds=0, min_length=100)
        run = _run(system, workload, address)
        rate = None if run is None else run.steps.reports / run.seconds
        rows.append([system.name, workload.trials, None if run is None else run.steps.reports, rate])
    return Table(
        "On a Ray cluster: reports",
        "4 nodes of one worker each; trials are judged after 100, 400 and 1,600 steps that cost nothing. Reports a "
        "second, from the first step to the last. Aim: 5 times as many as Ray Tune.",
        ["", "trials", "reports", "reports/s"],
        rows,
    )


def _utilisation(address: str, workers: int, peers: Sequence[_System]) -> Table:
    rows = []
    workload = Workload(trials=14 * workers, workers=workers, step_seconds=0.05, min_length=40)
    for system in (_STOPPING, _PROMOTION, *peers):
        run = _run(system, workload, address)
        if run is None:
            rows.append([system.name, None, None, None])
        else:
            first, full = run.steps.first - run.ended.began, run.steps.full - run.ended.began
            rows.append([system.name, 100 * run.steps.full_share, first, full])
    return Table(
        "On a Ray cluster: utilisation",
        f"4 nodes with {workers} workers together; trials are judged after 40, 160 and 640 steps of 50 ms, asleep, "
        "a report each. Share of the workers' time that goes into steps, in %, from when all workers train until the "
        "last trial begins. Aim: 95. Seconds from the command to the first step, and until all workers trained: a "
        "worker takes a second of a processor to start, and there are 2 processors.",
        ["", "share, %", "first step", "all workers"],
        rows,
    )


# -- a node dies --------------------------------------------------------------------------------


def _deaths(nodes: Nodes, times: int) -> Table:
    rows: list[list[object]] = []
    firsts, lasts, noticed = [], [], []
    with _added(nodes, 4, cpus=4) as there, _training(nodes.address, workers=8) as (driver, home):
        for _ in range(times):
            record = _Record(driver, home)
            record.wait_for(lambda attempts: len(attempts) == 8)
            per_node = Counter(attempt.node for attempt in record.running.values())
            node = max(there, key=lambda node: per_node[_name(node)])
            lost = {trial: a for trial, a in record.running.items() if a.node == _name(node)}
            there.remove(node)
            died = time.time()
            for process in _descendants(node.all_processes["raylet"][0].process.pid):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            reaper = threading.Thread(target=nodes.kill, args=[node])
            reaper.start()
            record.wait_for(lambda now, lost=lost: all(now.get(t, a).attempt > a.attempt for t, a in lost.items()))
            again = [record.started[trial] - died for trial in lost]
            noticed.append(max(record.preempted[trial] - died for trial in lost))
            firsts.append(min(again))
            lasts.append(max(again))
            print(f"    {len(lost)} trials: {noticed[-1]:.2f} {again}", file=sys.stderr)
            reaper.join()
            there.append(nodes.add(num_cpus=4))
    for name, seconds in (
        ("recorded as preempted", noticed),
        ("the first of them runs elsewhere", firsts),
        ("all of them run elsewhere", lasts),
    ):
        rows.append([name, min(seconds), median(seconds), max(seconds)])
    return Table(
        "On a Ray cluster: a node dies",
        f"Seconds from `kill -9` of a node's raylet and of all its processes until its trials run elsewhere, {times} "
        "times; 8 workers on 4 nodes, with room for the lost ones on the others. Aim: under 15. A machine that falls "
        "silent without its connections being closed can't be had on one machine: it isn't measured.",
        ["", "best", "median", "worst"],
        rows,
    )


@contextmanager
def _training(address: str, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """An experiment whose trials train until the context ends; gives its driver and its home."""
    workload = Workload(trials=16, workers=workers, step_seconds=0.05, min_length=100_000)
    with tempfile.TemporaryDirectory(prefix="ashwood-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        driver = ours.start("promotion", workload, directory, directory / "steps", more=_more(address, directory))
        try:
            yield driver, directory / "home"
        finally:
            driver.terminate()
            try:
                driver.wait(30)
            except subprocess.TimeoutExpired:
                driver.kill()
                driver.wait()


class _Record:
    """What an experiment's log says of attempts, so far.

    Attributes:
        running: the latest attempt of each trial.
        started: when it started.
        preempted: when one of the trial's was lost.
    """

    def __init__(self, driver: subprocess.Popen[bytes], home: Path) -> None:
        self._driver = driver
        self._home = home
        self._seq = 0
        self.running: dict[int, AttemptStarted] = {}
        self.started: dict[int, float] = {}
        self.preempted: dict[int, float] = {}

    def wait_for(self, what: Any) -> None:
        """Read on until something is true of what runs."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            with suppress(AshwoodError):
                self._read()
                if what(self.running):
                    return
            if self._driver.poll() is not None:
                raise RuntimeError(f"ashwood failed:\n{(self._home.parent / 'output').read_text()[-2000:]}")
            if time.monotonic() >= deadline:
                raise TimeoutError("what was waited for doesn't come")
            time.sleep(0.2)

    def _read(self) -> None:
        with open_home(self._home) as home:
            for seq, entry in home.store.log(1).read(after=self._seq):
                self._seq = seq
                self._note(entry)

    def _note(self, entry: Entry) -> None:
        match entry.event:
            case AttemptStarted(trial):
                self.running[trial] = entry.event
                self.started[trial] = entry.at
            case AttemptPreempted(trial):
                self.preempted[trial] = entry.at


def _name(node: Any) -> str:
    """As events have it."""
    return f"{node.node_ip_address}/{node.node_id[:6]}"


def _descendants(process: int) -> list[int]:
    """A process and all that it started."""
    children: Mapping[int, list[int]] = _children()
    found, todo = [], [process]
    while todo:
        each = todo.pop()
        found.append(each)
        todo += children.get(each, [])
    return found


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    return children
