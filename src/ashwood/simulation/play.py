"""A whole search played through in virtual time: the real rules, and workers that only count.

It is to the engine with the simulated backend what a score is to its performance: jobs
are given out, wait for workers and take their time exactly as there (a test compares the
two), but nothing is recorded, so that a preview can afford hundreds of searches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol, TypeAlias

from ashwood.search.draw import training_seed
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import GoOn, New, Pause, ReachedEnd, TrialId
from ashwood.simulation.costs import NO_COSTS, Costs
from ashwood.simulation.training import Setting, Training

Arrivals: TypeAlias = tuple[tuple[int, ...], ...]
"""How many trials reached each rung, by bracket."""


class Witness(Protocol):
    """Who wants to know which checkpoints there are."""

    def saved(self, trial: TrialId, length: int) -> None:
        """A trial has saved a checkpoint at a total length."""
        ...

    def ended(self, trial: TrialId) -> None:
        """A trial will never train again; one that trained to the end saves its last checkpoint after that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """How far the trials of a search are that is played on from its middle.

    Attributes:
        seeds: training seeds of trials; those left out have the ones of their experiment.
        remaining: of the trials that are at work on their job, the seconds until they report.
        leaving: of those that are letting go of a worker, the seconds until it is free.
    """

    seeds: Mapping[TrialId, int]
    remaining: Mapping[TrialId, float]
    leaving: Mapping[TrialId, float]


@dataclass(frozen=True, slots=True)
class Course:
    """How a search went; times in seconds since its start.

    Attributes:
        arrivals: how many trials reached each rung, by bracket.
        seconds: when its last worker was free.
        busy: time of all workers together that went into trials, start-up and saving included.
        trained: of that, training alone.
        first_end: when the first trial reached max_length; None: none did.
        full_until: until when every worker that may train did so without a break from the start.
        last_full: until when every worker that may train did so for the last time: where the tail begins.
        most_waiting: the most trials that waited at a rung at once.
    """

    arrivals: Arrivals
    seconds: float
    busy: float
    trained: float
    first_end: float | None
    full_until: float
    last_full: float
    most_waiting: int


def play(
    search: Tournament,
    training: Training,
    workers: int,
    *,
    costs: Costs = NO_COSTS,
    seed: int = 0,
    witness: Witness | None = None,
    underway: Underway | None = None,
) -> Course:
    """Play a search through to its end.

    Args:
        search: as it stands: fresh, or in its middle.
        training: what trials take and come to.
        workers: how many there are.
        costs: what else takes time.
        seed: the experiment's: trials have the training seeds that they have there.
        witness: is told of checkpoints.
        underway: how far trials are, in the middle of a search; times in the course count from there.
    """
    play = _Play(search, training, workers, costs, seed, witness)
    if underway is not None:
        play.take_up(underway)
    return play.run()


class _Trial:
    """One trial: how far it is, and where its job ends."""

    __slots__ = ("length", "setting", "target")

    def __init__(self, setting: Setting, length: int, target: int) -> None:
        self.setting = setting
        self.length = length
        self.target = target


class _Play:
    def __init__(
        self,
        search: Tournament,
        training: Training,
        workers: int,
        costs: Costs,
        seed: int,
        witness: Witness | None,
    ) -> None:
        self._search = search
        self._training = training
        self._workers = workers
        self._costs = costs
        self._seed = seed
        self._witness = witness
        self._seeds: Mapping[TrialId, int] = {}
        most = search.max_concurrent_trials
        self._limit = min(workers, most) if most else workers
        self._now = 0.0
        self._seq = 0
        # (when, sequence, trial, loss or None: its worker is free).  The sequence settles ties.
        self._agenda: list[tuple[float, int, TrialId, float | None]] = []
        self._trials: dict[TrialId, _Trial] = {}
        # Those that have a job and wait for a worker; and since when each worker is at work, by trial.
        self._queue: deque[TrialId] = deque()
        self._live: dict[TrialId, float] = {}
        self._jobs = 0
        self._waiting = 0
        self._most_waiting = 0
        self._busy = 0.0
        self._trained = 0.0
        self._first_end: float | None = None

    def take_up(self, underway: Underway) -> None:
        """Begin in the middle of the search."""
        self._seeds = underway.seeds
        for bracket in self._search.brackets:
            self._waiting += sum(len(rung.waiting()) for rung in bracket.rungs[:-1]) * (not bracket.finished)
            for trial, at in bracket.training.items():
                self._jobs += 1
                # A new trial of `LearningHalving` may be on its way to a rung further up.
                begin = bracket.rungs[at - 1].length if at and trial in bracket.rungs[at - 1] else 0
                found = self._meet(trial, begin, bracket.rungs[at].length)
                if (seconds := underway.remaining.get(trial)) is None:
                    self._queue.append(trial)
                    continue
                self._live[trial] = 0.0
                self._seq += 1
                _, loss = self._training.train(found.setting, found.length, found.target)
                heappush(self._agenda, (seconds, self._seq, trial, loss))
        for trial, seconds in underway.leaving.items():
            self._live[trial] = 0.0
            self._seq += 1
            heappush(self._agenda, (seconds, self._seq, trial, None))

    def run(self) -> Course:
        agenda, queue, live = self._agenda, self._queue, self._live
        workers, limit = self._workers, self._limit
        full_until: float | None = None
        last_full = 0.0
        self._pull(None)
        self._start()
        full = len(live) >= limit
        if not full:
            full_until = 0.0
        while agenda:
            self._now, _, trial, loss = heappop(agenda)
            if loss is not None:
                self._report(trial, loss)
                if queue and len(live) < workers:
                    self._start()
                    full = len(live) >= limit
                continue
            self._busy += self._now - live.pop(trial)
            if queue:
                self._start()
            was_full, full = full, len(live) >= limit
            if was_full and not full:
                last_full = self._now
                if full_until is None:
                    full_until = self._now
        return Course(
            arrivals=tuple(tuple(bracket.arrivals) for bracket in self._search.brackets),
            seconds=self._now,
            busy=self._busy,
            trained=self._trained,
            first_end=self._first_end,
            full_until=self._now if full_until is None else full_until,
            last_full=last_full,
            most_waiting=self._most_waiting,
        )

    def _report(self, trial: TrialId, loss: float) -> None:
        """A trial has trained to its target."""
        found = self._trials[trial]
        length = found.length = found.target
        verdict = self._search.report(trial, length, loss)
        if isinstance(verdict, Pause):
            self._jobs -= 1
            self._waiting += 1
            if not self._pull(trial):
                self._let_go(trial, save=True)
            if self._waiting > self._most_waiting:
                self._most_waiting = self._waiting
        elif isinstance(verdict, GoOn):
            self._train(trial, found, verdict.target, 0.0)
        else:
            self._jobs -= 1
            complete = isinstance(verdict.why, ReachedEnd)
            if complete and self._first_end is None:
                self._first_end = self._now
            if self._witness is not None:
                self._witness.ended(trial)
            self._let_go(trial, save=complete)
            self._pull(None)

    def _pull(self, reporting: TrialId | None) -> bool:
        """Take jobs for free capacity; returns whether the trial that reports right now trains on."""
        goes_on = False
        search, trials = self._search, self._trials
        while self._jobs < self._limit and (job := search.next_job()) is not None:
            self._jobs += 1
            trial, target, why = job
            if isinstance(why, New):
                self._meet(trial, 0, target)
            else:
                self._waiting -= 1
                found = trials.get(trial) or self._meet(trial, self._below(trial, target), target)
                if trial == reporting:
                    goes_on = True
                    self._train(trial, found, target, 0.0)
                    continue
                found.target = target
            self._queue.append(trial)
        for retired in search.retired():
            self._waiting -= 1
            if self._witness is not None:
                self._witness.ended(retired.trial)
        return goes_on

    def _meet(self, trial: TrialId, length: int, target: int) -> _Trial:
        """A trial that gets a job for the first time since the play began."""
        seed = self._seeds.get(trial) if self._seeds else None
        if seed is None:
            seed = training_seed(self._seed, *self._search.address(trial))
        found = self._trials[trial] = _Trial(Setting(trial, seed), length, target)
        return found

    def _below(self, trial: TrialId, target: int) -> int:
        """The length of the rung below, where a trial that is promoted has waited; 0 below the first rung."""
        rungs = self._search.brackets[self._search.address(trial)[0]].rungs
        return max((rung.length for rung in rungs if rung.length < target), default=0)

    def _start(self) -> None:
        """Give free workers to those that wait for one."""
        queue, live = self._queue, self._live
        held: list[TrialId] = []
        while queue and len(live) < self._workers:
            trial = queue.popleft()
            if trial in live:  # its last process still saves
                held.append(trial)
                continue
            live[trial] = self._now
            found = self._trials[trial]
            self._train(trial, found, found.target, self._costs.setting_up(found.length))
        if held:
            queue.extendleft(reversed(held))

    def _train(self, trial: TrialId, found: _Trial, target: int, delay: float) -> None:
        """Train a trial to a target, after so many seconds of start-up."""
        found.target = target
        seconds, loss = self._training.train(found.setting, found.length, target)
        if self._costs.straggling:
            seconds *= self._costs.delay(found.setting.seed, found.length)
        self._trained += seconds
        self._seq += 1
        heappush(self._agenda, (self._now + (delay + seconds), self._seq, trial, loss))

    def _let_go(self, trial: TrialId, *, save: bool) -> None:
        """A trial leaves its worker, with its checkpoint saved or without one."""
        self._seq += 1
        seconds = 0.0
        if save:
            seconds = self._costs.save
            if self._witness is not None:
                self._witness.saved(trial, self._trials[trial].length)
        heappush(self._agenda, (self._now + seconds, self._seq, trial, None))
