"""What the extension of a search will train: trials, length, time and repeated training, before it is requested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ashwood.experiment.experiment import Experiment
from ashwood.forecast.conditions import Conditions
from ashwood.forecast.time_left import TimeLeft, simulate_rest, take_picture
from ashwood.forecast.training import Setting, Trained, Training
from ashwood.search.settings import SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId
from ashwood.views.progress import Progress

_SIMULATIONS = 19
_FEWER_SIMULATIONS = 3
_MANY_TRIALS = 20_000


class LostTraining(NamedTuple):
    """A trial without a checkpoint of all its training, which it repeats if it trains on.

    Attributes:
        trial: the trial.
        trained: total length that it has trained.
        saved: length of its latest checkpoint, or 0 if it has none.
        share: share of the simulations in which it trains on.
    """

    trial: TrialId
    trained: int
    saved: int
    share: float


@dataclass(frozen=True, slots=True)
class ExtensionForecast:
    """What is left to train in an extended search, as the mean of simulations.

    Attributes:
        settings: settings of the extended search.
        former_length: greatest length of the search before the extension.
        created: number of trials that will be created.
        continued: number of present trials that will train on.
        replicates: number of replicates that will be created, as the mean of the simulations.
        length: training length of all trials, including what is repeated.
        workers: assumed number of workers.
        seconds: time until the end, or None if no training time is known yet.
        lost: trials that can repeat training, those that do so most probably first.
    """

    settings: SearchSettings
    former_length: int
    created: int
    continued: float
    replicates: float
    length: float
    workers: int
    seconds: TimeLeft | None
    lost: Sequence[LostTraining]

    @property
    def repeated(self) -> float:
        """Expected training length that is repeated because checkpoints are missing."""
        return sum(each.share * (each.trained - each.saved) for each in self.lost)

    @property
    def worker_hours(self) -> float | None:
        """Expected hours of all workers, busy or idle, or None if no training time is known yet."""
        return None if self.seconds is None else self.workers * self.seconds.middle / 3600


def forecast_extension(
    experiment: Experiment,
    progress: Progress,
    saved: Mapping[TrialId, int],
    *,
    max_trials: int | None,
    max_length: int | None,
    replicates: int | None = None,
    workers: int,
    now: float,
) -> ExtensionForecast:
    """Forecast the rest of a search after an extension.  The experiment does not change.

    Args:
        experiment: the experiment.
        progress: its progress.
        saved: length of the latest checkpoint of each trial that has one.
        max_trials: number of trials of the extended search, or None if it does not change.
        max_length: greatest length of the extended search, or None if it does not change.
        replicates: number of the best trials that are replicated, or None if it does not change.
        workers: number of workers of the rest.
        now: current time in seconds since 1970.

    Raises:
        SearchError: the search cannot be extended so.
    """
    search = Tournament(experiment.search.settings, experiment.search.seed)
    search.restore(experiment.search.snapshot())
    search.extend(max_trials, max_length, replicates)
    measured, paces = progress.measuring.result(), progress.measuring.paces()
    known = Conditions(workers=workers) if measured is None else Conditions.from_measured(measured, workers)
    picture = take_picture(progress, search, now)._replace(slots=workers)
    many = search.max_trials > _MANY_TRIALS or search.settings.open_ended
    simulations = _FEWER_SIMULATIONS if many else _SIMULATIONS
    present = len(experiment.trials)
    further = -simulations * len(search.replicates.created)
    continued: Counter[TrialId] = Counter()
    ends, lengths = list[float](), list[int]()
    for number in range(simulations):
        counted = _Counted()
        course = simulate_rest(picture, now, known, paces, number, counted.watch)
        ends.append(course.seconds)
        further += course.replicates
        continued.update(trial for trial in counted.trials if trial < present)
        lengths.append(counted.length)
    lost = [
        LostTraining(trial, length, saved.get(trial, 0), times / simulations)
        for trial, times in continued.items()
        if saved.get(trial, 0) < (length := experiment.trials[trial].length)
    ]
    lost.sort(key=lambda each: (-each.share, each.trial))
    outside = 1 if simulations == _SIMULATIONS else 0
    ends.sort()
    left = TimeLeft(ends[outside], ends[len(ends) // 2], ends[-1 - outside])
    repeated = sum(each.share * (each.trained - each.saved) for each in lost)
    return ExtensionForecast(
        settings=search.settings,
        former_length=experiment.search.settings.max_length,
        created=sum(bracket.planned - bracket.fewest for bracket in search.brackets),
        replicates=further / simulations,
        continued=sum(continued.values()) / simulations,
        length=sum(lengths) / simulations + repeated,
        workers=workers,
        seconds=None if measured is None or search.settings.open_ended else left,
        lost=lost,
    )


class _Counted:
    """Counts the trials that train in a simulation, and the length that they train."""

    def __init__(self) -> None:
        self.trials: set[TrialId] = set()
        self.length = 0

    def watch(self, training: Training) -> Training:
        self._training = training
        return self

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        self.trials.add(setting.trial)
        self.length += end - begin
        return self._training.train(setting, begin, end)
