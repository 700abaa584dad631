"""Previews and forecasts against what came of them: how often their ranges hold, and how far their middles are off.

Each run is predicted from what a user knows of it beforehand: a few short trials (`--measure`)
or the log of another experiment of the same code (`--like`).  Simulated runs are the ordinary
engine in virtual time, with learning curves, costs and stragglers that the preview doesn't
know of; real ones are processes that sleep.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import exp, log
from pathlib import Path
from statistics import NormalDist, median
from typing import Any, NamedTuple

from ashwood.backends.simulated import SimulatedBackend
from ashwood.config import build_experiment
from ashwood.engine import Session, open_home
from ashwood.engine.measure import measure, short_search
from ashwood.engine.simulate import simulate
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.conditions import Conditions
from ashwood.forecast.costs import Costs
from ashwood.forecast.preview import preview
from ashwood.forecast.searches import Prices, Range, in_mode
from ashwood.forecast.time_left import Forecaster
from ashwood.forecast.training import PowerLaw, Setting, Trained, lognormal
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.views.measured import Measured, Measuring
from ashwood.views.progress import Progress
from benchmarks.tables import Options, Table

_SEED = 20_240_601
_SIMULATED = 96
_REAL = 12
_MOMENTS = (0.25, 0.5, 0.75)
_QUICK = 8


class Outcome(NamedTuple):
    """A run, and what was said of it.

    Attributes:
        kind: what runs it is counted among.
        predicted: the range of its wall-clock, in seconds.
        actual: what it took.
        forecasts: on the way, at each of the moments: the range of the seconds left, the estimate by pace alone, and
            the seconds that were left.
    """

    kind: str
    predicted: Range
    actual: float
    forecasts: Mapping[float, tuple[Range, float, float]]


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` runs few of them."""
    count = _QUICK if options.quick else _SIMULATED
    simulated = [run_simulated(number) for number in range(count)]
    real = [run_real(number) for number in range(2 if options.quick else _REAL)]
    yield _ranges([*simulated, *real])
    yield _on_the_way(simulated)
    yield _time()


def _ranges(outcomes: Sequence[Outcome]) -> Table:
    kinds = dict.fromkeys(outcome.kind for outcome in outcomes)
    groups = [(kind, [each for each in outcomes if each.kind == kind]) for kind in kinds]
    return Table(
        "Previews against runs",
        "Wall-clock as `preview` says before the run, from a few short trials (`--measure`) or another "
        "experiment (`--like`), against what it was. Aim: the actual lies in the range of 10 to 90 % in 70 to 90 % of "
        "the runs, and the median of actual / predicted is within 10 % of 1.",
        ["", "runs", "in the range, %", "actual / predicted, median", "off by, median, %", "width of the range, %"],
        [[kind, *_row(group)] for kind, group in [*groups, ("all", list(outcomes))]],
    )


def _row(outcomes: Sequence[Outcome]) -> list[object]:
    inside = [each.predicted.low <= each.actual <= each.predicted.high for each in outcomes]
    ratios = [each.actual / each.predicted.middle for each in outcomes]
    widths = [(each.predicted.high - each.predicted.low) / each.predicted.middle for each in outcomes]
    return [
        len(outcomes),
        round(100 * sum(inside) / len(inside)),
        median(ratios),
        100 * median(abs(ratio - 1) for ratio in ratios),
        round(100 * median(widths)),
    ]


def _on_the_way(outcomes: Sequence[Outcome]) -> Table:
    rows: list[list[object]] = []
    for moment in _MOMENTS:
        seen = [each.forecasts[moment] for each in outcomes if moment in each.forecasts]
        if not seen:
            continue
        ratios = [left.middle / actual for left, _, actual in seen]
        by_pace = [pace / actual for _, pace, actual in seen]
        rows.append(
            [
                f"after {moment:.0%} of the time",
                len(seen),
                round(100 * sum(left.low <= actual <= left.high for left, _, actual in seen) / len(seen)),
                median(ratios),
                100 * median(abs(ratio - 1) for ratio in ratios),
                median(by_pace),
            ]
        )
    return Table(
        "Forecasts on the way",
        "The time left as the live display says it, from the search's own state and the paces measured so far, against "
        "what it was; in the last column the estimate by the pace of training alone.",
        ["", "runs", "in the range, %", "forecast / actual, median", "off by, median, %", "by pace / actual, median"],
        rows,
    )


def _time() -> Table:
    """The whole command, start-up included."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "search.yaml")
        path.write_text(
            "entrypoint: python train.py\n"
            "searcher: {name: adaptive_asha, metric: loss, max_length: 256, max_trials: 500}\n"
            "hyperparameters: {x: {type: double, minval: 0, maxval: 1}}\n"
        )
        command = [sys.executable, "-c", "from ashwood.cli.main import main; main()", "preview", str(path)]
        rows: list[list[object]] = []
        for what, more in (("trials a length only", []), ("with time, money and comparison", ["--unit-time", "40s"])):
            seconds = [_clocked([*command, "--workers", "8", *more]) for _ in range(3)]
            rows.append([what, min(seconds), median(seconds)])
    return Table(
        "Time of a preview",
        "`ashwood preview` for 500 trials with all its simulations, in seconds, start-up included. Aim: 3.",
        ["", "best of 3", "median of 3"],
        rows,
    )


def _clocked(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


# -- simulated runs -----------------------------------------------------------------------------


class _World(NamedTuple):
    """Training as it really is in a run, of which the preview knows what was measured."""

    training: Any
    costs: Costs
    workers: int


class _Surface:
    """Curves of which the hyperparameters say most, for samplers that learn."""

    def __init__(self, curves: PowerLaw) -> None:
        self._curves = curves

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        seconds, loss = self._curves.train(setting, begin, end)
        distance = sum((setting.hparams[name] - 0.3) ** 2 for name in ("a", "b", "c"))
        return Trained(seconds, distance + 0.2 * loss)


def run_simulated(number: int) -> Outcome:
    """One run in virtual time, predicted and watched."""

    def draw(what: str) -> float:
        return unit_draw(_SEED, number, what)

    def choose(what: str, values: Sequence[Any]) -> Any:
        return values[int(draw(what) * len(values))]

    kind, search = _search(number, choose, draw)
    unit = 10.0
    curves = PowerLaw(
        max_length=search.max_length,
        rank_correlation=0.3 + 0.65 * draw("correlation"),
        exponent=0.2 + 0.8 * draw("exponent"),
        unit_seconds=unit,
        spread=choose("spread", (1.0, 1.1, 1.3, 1.6, 2.0)),
    )
    costs = Costs(
        start=unit * choose("start", (0.0, 0.1, 0.5, 2.0)),
        restore=unit * choose("restore", (0.0, 0.1, 0.5)),
        save=unit * choose("save", (0.0, 0.05, 0.3)),
        straggling=choose("straggling", (0.0, 0.0, 0.2, 0.5)),
    )
    workers = round(exp(log(2) + (log(64) - log(2)) * draw("workers")))
    world = _World(_Surface(curves), costs, workers)
    spec = _spec(search, number)
    known = _known(world, spec, past=draw("source") < 0.3)
    predicted = _predict(search, known, workers)
    watched = _watch(world, spec, predicted.middle)
    return Outcome(kind, predicted, *watched)


def _search(
    number: int, choose: Callable[[str, Sequence[Any]], Any], draw: Callable[[str], float]
) -> tuple[str, SearchSettings]:
    settings = SearchSettings(
        method=Method.ADAPTIVE_ASHA,
        max_length=choose("length", (9, 16, 27, 64, 81, 100, 256)),
        max_trials=round(exp(log(20) + (log(300) - log(20)) * draw("trials"))),
        max_concurrent_trials=choose("concurrent", (0, 16)),
        divisor=Fraction(choose("divisor", (2, 3, 4, 4))),
    )
    kinds: list[tuple[str, SearchSettings]] = [
        ("adaptive_asha standard", settings),
        ("adaptive_asha aggressive", in_mode(settings, Mode.AGGRESSIVE)),
        ("adaptive_asha conservative", in_mode(settings, Mode.CONSERVATIVE)),
        ("adaptive_asha auto", in_mode(settings, Mode.AUTO)),
        ("stop_once", replace(settings, stop_once=True)),
        ("async_halving", replace(settings, method=Method.ASYNC_HALVING)),
        ("sync_halving", replace(settings, method=Method.SYNC_HALVING)),
        ("random", replace(settings, method=Method.RANDOM, max_trials=min(settings.max_trials, 60))),
    ]
    return kinds[number % len(kinds)]


def _spec(search: SearchSettings, seed: int) -> ExperimentSpec:
    uniform = {"type": "double", "minval": 0.0, "maxval": 1.0}
    tree = {
        "entrypoint": "python nowhere.py",
        "searcher": {"name": "random", "metric": "loss", "max_length": {"epochs": 1}, "max_trials": 1},
        "hyperparameters": {"a": uniform, "b": uniform, "c": uniform},
        "reproducibility": {"experiment_seed": seed},
    }
    return replace(build_experiment(tree, workdir=Path.cwd()).spec, search=search)


def _known(world: _World, spec: ExperimentSpec, *, past: bool) -> Measured:
    """What a user knows: from short trials, that report every unit; or from another run of the same code."""
    search = spec.search if past else short_search(spec.search, world.workers)
    measuring = Measuring()

    def observe(entries: Sequence[Entry]) -> None:
        fold(measuring, entries)

    other = replace(spec, search=search, seed=spec.seed + 1_000)
    backend = SimulatedBackend(other, world.training, world.workers, costs=world.costs, period=1)
    simulate(Experiment(other), backend, observers=[observe])
    found = measuring.result()
    if found is None:
        raise RuntimeError("nothing was measured")
    return found


def _predict(search: SearchSettings, known: Measured, workers: int) -> Range:
    shown = preview(search, conditions=Conditions.from_measured(known, workers), prices=Prices(), compare=False)
    if shown.forecast is None:
        raise RuntimeError("there is no forecast")
    return shown.forecast.seconds


def _watch(
    world: _World, spec: ExperimentSpec, expected: float
) -> tuple[float, dict[float, tuple[Range, float, float]]]:
    """What the run takes, and what is said of it on the way."""
    experiment, progress = Experiment(spec), Progress(spec)
    progress.search = experiment.search
    forecaster = Forecaster(progress)
    seen: list[tuple[float, Range, float]] = []
    due = expected / 20

    def observe(entries: Sequence[Entry]) -> None:
        nonlocal due
        fold(progress, entries)
        at = entries[-1].at
        forecaster.look(at)
        if at >= due and progress.state is ExperimentState.RUNNING:
            due = at + expected / 20
            forecast = forecaster.forecast(at)
            rest = forecast.total_length - progress.length_trained
            by_pace = progress.trials.spending.seconds_to_train(rest, at)
            if forecast.time_left is not None and by_pace is not None:
                seen.append((at, Range(*forecast.time_left), by_pace))

    backend = SimulatedBackend(spec, world.training, world.workers, costs=world.costs, period=1)
    simulate(experiment, backend, observers=[observe])
    end = backend.clock.now
    forecasts = {}
    for moment in _MOMENTS:
        near = min(seen, key=lambda each: abs(each[0] - moment * end), default=None)
        if near is not None and abs(near[0] - moment * end) < 0.1 * end:
            forecasts[moment] = (near[1], near[2], end - near[0])
    return end, forecasts


# -- real runs ----------------------------------------------------------------------------------


def run_real(number: int) -> Outcome:
    """One run of sleeping processes on this machine, predicted by the short trials of ``--measure``."""

    def choose(what: str, values: Sequence[Any]) -> Any:
        return values[int(unit_draw(_SEED, "real", number, what) * len(values))]

    method = choose("method", ("adaptive_asha", "adaptive_asha", "async_halving", "sync_halving", "random"))
    workers = choose("workers", (2, 4, 6, 8))
    searcher: dict[str, Any] = {
        "name": method,
        "metric": "loss",
        "max_length": {"epochs": choose("length", (16, 27, 64))},
        "max_trials": 16 if method == "random" else choose("trials", (24, 40, 60)),
    }
    if method == "adaptive_asha":
        searcher["mode"] = choose("mode", ("aggressive", "standard", "conservative"))
    if method in ("adaptive_asha", "async_halving"):
        searcher["stop_once"] = choose("stop_once", (False, False, True))
    uniform = {"type": "double", "minval": 0.0, "maxval": 1.0}
    step = choose("step", (0.01, 0.02))
    with tempfile.TemporaryDirectory() as directory:
        spec = build_experiment(
            {
                "entrypoint": "benchmarks.preview:sleep",
                "searcher": searcher,
                "data": {"step": step, "spread": choose("spread", (1.0, 1.3, 1.6))},
                "hyperparameters": {"x": uniform, "pace": uniform},
                "reproducibility": {"experiment_seed": number},
            },
            workdir=Path(__file__).parents[1],
        ).spec
        known = measure(spec, workers=workers).measured
        predicted = _predict(spec.search, known, workers)
        with open_home(Path(directory, "home"), create=True) as home:
            session = Session.create(home, spec, at=time.time())
            clock = _Clock()
            session.run(clock, workers=workers)
    return Outcome("real processes", predicted, clock.seconds, {})


def sleep(trial: Any) -> None:
    """Training code that sleeps."""
    pace = lognormal(trial.hparams.pace or NormalDist().cdf(-8), trial.data.spread)
    for epoch in trial.epochs():
        time.sleep(trial.data.step * pace)
        trial.report(loss=trial.hparams.x + 1 / (epoch + 1), checkpoint=lambda directory: (directory / "state").touch())


class _Clock:
    """Follows a run and keeps its time; see `ashwood.engine.session.RunObserver`."""

    def __init__(self) -> None:
        self._times: list[float] = []

    @property
    def seconds(self) -> float:
        """From the first entry of the run to its last."""
        return self._times[-1] - self._times[0]

    def folded(self, progress: Progress) -> None:
        pass

    def ready(self, slots: int) -> None:
        pass

    def observe(self, entries: Sequence[Entry]) -> None:
        self._times += [entry.at for entry in entries]

    def summary(self) -> Mapping[str, Any]:
        return {}

    def interrupted(self, count: int) -> None:
        pass

    def warn(self, message: str) -> None:
        pass
