"""A fast simulation of a whole search in virtual time, with the real search and a model of everything else.

It assigns jobs to workers exactly as the engine does with the simulated backend, which a test
compares.  But it makes no events, decisions or log entries, so it is fast enough for a preview
of hundreds of searches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol, TypeAlias

from ashwood.forecast.costs import NO_COSTS, Costs
from ashwood.forecast.training import Setting, Training
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Audited, Extended, New, Pause, Promote, ReachedEnd, TrialId

Arrivals: TypeAlias = tuple[tuple[int, ...], ...]
"""How many trials reached each rung, by bracket."""


class Witness(Protocol):
    """An observer of a simulated search, for example to count its checkpoints."""

    def watch(self, search: Tournament) -> None:
        """Begin to observe a search, before its first job."""
        ...

    def resumes(self, trial: TrialId, length: int) -> int:
        """Return the length from which a trial resumes that has trained to at least ``length``."""
        ...

    def saved(self, trial: TrialId, length: int) -> None:
        """Record that a trial has saved a checkpoint at a total length."""
        ...

    def ended(self, trial: TrialId) -> None:
        """Record that a trial will not train again; a completed trial saves its last checkpoint after this call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """The state of a running search's trials, as the start of a simulation.

    Attributes:
        seeds: training seeds of some trials; all others have the seeds of their experiment.
        remaining: seconds until each training trial reports.
        leaving: seconds until the worker of each ending attempt is free.
    """

    seeds: Mapping[TrialId, int]
    remaining: Mapping[TrialId, float]
    leaving: Mapping[TrialId, float]


@dataclass(frozen=True, slots=True)
class Course:
    """The result of a simulated search; times are in seconds since its start.

    Attributes:
        arrivals: number of trials that reached each rung, by bracket.
        seconds: time when the last worker became free.
        busy: total time that all workers spent on trials, including start-up and saving.
        trained: the part of `busy` that was training.
        first_end: time when the first trial reached max_length, or None if none did.
        full_until: time until which all usable workers were busy from the start on.
        last_full: last time when all usable workers were busy; the tail of the search begins there.
        most_waiting: largest number of trials that were paused at once.
        audits: number of promotions that were audits.
        audited_length: training length of these promotions.
        replicates: number of all replicates.
    """

    arrivals: Arrivals
    seconds: float
    busy: float
    trained: float
    first_end: float | None
    full_until: float
    last_full: float
    most_waiting: int
    replicates: int
    audits: int = 0
    audited_length: int = 0


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
    """Simulate a search to its end.

    Args:
        search: the search, new or with trials; it is changed.
        training: model of the training code.
        workers: number of workers.
        costs: durations of everything but training.
        seed: seed of the experiment, from which the training seeds of trials are drawn.
        witness: observer of the search, or None.
        underway: state of the trials of a search that has started, or None; times in the result count from there.
    """
    play = _Play(search, training, workers, costs, seed, witness)
    if underway is not None:
        play.start_underway(underway)
    return play.run()


class _Trial:
    """A simulated trial: its length so far, and the target of its job."""

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
        if witness is not None:
            witness.watch(search)
        self._seeds: Mapping[TrialId, int] = {}
        most = search.max_concurrent_trials
        self._limit = min(workers, most) if most else workers
        self._now = 0.0
        self._seq = 0
        # Future events: (time, sequence number, trial, loss).  With a loss the trial reports, with None its worker
        # becomes free.  The sequence number orders events at the same time.
        self._agenda: list[tuple[float, int, TrialId, float | None]] = []
        self._trials: dict[TrialId, _Trial] = {}
        # Trials that have a job and wait for a worker.
        self._queue: deque[TrialId] = deque()
        # Trials that occupy a worker, each with the time at which it began to.
        self._live: dict[TrialId, float] = {}
        self._jobs = 0
        self._waiting = 0
        self._most_waiting = 0
        self._audits = 0
        self._audited_length = 0
        self._busy = 0.0
        self._trained = 0.0
        self._first_end: float | None = None

    def start_underway(self, underway: Underway) -> None:
        """Set the simulation to the state of a search that already has trials."""
        self._seeds = underway.seeds
        for bracket in self._search.brackets:
            self._waiting += sum(len(rung.waiting()) for rung in bracket.rungs[:-1]) * (not bracket.finished)
            self._waiting += len(bracket.queued)
            for trial, at in bracket.training.items():
                # A new trial of `LearningHalving` may skip lower rungs, and has no result at the rung below.
                begin = bracket.rungs[at - 1].length if at and trial in bracket.rungs[at - 1] else 0
                self._add_training(trial, begin, bracket.rungs[at].length, underway)
        replicates = self._search.replicates
        self._waiting += len(replicates.queued)
        for trial in sorted(replicates.training):
            self._add_training(trial, 0, replicates.created[trial].length, underway)
        for trial, seconds in underway.leaving.items():
            self._live[trial] = 0.0
            self._seq += 1
            heappush(self._agenda, (seconds, self._seq, trial, None))

    def _add_training(self, trial: TrialId, begin: int, target: int, underway: Underway) -> None:
        """Add a trial that has a job when the simulation begins."""
        self._jobs += 1
        found = self._add(trial, begin, target)
        if (seconds := underway.remaining.get(trial)) is None:
            if self._witness is not None:
                found.length = self._witness.resumes(trial, begin)
            self._queue.append(trial)
            return
        self._live[trial] = 0.0
        self._seq += 1
        _, loss = self._training.train(found.setting, found.length, found.target)
        heappush(self._agenda, (seconds, self._seq, trial, loss))

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
            audits=self._audits,
            audited_length=self._audited_length,
            replicates=len(self._search.replicates.created),
        )

    def _report(self, trial: TrialId, loss: float) -> None:
        """Report the loss of a trial at its target to the search, and act on the verdict."""
        found = self._trials[trial]
        length = found.length = found.target
        verdict = self._search.report(trial, length, loss)
        if isinstance(verdict, Pause):
            self._jobs -= 1
            self._waiting += 1
            if not self._pull(trial):
                self._end(trial, save=True)
            if self._waiting > self._most_waiting:
                self._most_waiting = self._waiting
        elif isinstance(verdict, Promote):
            self._train(trial, found, verdict.target, 0.0)
        else:
            self._jobs -= 1
            complete = isinstance(verdict.why, ReachedEnd)
            if complete and self._first_end is None:
                self._first_end = self._now
            if self._witness is not None:
                self._witness.ended(trial)
            self._end(trial, save=complete)
            self._pull(None)

    def _pull(self, reporting: TrialId | None) -> bool:
        """Get jobs for free capacity, and return whether one of them is for the trial that has just reported."""
        continues = False
        search, trials = self._search, self._trials
        while self._jobs < self._limit and (job := search.next_job()) is not None:
            self._jobs += 1
            trial, target, why = job
            if isinstance(why, New):
                self._add(trial, 0, target)
            else:
                self._waiting -= 1
                begin = why.length if isinstance(why, Extended) else self._below(trial, target)
                found = trials.get(trial) or self._add(trial, begin, target)
                if isinstance(why, Audited):
                    self._audits += 1
                    self._audited_length += target - begin
                if trial == reporting:
                    continues = True
                    self._train(trial, found, target, 0.0)
                    continue
                found.target = target
                if self._witness is not None:
                    found.length = self._witness.resumes(trial, found.length)
            self._queue.append(trial)
        for retired in search.retired():
            self._waiting -= 1
            if self._witness is not None:
                self._witness.ended(retired.trial)
        return continues

    def _add(self, trial: TrialId, length: int, target: int) -> _Trial:
        """Add a trial that gets its first job in this simulation."""
        seed = self._seeds.get(trial) if self._seeds else None
        if seed is None:
            seed = self._search.training_seed(self._seed, trial)
        found = self._trials[trial] = _Trial(Setting(trial, seed), length, target)
        return found

    def _below(self, trial: TrialId, target: int) -> int:
        """Return the length at which a promoted trial was paused: the length of the rung below its target, or 0."""
        if trial in self._search.replicates.created:
            return 0
        rungs = self._search.brackets[self._search.address(trial)[0]].rungs
        return max((rung.length for rung in rungs if rung.length < target), default=0)

    def _start(self) -> None:
        """Assign free workers to waiting trials."""
        queue, live = self._queue, self._live
        held: list[TrialId] = []
        while queue and len(live) < self._workers:
            trial = queue.popleft()
            if trial in live:  # The previous attempt of the trial still saves.
                held.append(trial)
                continue
            live[trial] = self._now
            found = self._trials[trial]
            self._train(trial, found, found.target, self._costs.setting_up(found.length))
        if held:
            queue.extendleft(reversed(held))

    def _train(self, trial: TrialId, found: _Trial, target: int, delay: float) -> None:
        """Schedule the report of a trial at its target, after ``delay`` seconds of start-up."""
        found.target = target
        seconds, loss = self._training.train(found.setting, found.length, target)
        if self._costs.straggling:
            seconds *= self._costs.delay(found.setting.seed, found.length)
        self._trained += seconds
        self._seq += 1
        heappush(self._agenda, (self._now + (delay + seconds), self._seq, trial, loss))

    def _end(self, trial: TrialId, *, save: bool) -> None:
        """Schedule the end of a trial's attempt, after a checkpoint if ``save``."""
        self._seq += 1
        seconds = 0.0
        if save:
            seconds = self._costs.save
            if self._witness is not None:
                self._witness.saved(trial, self._trials[trial].length)
        heappush(self._agenda, (self._now + seconds, self._seq, trial, None))
