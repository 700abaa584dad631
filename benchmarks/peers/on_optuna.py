"""Optuna: its pruner alone, and searches of several processes that share a storage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from benchmarks.peers.script import LENGTHS, main
from benchmarks.steps import StepLog
from benchmarks.workload import DIVISOR, MAX_LENGTH, MIN_LENGTH, Workload


def schedule(variant: str, trials: int, losses: Iterator[float]) -> int:
    """Ask, report at each rung until pruned, tell."""
    with tempfile.TemporaryDirectory() as directory:
        pruner = SuccessiveHalvingPruner(min_resource=LENGTHS[0], reduction_factor=DIVISOR)
        study = optuna.create_study(storage=_storage(variant, directory), sampler=RandomSampler(0), pruner=pruner)
        return sum(_schedule(study, losses) for _ in range(trials))


def _schedule(study: optuna.Study, losses: Iterator[float]) -> int:
    trial = study.ask()
    for reports, length in enumerate(LENGTHS, start=1):
        trial.report(next(losses), length)
        if length < LENGTHS[-1] and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return reports
    study.tell(trial, 0.0)
    return len(LENGTHS)


def search(variant: str, workload: Workload, log: str) -> None:
    """A process for each worker, each with its part of the trials."""
    with tempfile.TemporaryDirectory() as directory:
        optuna.create_study(study_name="search", storage=_storage(variant, directory))
        # A storage's connections can't be shared with forked processes.
        context = get_context("spawn")
        workers = [
            context.Process(target=_work, args=(variant, directory, part, workload.step_seconds, log))
            for part in _parts(workload)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def _parts(workload: Workload) -> list[int]:
    each, rest = divmod(workload.trials, workload.workers)
    return [each + (worker < rest) for worker in range(workload.workers)]


def _work(variant: str, directory: str, trials: int, seconds: float, log: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(
        study_name="search",
        storage=_storage(variant, directory),
        sampler=RandomSampler(),
        pruner=SuccessiveHalvingPruner(min_resource=MIN_LENGTH, reduction_factor=DIVISOR),
    )
    study.optimize(partial(_train, log=StepLog(log, seconds)), n_trials=trials)


def _train(trial: Trial, log: StepLog) -> float:
    x = trial.suggest_float("x", 0.0, 1.0)
    for step in range(1, MAX_LENGTH + 1):
        log.step(trial.number)
        trial.report(x, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x


def _storage(variant: str, directory: str) -> BaseStorage:
    match variant:
        case "memory":
            return InMemoryStorage()
        case "journal":
            return JournalStorage(JournalFileBackend(str(Path(directory, "journal.log"))))
        case "sqlite":
            return RDBStorage(f"sqlite:///{directory}/study.db")
    raise ValueError(variant)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main(schedule, search)
