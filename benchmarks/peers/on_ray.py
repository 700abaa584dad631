"""Ray Tune: its ASHA scheduler alone, and searches that reuse their actors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from benchmarks.peers.script import LENGTHS, main
from benchmarks.steps import StepLog
from benchmarks.workload import DIVISOR, Workload


def schedule(_variant: str, trials: int, losses: Iterator[float]) -> int:
    """Report at each rung until stopped.  The scheduler asks no more of a trial than its id."""
    scheduler = ASHAScheduler(
        time_attr="length",
        metric="loss",
        mode="min",
        grace_period=LENGTHS[0],
        max_t=LENGTHS[-1],
        reduction_factor=DIVISOR,
    )
    reports = 0
    for number in range(trials):
        trial: Any = SimpleNamespace(trial_id=f"{number:08x}")
        controller: Any = None
        scheduler.on_trial_add(controller, trial)
        for length in LENGTHS:
            reports += 1
            result = {"length": length, "loss": next(losses)}
            if scheduler.on_trial_result(controller, trial, result) == TrialScheduler.STOP:
                break
    return reports


def search(_variant: str, workload: Workload, log: str) -> None:
    """On the cluster of RAY_ADDRESS, otherwise on a local one with a CPU for each worker."""
    there = "RAY_ADDRESS" in os.environ
    cluster: dict[str, Any] = {} if there else {"num_cpus": workload.workers, "include_dashboard": False}
    ray.init(**cluster, log_to_driver=False, logging_level="error")
    with tempfile.TemporaryDirectory() as directory:
        tuner = tune.Tuner(
            _train,
            param_space={
                "x": tune.uniform(0.0, 1.0),
                "log": log,
                "seconds": workload.step_seconds,
                "max_length": workload.max_length,
            },
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=workload.trials,
                max_concurrent_trials=workload.workers,
                reuse_actors=True,
                scheduler=ASHAScheduler(
                    grace_period=workload.min_length, max_t=workload.max_length, reduction_factor=DIVISOR
                ),
            ),
            run_config=tune.RunConfig(storage_path=directory, verbose=0),
        )
        tuner.fit()


def _train(config: dict[str, Any]) -> None:
    log = StepLog(config["log"], config["seconds"])
    trial = tune.get_context().get_trial_id()
    for _ in range(config["max_length"]):
        log.step(trial)
        tune.report({"loss": config["x"]})


if __name__ == "__main__":
    main(schedule, search)
