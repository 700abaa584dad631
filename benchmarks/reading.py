"""How soon commands answer about large experiments and large homes, and how much memory they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from math import log
from multiprocessing import Process
from pathlib import Path
from typing import Any, NamedTuple

from tests.engine.instant_backend import InstantBackend, Quiet

from ashwood.checkpoints.port import checkpoint_name
from ashwood.config import read_experiment
from ashwood.engine import open_home, worker_hosts
from ashwood.engine.session import Session
from ashwood.experiment.events import CheckpointSaved, Event
from ashwood.experiment.spec import ExperimentSpec
from benchmarks.dashboard.served import Client, Served, dashboard
from benchmarks.tables import Options, Table

_MAX_LENGTH = 27
"""Four rungs at 1, 3, 9 and 27: a report at each length."""
_BATCH = 1_000

_COMMANDS = {
    "describe": ("describe", "1"),
    "best": ("best", "1"),
    "trials --limit 20": ("trials", "1", "--limit", "20"),
    "list": ("list",),
    "watch --once": ("watch", "1", "--once"),
    "checkpoints": ("checkpoints", "1"),
}


class Cost(NamedTuple):
    """What a command took.

    Attributes:
        seconds: until it ended.
        cpu: seconds of the processor's time.
        megabytes: the most memory that it had.
    """

    seconds: float
    cpu: float
    megabytes: float


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` takes a hundredth of the trials and of the experiments."""
    trials, experiments = (1_000, 10) if options.quick else (100_000, 1_000)
    with tempfile.TemporaryDirectory() as directory:
        yield _table(Path(directory), trials, experiments)


def _table(directory: Path, trials: int, experiments: int) -> Table:
    large, many = directory / "large", directory / "many"
    if not large.exists():
        # In another process, because the peak memory of a command counts that of the process that starts it.
        making = Process(target=_make, args=(large, many, trials, experiments))
        making.start()
        making.join()
    # What a dashboard keeps would make the next one faster.
    (large / "experiments" / "1" / "history").unlink(missing_ok=True)
    rows = [_row(f"`{name}`", _command(large, *words)) for name, words in _COMMANDS.items()]
    rows.append(_row(f"`list` of {experiments:,} experiments", _command(many, "list")))
    for start in ("first", "second"):
        rows += [_row(f"`ui`, {start} start: {name}", cost) for name, cost in _pages(large)]
    log = (large / "ashwood.db").stat().st_size / 1e6
    return Table(
        "Reading at scale",
        f"Commands on an experiment with {trials:,} trials, whose database has {log:,.0f} MB, after its driver has "
        "ended. Seconds from the command to its end, or to the answer; seconds of the processor's time; the most "
        "memory in MB. Aim: 2 s each, `checkpoints` 5 s and 300 MB, `ui` 500 MB, `list` of 1,000 experiments 0.5 s.",
        ["", "seconds", "of processor time", "peak MB"],
        rows,
    )


def _row(name: str, cost: Cost) -> list[object]:
    print(f"  {name}: {', '.join(f'{each:.2f}' for each in cost)}", file=sys.stderr)
    return [name, *cost]


def _command(home: Path, *words: str) -> Cost:
    began = time.monotonic()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ashwood")), *words],
        env={**os.environ, "ASHWOOD_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ashwood {' '.join(words)} failed")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _pages(home: Path) -> Iterator[tuple[str, Cost]]:
    at = "/api/v1/experiments/1"
    with dashboard(home) as served:
        _get(served, "/", "/api/v1/experiments")
        yield "list of experiments", _so_far(served)
        _get(served, at, f"{at}/figures", f"{at}/events?limit=100")
        yield "overview of the experiment", _so_far(served)
        served.wait_until_read(1)
        yield "all of its log read", _so_far(served)
        _get(served, f"{at}/figures/ladder")
        yield "its ladder", _so_far(served)
        _get(served, f"{at}/trials")
        yield "its table of trials", _so_far(served)


def _get(served: Served, *paths: str) -> None:
    with Client(served.port) as client:
        for path in paths:
            client.get(path)


def _so_far(served: Served) -> Cost:
    seconds = time.monotonic() - served.began
    fields = Path(f"/proc/{served.process}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Cost(seconds, cpu, served.peak_mb() or 0.0)


# -- homes ---------------------------------------------------------------------------------------


def _make(large: Path, many: Path, trials: int, experiments: int) -> None:
    print(f"  recording {trials:,} trials", file=sys.stderr)
    record_experiment(large, trials)
    print(f"  recording {experiments:,} experiments", file=sys.stderr)
    for number in range(experiments):
        _run(many, _experiment(f"experiment {number}", 9))


def record_experiment(path: Path, trials: int) -> None:
    """Record an experiment with many trials in a new home.  Training takes no time in this process from now on."""
    _run(path, _experiment(f"{trials:,} trials", trials))


def _run(path: Path, experiment: Mapping[str, Any]) -> None:
    """All of a real driver, but for the processes that train."""
    path.mkdir(parents=True, exist_ok=True)
    file = path / "experiment.yaml"
    file.write_text(json.dumps(experiment))  # JSON is YAML
    spec = read_experiment(file, overrides=[], default_seed=0).spec
    worker_hosts.LocalBackend = _Trainers  # type: ignore[misc,assignment]
    with open_home(path, create=True) as opened:
        Session.create(opened, spec, at=time.time()).run(Quiet())


class _Trainers(InstantBackend):
    """Trains in no time, and says that it saved checkpoints."""

    def __init__(self, _spec: ExperimentSpec, **_: object) -> None:
        super().__init__(_loss, slots=16)

    def __enter__(self) -> _Trainers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next_events(self, timeout: float | None) -> Sequence[Event]:  # noqa: ARG002 - it never has to wait
        return [_named(self._events.popleft()) for _ in range(min(_BATCH, len(self._events)))]


def _named(event: Event) -> Event:
    if isinstance(event, CheckpointSaved):
        return event._replace(path=checkpoint_name(event.trial, event.length, event.attempt))
    return event


def _loss(hparams: Mapping[str, Any], length: int) -> float:
    return float(0.1 + abs(hparams["lr"] - 0.003) + hparams["dropout"] / length)


def _experiment(name: str, trials: int) -> dict[str, object]:
    return {
        "name": name,
        "entrypoint": "benchmarks.toy:train",
        "hyperparameters": {
            "lr": {"type": "log", "minval": -5, "maxval": -1},
            "dropout": {"type": "double", "minval": 0.0, "maxval": 0.6},
            "layers": {"type": "int", "minval": 2, "maxval": 12},
            "optimizer": {"type": "categorical", "vals": ["sgd", "adam", "lion"]},
        },
        "searcher": {
            "name": "async_halving",
            "metric": "loss",
            "max_length": _MAX_LENGTH,
            "max_trials": trials,
            "num_rungs": min(4, 1 + int(log(trials, 3))),
            "divisor": 3,
        },
    }


if __name__ == "__main__":
    # In a directory that stays, so that two versions of Ashwood can read the same homes.
    kept = Path(sys.argv[1])
    print(_table(kept, *map(int, sys.argv[2:])).markdown())
