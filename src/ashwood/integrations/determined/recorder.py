"""Turns what training code of Determined reports and stores into reports and checkpoints of a trial.

Only the process of rank 0 has a recorder.  An attempt reaches its target only with a report that the search compares:
`Recorder.complete`, or in code without operations a validation with the metric of the search.  Until then, a validation
and a checkpoint that may belong to that report are held.  If the training goes on without it, they are recorded below
the target.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

from ashwood.checkpoints.links import copy_contents
from ashwood.checkpoints.manifest import decode, read_manifest
from ashwood.checkpoints.trees import remove_tree
from ashwood.errors import TrainingCodeError
from ashwood.integrations.determined.info import Identity, latest_identity
from ashwood.integrations.determined.lengths import Lengths
from ashwood.trial import Trial
from ashwood.trial.api import to_number
from ashwood.trial.attempt import TRAINING, Leave, without_result

logger = logging.getLogger("determined.core")

_STEPS, _SAVES = "batches", "saves"
"""Units of positions at one length: ``steps_completed``, or the number of checkpoints that were stored."""


class Stored:
    """A checkpoint that training code has stored.

    Attributes:
        identity: its storage id and steps.
        directory: its files.
        name: its name in the trial's storage, or None while it is held.
        deleted: whether the training code has deleted it.
    """

    def __init__(self, identity: Identity, directory: Path) -> None:
        self.identity = identity
        self.directory = directory
        self.name: str | None = None
        self.deleted = False

    def copy(self, directory: Path) -> None:
        """Link or copy the files into the directory of a checkpoint."""
        copy_contents(self.directory, directory, skip="", copy=_link)


class Recorder:
    """Records reports and checkpoints of one attempt.

    Attributes:
        trial: the trial.
        uses_operations: whether the training code takes its lengths from operations of the searcher.
        stored: checkpoints that were stored by this process, by storage id.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.uses_operations = False
        self.stored: dict[str, Stored] = {}
        self._attempt = trial._attempt
        self._attempt.trains_on = True
        self._job = self._attempt.job
        identity = None if trial._checkpoint is None else latest_identity(trial)
        self._lengths = Lengths(self._job, None if identity is None else identity.steps_completed)
        # Validation metrics and a checkpoint that are held, because they may belong to the report at the target.
        self._held_metrics: dict[str, float] = {}
        self._held: Stored | None = None
        self._held_at: int | None = None
        self._latest: Stored | None = None
        self._steps_since_latest = -inf
        self._steps = 0
        self._saves = 0
        self._last_validation: dict[str, float] = {}
        # Whether the metric of the search was reported after the latest checkpoint was stored.
        self._validated_since_latest = False
        self._validated_at: int | None = None
        self._saved_steps: set[int] = set()
        self._waited_at: int | None = None
        self._was_preempted = False
        self._gave_operation = False
        self._is_finished = False
        self.best: float | None = None

    # -- reports --------------------------------------------------------------------------------

    def report_training(self, steps: int, metrics: Mapping[str, Any]) -> None:
        """Record training metrics."""
        values = numbers(metrics)
        length = self._arrive(steps, values)
        name = self._job.metric
        named = {TRAINING + key: value for key, value in values.items() if TRAINING + key != name}
        self._send_or_hold(named, length, steps)

    def report_group(self, group: str, steps: int, metrics: Mapping[str, Any]) -> None:
        """Record metrics of a group other than training and validation."""
        values = {f"{group}.{name}": value for name, value in numbers(metrics).items()}
        length = self._arrive(steps)
        self._send_or_hold({key: value for key, value in values.items() if key != self._job.metric}, length, steps)

    def report_validation(self, steps: int, metrics: Mapping[str, Any]) -> None:
        """Record validation metrics.  In code without operations, the search compares them at its target."""
        values = numbers(metrics)
        is_compared = self._job.metric in values
        length = self._arrive(steps, values, validated=True)
        if is_compared:
            self._note_best(values[str(self._job.metric)])
            self._last_validation = values
            self._validated_since_latest = True
        reaches = not self._is_over and not self._is_open_ended and length >= self._attempt.target
        if reaches and self._asks_at_reports and is_compared:
            self._ask({**self._held_metrics, **values}, length, steps)
        else:
            self._send_or_hold(values, length, steps)

    def next_target(self) -> int | None:
        """Return the length of the next operation, or None if the training code must end.

        Raises:
            TrainingCodeError: the experiment has no length.
        """
        self.uses_operations = True
        if self._is_open_ended:
            raise TrainingCodeError(
                "core_context.searcher.operations() needs a length, but the experiment file has none: add max_length "
                "to its searcher section, or let the training code loop by itself"
            )
        # Code that resumes needs one operation at least: it may use what it computes there after its loop.
        must_end = self._attempt.stop_requested and self._gave_operation
        self._gave_operation = True
        return None if self._is_over or self._attempt._departure is not None or must_end else self._attempt.target

    def complete(self, metric: Any) -> None:
        """Report the metric of the search at the target of the present operation, and wait for its answer."""
        values, name = dict(self._held_metrics), self._job.metric or "searcher_metric"
        found = numbers(metric) if isinstance(metric, Mapping) else numbers({name: metric})
        if name not in found:
            if name not in values:
                raise TypeError(
                    f"op.report_completed() takes the value of {name!r}, the metric of the searcher, as a number, "
                    f"but got {metric!r}"
                )
        else:
            values |= found
            self._note_best(found[name])
        length, steps = self._attempt.target, self._steps
        self._ask(values, length, steps)
        self._lengths.learn(length, steps)

    def _note_best(self, metric: float) -> None:
        better = min if self._job.smaller_is_better else max
        self.best = metric if self.best is None else better(self.best, metric)

    def best_validation(self) -> float | None:
        """Return the best metric of this process and of the experiment's checkpoints, or None."""
        loss = self._attempt._link.best()
        if isfinite(loss):
            self._note_best(loss if self._job.smaller_is_better else -loss)
        return self.best

    @property
    def _is_open_ended(self) -> bool:
        """Whether the training code decides how long it trains, and no report is compared."""
        return self._job.open_ended

    @property
    def _is_over(self) -> bool:
        return self._attempt._final is not None

    @property
    def _asks_at_reports(self) -> bool:
        """Whether the search compares validations of code that takes no operations.

        Searches without early stopping do not: there, the training code decides how long it trains.
        """
        return self._job.halving and not self.uses_operations

    def _arrive(self, steps: int, values: dict[str, float] | None = None, *, validated: bool = False) -> int:
        """Return the length after a number of steps, after anything is recorded that was held at an earlier step."""
        if self._held_at is not None and steps > self._held_at:
            self._release()
        self._steps = max(self._steps, steps)
        if self._latest is not None:
            self._steps_since_latest = max(self._steps_since_latest, steps)
        bounded = not (self._asks_at_reports or self._is_open_ended)
        length = self._lengths.at(steps, validated=validated, bounded=bounded)
        if validated and values and (given := self._lengths.given(values)) is not None:
            self._lengths.learn(given, steps)
            return given
        return length

    def _below_target(self, length: int) -> int:
        """Return a length, limited to the range that the attempt may pass without being compared."""
        now = self._attempt.length
        if self._is_open_ended:
            return max(length, now)
        if self._is_over:
            return now if not self._asks_at_reports else max(length, now)
        return max(min(length, self._attempt.target - 1), now)

    def _send_or_hold(self, values: dict[str, float], length: int, steps: int) -> None:
        """Report metrics, or hold them if they may belong to the report at the target."""
        if self._is_over or self._is_open_ended or length < self._attempt.target:
            self._send(values, length, steps)
        else:
            self._hold(steps)
            self._held_metrics |= values

    def _send(self, values: dict[str, float], length: int, steps: int) -> None:
        length = self._below_target(length)
        if self._is_over and length == self._attempt.length:
            return  # The search has decided already, so nothing more can be recorded at this length.
        metric = self._job.metric
        if metric in values:
            if self._validated_at == length:
                # A length can have one value of this metric.
                values = {name: value for name, value in values.items() if name != metric}
            self._validated_at = length
        self._attempt.report(values, None, length, (_STEPS, max(0, steps)))

    def _ask(self, values: dict[str, float], length: int, steps: int) -> None:
        """Report at the target, with the checkpoint that was stored after the same number of steps."""
        stored = self._held
        if stored is None and self._latest is not None and self._steps_since_latest <= self._latest_steps:
            stored = self._latest
        self._held, self._held_at, self._held_metrics = None, None, {}
        position = self._position_of(stored) if stored is not None else (_STEPS, max(0, steps))
        if stored is not None and not stored.deleted:
            # If the search continues the trial, this is saved after its answer, and if the trial ends, below.
            self._attempt.save(stored.copy, length, position)
        self._attempt.report(values, None, length, position)
        self._validated_at = length
        if stored is not None and not stored.deleted:
            self._attempt.save(stored.copy, length, position)
            self._note_name(stored)

    # -- checkpoints ----------------------------------------------------------------------------

    @property
    def _latest_steps(self) -> int:
        return 0 if self._latest is None else self._latest.identity.steps_completed or 0

    def store(self, identity: Identity, directory: Path) -> None:
        """Save a checkpoint, whose files are in ``directory``, which belongs to this recorder from now on."""
        steps = identity.steps_completed or 0
        identity.write(directory)
        stored = Stored(identity, directory)
        length = self._arrive(steps)
        former, self._latest, self._steps_since_latest = self._latest, stored, -inf
        self._validated_since_latest = False
        self.stored[identity.storage_id] = stored
        if not self._is_over and not self._is_open_ended and length >= self._attempt.target:
            if self._held is not None and self._held_at == steps:
                self._save(self._held, self._attempt.target - 1)
            self._hold(steps)
            self._held = stored
        else:
            self._save(stored, length)
        if former is not None and former is not self._held:
            self._discard(former)

    def _save(self, stored: Stored, length: int) -> None:
        if stored.deleted:
            return
        length = self._attempt.length if self._is_over else self._below_target(length)
        self._attempt.save(stored.copy, length, self._position_of(stored))
        self._note_name(stored)

    def _position_of(self, stored: Stored) -> tuple[str, int]:
        """Return a position at which nothing has been saved."""
        steps = max(0, stored.identity.steps_completed or 0)
        self._saves += 1
        position = (_SAVES, self._saves) if steps in self._saved_steps else (_STEPS, steps)
        self._saved_steps.add(steps)
        return position

    def _note_name(self, stored: Stored) -> None:
        stored.name = self._attempt._checkpoint[1]
        logger.info(f"saved checkpoint {stored.identity.storage_id} as {stored.name}")

    def delete(self, stored: Stored) -> None:
        """Forget a stored checkpoint, so that it is not saved later."""
        stored.deleted = True
        if stored is self._held:
            self._held = None
        self._discard(stored)

    def _discard(self, stored: Stored) -> None:
        remove_tree(stored.directory.parent, stored.directory.name, ignore_errors=True)

    # -- what is held ---------------------------------------------------------------------------

    def _hold(self, steps: int) -> None:
        if self._held_at != steps:
            self._release()
            self._held_at = steps

    def _release(self) -> None:
        """Record below the target what was held, because it did not belong to the report at the target."""
        metrics, stored, steps = self._held_metrics, self._held, self._held_at or 0
        self._held, self._held_at, self._held_metrics = None, None, {}
        if metrics:
            self._send(metrics, self._attempt.target - 1, steps)
        if stored is not None:
            self._save(stored, self._attempt.target - 1)

    # -- the end --------------------------------------------------------------------------------

    def should_preempt(self) -> bool:
        """Return whether the training code must end now."""
        if not self._attempt.stop_requested and self._attempt._departure is None:
            return False
        if not self._is_over and self._held_at is not None and self._waited_at != self._held_at:
            # The code has probably reached the target.  If it reports that next, its trial is compared before it ends.
            self._waited_at = self._held_at
            return False
        if self._held_at is not None:
            self._release()
        self._was_preempted = True
        return True

    def exit_early(self, *, invalid: bool, why: str) -> None:
        """End the trial for good when the training code ends; if ``invalid``, another one replaces it."""
        with suppress(Leave):
            if invalid:
                self.trial.invalid_hparams(why)
            self.trial.stop()

    def finish(self, error: BaseException | None = None) -> None:
        """End the use of the context.

        What is held is recorded when the training code has ended, because it may still fail: a script that calls
        ``sys.exit(1)`` after it has closed its context does not complete its trial.

        Args:
            error: the exception that ended the training code, or None.
        """
        if self._is_finished:
            return
        self._is_finished = True
        has_failed = error is not None and not (isinstance(error, SystemExit) and error.code in (None, 0))
        if has_failed or isinstance(error, Leave):
            self._discard_latest()
        else:
            self._attempt.at_end = self._end

    def _end(self) -> None:
        """Record what is held, and end the trial if the training code has ended by itself."""
        try:
            self._conclude()
        finally:
            self._discard_latest()

    def _discard_latest(self) -> None:
        if self._latest is not None:
            self._discard(self._latest)

    def _conclude(self) -> None:
        attempt = self._attempt
        is_validated = self._validated_since_latest and self._steps_since_latest <= self._latest_steps
        if self._is_open_ended and self._latest is not None and is_validated and not self._was_preempted:
            # The code validated what it had stored before.  Saved again, the checkpoint has the metric.
            self._save(self._latest, attempt.length)
        if attempt._departure is not None or self._is_over or self._was_preempted or self._is_open_ended:
            if self._held_at is not None:
                self._release()
            return
        if attempt._went_on_at is not None and attempt._went_on_at == attempt.length and self.uses_operations:
            return  # The code ended although the search has given it another operation.  It is called again.
        if self._asks_at_reports or (self.uses_operations and self._job.halving):
            # The code ended before max_length.  Its results stay in the search, also those of earlier attempts.
            if self._held_at is not None:
                self._release()
            if attempt.reported or self._job.length > 0:
                self._stop()
            return
        result = self._last_validation or self._result_of_checkpoint()
        if not result:
            # The trial is complete, as in Determined: its code has ended by itself, without an error.
            result = {str(self._job.metric): nan}
            attempt.warn(without_result(self._job, list(attempt.reported)))
            self._steps_since_latest = inf  # A checkpoint that is saved already is not saved again: it has no metric.
        self._held_metrics = {**result, **self._held_metrics}
        self.complete(result[str(self._job.metric)])

    def _result_of_checkpoint(self) -> dict[str, float]:
        """Return the metrics of the checkpoint that the attempt continues from, which may be the last of the trial."""
        directory = self.trial._checkpoint
        # The length is 0 if the checkpoint is that of another trial.
        data = None if directory is None or self._job.length == 0 else read_manifest(directory)
        metrics = {} if data is None else dict(decode(data, str(directory)).metrics)
        return metrics if self._job.metric in metrics else {}

    def _stop(self) -> None:
        with suppress(Leave):
            self.trial.stop()


def numbers(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the metrics that are numbers, also those in nested mappings, whose names are joined with dots.

    Determined stores any values that JSON can represent.  Ashwood stores numbers, and leaves out the others.
    """
    values: dict[str, float] = {}
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            values |= numbers(value, f"{name}.")
            continue
        with suppress(TypeError):
            if (number := to_number(name, value)) is not None:
                values[name] = number
    return values


def _link(source: str, target: Path) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # The storage is on another file system, or on one without hard links.
        shutil.copyfile(source, target)
