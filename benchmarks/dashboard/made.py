"""Homes with a large experiment, recorded once in virtual time and kept: the real search, engine and store."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from math import log10
from pathlib import Path
from typing import Any, NamedTuple

from ashwood.backends.simulated import SimulatedBackend
from ashwood.backends.simulated.backend import VirtualClock
from ashwood.engine import open_home
from ashwood.engine.simulate import simulate
from ashwood.eventlog.codec import VERSION
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import Answer, EventLog, RequestId, Seq
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import CheckpointSaved, Event, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.time_left import Forecaster
from ashwood.forecast.training import Setting, Trained, mixed
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.space import Categorical, Double, Int, Log, Space, Tree
from ashwood.views.progress import Progress
from benchmarks.virtual import spec_of

EXPERIMENT = 1
"""The one experiment of such a home."""

CACHE = Path(__file__).parents[1] / ".dashboard"
_BATCH = 20_000
_BEGIN = 1_790_000_000.0
_WORKERS = 32


class Size(NamedTuple):
    """How large an experiment is.

    Attributes:
        name: of the directory that it is kept in.
        trials: how many it creates.
        max_length: how long the best ones train; every length is reported, of four rungs.
        tail: so many last entries arrive while it is looked at, where it is to be running.
        rate: so many reports of them a second.
    """

    name: str
    trials: int
    max_length: int
    tail: int
    rate: int


LARGE = Size("large", 10_000, 6_400, 400_000, 1_000)
SMALL = Size("small", 300, 640, 4_000, 200)


def home(size: Size) -> Path:
    """The home, made if it isn't there."""
    path = CACHE / f"{size.name}-{VERSION}"
    done = path / "made"
    if not done.exists():
        shutil.rmtree(path, ignore_errors=True)
        print(f"recording {size.trials:,} trials in {path}", file=sys.stderr)
        with open_home(path, create=True) as opened:
            _record(opened, size)
        # Written last, so that what broke off is made again.
        done.write_text("")
    return path


def spec(size: Size) -> ExperimentSpec:
    """An experiment over six hyperparameters."""
    search = SearchSettings(
        method=Method.ADAPTIVE_ASHA,
        mode=Mode.AGGRESSIVE,
        max_length=size.max_length,
        max_trials=size.trials,
        max_concurrent_trials=_WORKERS,
        max_rungs=4,
    )
    space: Tree = {
        "lr": Log(-5.0, -1.0),
        "weight_decay": Log(-6.0, -2.0),
        "momentum": Double(0.5, 0.99),
        "dropout": Double(0.0, 0.6),
        "layers": Int(2, 12),
        "optimizer": Categorical(("sgd", "adam", "lion")),
    }
    return spec_of(search, space=Space(space), name=f"{size.trials:,} trials")


def _record(opened: Home, size: Size) -> None:
    experiment_spec = spec(size)
    number = opened.store.create(experiment_spec, at=_BEGIN)
    opened.directory(number)
    log = _Batches(opened.store.log(number))
    progress = Progress(experiment_spec)

    def observe(entries: Sequence[Entry]) -> None:
        fold(progress, entries)

    backend = _Quiet(experiment_spec, _Training(), _WORKERS, period=1, clock=VirtualClock(_BEGIN))
    simulate(Experiment(experiment_spec), backend, log=log, observers=[observe])
    log.flush(Forecaster(progress).summary(backend.clock()))


class _Batches:
    """A log that takes many entries before it makes them durable; see `ashwood.eventlog.port.EventLog`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._held: list[Entry] = []

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Hold entries."""
        assert summary is None
        assert not answers
        self._held += entries
        if len(self._held) >= _BATCH:
            self.flush(None)
        return self.last()

    def flush(self, summary: Mapping[str, Any] | None) -> None:
        """Make them durable."""
        self._log.append(self._held, summary=summary)
        self._held = []

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """What is durable."""
        return self._log.read(after=after)

    def last(self) -> Seq:
        """The place of the last entry."""
        return self._log.last() + len(self._held)


class _Quiet(SimulatedBackend):
    """Saves checkpoints where trials let go, and none on the way."""

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        events = super().next_events(timeout)
        if len(events) == 2 and isinstance(events[0], ValidationReported) and isinstance(events[1], CheckpointSaved):
            return events[:1]
        return events


class _Training:
    """A loss that falls by a power law, to a floor that hyperparameters decide, with noise."""

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """See `ashwood.forecast.training.Training`."""
        h = setting.hparams
        floor = (
            0.1
            + 0.08 * abs(log10(h["lr"]) + 2.5)
            + 0.02 * abs(log10(h["weight_decay"]) + 4)
            + 0.3 * abs(h["dropout"] - 0.2)
            + 0.01 * abs(h["layers"] - 7)
            + {"sgd": 0.05, "adam": 0.0, "lion": 0.02}[h["optimizer"]]
        )
        speed = 0.3 + 0.5 * mixed(setting.seed, 0)
        loss = floor + float((1 + end) ** -speed) + 0.02 * mixed(setting.seed, end)
        pace = 0.5 + mixed(setting.seed, 2**32)
        return Trained((end - begin) * pace, loss)


if __name__ == "__main__":
    began = time.monotonic()
    home(LARGE if sys.argv[1:] == ["large"] else SMALL)
    print(f"{time.monotonic() - began:.1f} s")
