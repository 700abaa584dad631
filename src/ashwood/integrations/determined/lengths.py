"""Converts ``steps_completed`` of training code to lengths of the experiment.

In Determined, ``steps_completed`` counts batches, while lengths of a search count batches, records, epochs, or what the
training code takes them for.  Both were independent of each other.  So the conversion is an estimate, and the recorder
uses it only below the target: a search compares no report because of an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import inf

from ashwood.trial.job import WorkerJob


def time_metric(job: WorkerJob) -> str:
    """Return the name of the metric that counts the length: the unit, or any that ``time_metric`` names as in 0.38."""
    searcher = job.config.get("searcher")
    name = searcher.get("time_metric") if isinstance(searcher, Mapping) else None
    return name if isinstance(name, str) else job.unit


class Lengths:
    """Estimates lengths from ``steps_completed``.

    The steps in a unit are known from a metric with the name of the unit or of ``time_metric``, from a completed
    operation, from the checkpoint that the trial continues from, or from the experiment file.  Otherwise steps count
    the unit itself, unless they exceed max_length: then each validation counts as one unit.
    """

    def __init__(self, job: WorkerJob, steps: int | None = None) -> None:
        """Begin at the length of the job's checkpoint, with which the training code stored ``steps``."""
        self._unit = job.unit
        self._time_metric = time_metric(job)
        self._limit = job.max_length
        self._start = job.length
        self._first = steps or 0
        self._validations = 0
        self._latest: int | None = None
        self._exceeded = False
        self._is_given = False
        self._per_unit: Fraction | None = None
        batch, records = job.hparams.get("global_batch_size"), job.records_per_epoch
        self._declared: Fraction | None = None
        if type(batch) is int and batch > 0:
            if job.unit == "records":
                self._declared = Fraction(1, batch)
            elif job.unit == "epochs" and records:
                self._declared = Fraction(-(-records // batch))
        if steps is not None:
            self.learn(job.length, steps)

    def learn(self, length: int, steps: int) -> None:
        """Record that training has reached a length after a number of steps."""
        if length > 0 and steps > 0:
            self._per_unit = Fraction(steps, length)

    def given(self, metrics: dict[str, float]) -> int | None:
        """Return the length that is among the metrics under the name of ``time_metric`` or the unit, or None."""
        value = metrics.get(self._time_metric)
        if value is None or not 0 <= value < inf:
            return None
        self._is_given = True
        return int(value)  # Code may validate within an epoch, and count it in fractions.

    def at(self, steps: int, *, validated: bool = False, bounded: bool = True) -> int:
        """Return the length after a number of steps.

        Args:
            steps: ``steps_completed``.
            validated: whether the training code has just validated.
            bounded: whether steps beyond max_length show that they do not count the unit.
        """
        if validated and steps != self._latest:
            self._validations += 1
            self._latest = steps
        by_validations = self._start + self._validations
        if self._per_unit is not None:
            return max(0, int(steps / self._per_unit))
        if self._is_given:
            return self._start  # The code counts from 0, and has reported nothing else yet.
        if self._unit == "epochs":
            if steps - self._first == self._validations and steps <= self._limit:
                return by_validations  # The code counts epochs, and validates after each of them.
            if self._declared is not None:
                return max(0, int(steps / self._declared))
            if not self._validations:
                return self._start  # Most code counts batches, so nothing is known before it has validated.
        elif self._declared is not None:
            return max(0, int(steps / self._declared))
        elif self._time_metric != self._unit and not self._validations:
            return self._start  # The first validation has the time metric, or shows that the code does not report it.
        if bounded and steps > self._limit:
            self._exceeded = True
        return by_validations if self._exceeded else max(0, steps)
