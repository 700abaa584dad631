"""A whole search played through in virtual time: the real rules, and workers that only count.

It is to the engine with the simulated backend what a score is to its performance: jobs
are given out, wait for workers and take their time exactly as there (a test compares the
two), but nothing is recorded, so that a preview can afford hundreds of searches.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TypeAlias

from ashwood.search.draw import training_seed
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import GoOn, Pause, ReachedEnd, TrialId
from ashwood.simulation.costs import NO_COSTS, Costs
from ashwood.simulation.training import Setting, Training

Arrivals: TypeAlias = tuple[tuple[int, ...], ...]
"""How many trials reached each rung, by bracket."""


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
        most_waiting: the most trials that waited at a rung at once.
    """

    arrivals: Arrivals
    seconds: float
    busy: float
    trained: float
    first_end: float | None
    full_until: float
    most_waiting: int


def play(
    search: Tournament,
    training: Training,
    workers: int,
    *,
    costs: Costs = NO_COSTS,
    seed: int = 0,
) -> Course:
    """Play a search through to its end.

    Args:
        search: as it stands: fresh, or in the middle with nothing running.
        training: what trials take and come to.
        workers: how many there are.
        costs: what else takes time.
        seed: the experiment's: trials have the training seeds that they have there.
    """
    return _Play(search, training, workers, costs, seed).run()


class _Play:
    def __init__(self, search: Tournament, training: Training, workers: int, costs: Costs, seed: int) -> None:
        self._search = search
        self._training = training
        self._workers = workers
        self._costs = costs
        self._seed = seed
        most = search.max_concurrent_trials
        self._limit = min(workers, most) if most else workers
        self._now = 0.0
        self._seq = 0
        # (when, sequence, trial, loss or None: its worker is free).  The sequence settles ties.
        self._agenda: list[tuple[float, int, TrialId, float | None]] = []
        self._queue: deque[TrialId] = deque()
        self._live: dict[TrialId, float] = {}
        self._settings: dict[TrialId, Setting] = {}
        self._lengths: dict[TrialId, int] = {}
        self._targets: dict[TrialId, int] = {}
        self._jobs = 0
        self._waiting = 0
        self._most_waiting = 0
        self._busy = 0.0
        self._trained = 0.0
        self._first_end: float | None = None
        self._full_until: float | None = None

    def run(self) -> Course:
        self._pull(None)
        self._start()
        while self._agenda:
            self._now, _, trial, loss = heappop(self._agenda)
            if loss is None:
                self._busy += self._now - self._live.pop(trial)
            else:
                self._report(trial, loss)
            self._start()
        return Course(
            arrivals=tuple(tuple(len(rung) for rung in bracket.rungs) for bracket in self._search.brackets),
            seconds=self._now,
            busy=self._busy,
            trained=self._trained,
            first_end=self._first_end,
            full_until=self._now if self._full_until is None else self._full_until,
            most_waiting=self._most_waiting,
        )

    def _report(self, trial: TrialId, loss: float) -> None:
        target = self._targets[trial]
        self._lengths[trial] = target
        verdict = self._search.report(trial, target, loss)
        if isinstance(verdict, GoOn):
            self._train(trial, verdict.target, 0.0)
            return
        self._jobs -= 1
        if isinstance(verdict, Pause):
            self._waiting += 1
            if not self._pull(trial):
                self._later(self._costs.save, trial, None)
            self._most_waiting = max(self._most_waiting, self._waiting)
            return
        complete = isinstance(verdict.why, ReachedEnd)
        if complete and self._first_end is None:
            self._first_end = self._now
        self._later(self._costs.save if complete else 0.0, trial, None)
        self._pull(None)

    def _pull(self, reporting: TrialId | None) -> bool:
        """Take jobs for free capacity; returns whether the trial that reports right now trains on."""
        goes_on = False
        search = self._search
        while self._jobs < self._limit and (job := search.next_job()) is not None:
            self._jobs += 1
            trial = job.trial
            if trial not in self._settings:
                seed = training_seed(self._seed, *search.address(trial))
                self._settings[trial] = Setting(trial, seed)
                self._lengths[trial] = 0
            else:
                self._waiting -= 1
            if trial == reporting:
                goes_on = True
                self._train(trial, job.target, 0.0)
                continue
            self._targets[trial] = job.target
            self._queue.append(trial)
        self._waiting -= len(search.retired())
        return goes_on

    def _start(self) -> None:
        held: list[TrialId] = []
        while self._queue and len(self._live) < self._workers:
            trial = self._queue.popleft()
            if trial in self._live:  # its last process still saves
                held.append(trial)
                continue
            self._live[trial] = self._now
            self._train(trial, self._targets[trial], self._costs.setting_up(self._lengths[trial]))
        self._queue.extendleft(reversed(held))
        if self._full_until is None and len(self._live) < self._limit:
            self._full_until = self._now

    def _train(self, trial: TrialId, target: int, delay: float) -> None:
        self._targets[trial] = target
        setting, length = self._settings[trial], self._lengths[trial]
        seconds, loss = self._training.train(setting, length, target)
        seconds *= self._costs.delay(setting.seed, length)
        self._trained += seconds
        self._later(delay + seconds, trial, loss)

    def _later(self, seconds: float, trial: TrialId, loss: float | None) -> None:
        self._seq += 1
        heappush(self._agenda, (self._now + seconds, self._seq, trial, loss))
