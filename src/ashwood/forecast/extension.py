"""What the extension of a search will train: trials, length, time and repeated training, before it is requested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ashwood.experiment.checkpoints import Checkpoint
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import TrialState
from ashwood.forecast.conditions import Conditions
from ashwood.forecast.searches import CheckpointCounter, Prices
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
        repeated_for_size: expected training length that is repeated because checkpoints will be deleted to keep
            max_size.
        max_size: largest total size of the checkpoints in bytes, or None for no limit.
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
    repeated_for_size: float
    max_size: int | None

    @property
    def repeated(self) -> float:
        """Expected training length that is repeated because checkpoints are missing."""
        return _repeated(self.lost)

    @property
    def worker_hours(self) -> float | None:
        """Expected hours of all workers, busy or idle, or None if no training time is known yet."""
        return None if self.seconds is None else self.workers * self.seconds.middle / 3600


def forecast_extension(
    experiment: Experiment,
    progress: Progress,
    kept: Sequence[Checkpoint],
    *,
    max_trials: int | None,
    max_length: int | None,
    replicates: int | None = None,
    workers: int,
    now: float,
    is_driven: bool,
) -> ExtensionForecast:
    """Forecast the rest of a search after an extension.  The experiment does not change.

    Args:
        experiment: the experiment.
        progress: its progress.
        kept: the checkpoints that exist.
        max_trials: number of trials of the extended search, or None if it does not change.
        max_length: greatest length of the extended search, or None if it does not change.
        replicates: number of the best trials that are replicated, or None if it does not change.
        workers: number of workers of the rest.
        now: current time in seconds since 1970.
        is_driven: whether a driver runs the experiment, so that running trials train on.

    Raises:
        SearchError: the search cannot be extended so.
    """
    search = Tournament(experiment.search.settings, experiment.search.seed)
    search.restore(experiment.search.snapshot())
    again = search.extend(max_trials, max_length, replicates)
    measured, paces = progress.measuring.result(), progress.measuring.paces()
    known = Conditions(workers=workers) if measured is None else Conditions.from_measured(measured, workers)
    picture = take_picture(progress, search, now)._replace(slots=workers)
    if not is_driven:
        picture = picture._replace(at_work={})
    trials = _trials(experiment, search, again)
    sizes = [each.size for each in kept if each.size]
    prices = Prices(
        checkpoint_bytes=sum(sizes) / len(sizes) if sizes else None,
        policy=experiment.spec.checkpoint_policy,
        max_size=experiment.max_size,
    )
    many = search.max_trials > _MANY_TRIALS or search.settings.open_ended
    simulations = _FEWER_SIMULATIONS if many else _SIMULATIONS
    present = len(experiment.trials)
    further = -simulations * len(search.replicates.created)
    continued: Counter[TrialId] = Counter()
    ends, lengths, repeated = list[float](), list[int](), list[int]()
    for number in range(simulations):
        counted = _Counted()
        counter = _Counter(prices, {trial.id: trial.length for trial in experiment.trials.values()})
        counter.begin(trials, kept)
        course = simulate_rest(picture, now, known, paces, number, counted.watch, counter)
        ends.append(course.seconds)
        further += course.replicates
        continued.update(trial for trial in counted.trials if trial < present)
        lengths.append(counted.length)
        repeated.append(counter.repeated)
    saved = {each.trial: each.length for each in sorted(kept, key=lambda each: each.length)}
    if is_driven:
        # Running trials save a checkpoint when they leave their workers.
        saved |= {each.id: each.length for each in experiment.outstanding()}
    lost = [
        LostTraining(trial, length, saved.get(trial, 0), times / simulations)
        for trial, times in continued.items()
        if saved.get(trial, 0) < (length := experiment.trials[trial].length)
    ]
    lost.sort(key=lambda each: (-each.share, each.trial))
    outside = 1 if simulations == _SIMULATIONS else 0
    ends.sort()
    left = TimeLeft(ends[outside], ends[len(ends) // 2], ends[-1 - outside])
    return ExtensionForecast(
        settings=search.settings,
        former_length=experiment.search.settings.max_length,
        created=sum(bracket.planned - bracket.fewest for bracket in search.brackets),
        replicates=further / simulations,
        continued=sum(continued.values()) / simulations,
        length=sum(lengths) / simulations,
        workers=workers,
        seconds=None if measured is None or search.settings.open_ended else left,
        lost=lost,
        repeated_for_size=max(0.0, sum(repeated) / simulations - _repeated(lost)),
        max_size=experiment.max_size,
    )


def _repeated(lost: Sequence[LostTraining]) -> float:
    return sum(each.share * (each.trained - each.saved) for each in lost)


def _trials(
    experiment: Experiment, search: Tournament, again: Sequence[TrialId]
) -> dict[TrialId, tuple[TrialState, int]]:
    """Return the state of each trial in the extended search, and the length at which its last job ended or will end.

    Args:
        experiment: the experiment before the extension.
        search: the extended search.
        again: the trials that are reopened.
    """
    trials = {trial.id: (trial.state, trial.target) for trial in experiment.trials.values()}
    for trial in again:
        bracket = search.brackets[search.address(trial)[0]]
        job = bracket.queued.get(trial)
        trials[trial] = (TrialState.PAUSED, trials[trial][1] if job is None else bracket.rungs[job[0]].length)
    return trials


class _Counter(CheckpointCounter):
    """Counts the training that is repeated because checkpoints are missing.

    Args:
        prices: sizes of checkpoints.
        trained: total length of each present trial.
    """

    def __init__(self, prices: Prices, trained: dict[TrialId, int]) -> None:
        super().__init__(prices)
        self._trained = trained

    def resumes(self, trial: TrialId, length: int) -> int:
        """Return the length of the checkpoint from which a trial resumes."""
        return super().resumes(trial, max(length, self._trained.pop(trial, 0)))


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
