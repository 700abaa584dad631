"""One attempt in a worker: how far to train, when to ask the search, when to save, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf, isfinite
from typing import Any, NamedTuple, NoReturn

from ashwood.checkpoints import (
    RETRY_SECONDS,
    CheckpointInfo,
    Patience,
    Write,
    checkpoint_name,
    digest_of_draw,
    named_position,
    open_storage,
)
from ashwood.errors import StorageUnreachable, TrainingCodeError, did_you_mean, singular
from ashwood.trial.channel import Link, ReportAnswer
from ashwood.trial.heartbeat import Heartbeat
from ashwood.trial.job import WorkerJob
from ashwood.trial.lengths import STEPS, Scale, format_length
from ashwood.trial.loop import Loop

Save = Write
Position = tuple[str, int]
"""Where training is: the unit of a loop and the position in it, or an empty unit and the total length outside loops."""

NO_VALIDATION = "no validation at length "
"""How the cause of `Failed` begins if the code trained to its target and did not report the metric there."""

TRAINING = "training."
"""How the names of training metrics begin. The search never compares them."""


class Leave(SystemExit):
    """The training code asked to end the trial.

    It is not an `Exception`, so handlers in training code do not catch it, and a script ends without a traceback.
    """

    def __init__(self) -> None:
        super().__init__(0)


class Ended(NamedTuple):
    """The attempt ended as the search asked."""

    length: int


class Returned(NamedTuple):
    """The training code returned by itself, and that is the end of its trial: see `WorkerJob.open_ended`."""


class Failed(NamedTuple):
    """The training code failed; the first line of ``error`` is a summary.

    Attributes:
        cause: where the error arose if it comes again whenever the code gets there, and otherwise empty; see
            `ashwood.experiment.events.AttemptFailed`.
        has_reported: whether the attempt had reported anything before.
    """

    error: str
    cause: str = ""
    has_reported: bool = False


class Unusable(NamedTuple):
    """No trial of this search can train with this code; the first line of ``why`` is a summary."""

    why: str


class StorageTrouble(NamedTuple):
    """Files could not be written or read.

    Attributes:
        error: error message; the first line is a summary, as in `Failed`.
        cause: ``full`` if a disk or quota was full, ``unreachable`` if the checkpoint storage could not be used.
    """

    error: str
    cause: str


class Invalid(NamedTuple):
    """The training code declared the hyperparameters invalid."""

    why: str


class Stopped(NamedTuple):
    """The training code ended the trial."""


class Again(NamedTuple):
    """The training code returned but the search continues the trial: call the code again with this job."""

    job: WorkerJob


class Damaged(NamedTuple):
    """The training code was not called, because its checkpoint is damaged or missing."""

    checkpoint: str
    why: str


_LAST_TRIES_SECONDS = 10.0
"""Seconds for which a required save is tried at least."""
_NEXT_TRY_SECONDS = 2.0
"""Seconds between two tries of a save that is not required."""

_MOST_EXTRA = 0.2
"""Share of the training time that saves because of `WorkerJob.save_on` may take before a warning says so."""
_LEAST_EXTRA_SECONDS = 5.0

_MOST_UNSAVED = 100_000
"""Number of lengths whose reports are kept for the next checkpoint; code can report every batch and save once."""


def _number_of(returned: Any) -> float | None:
    """Return the return value of training code as a number, also one of NumPy, or None if it is not a number."""
    if isinstance(returned, (bool, str, bytes)) or not hasattr(type(returned), "__float__"):
        return None
    try:
        return float(returned)
    except (TypeError, ValueError):  # The value is an array of several numbers.
        return None


Outcome = Ended | Returned | Failed | Unusable | StorageTrouble | Invalid | Stopped | Again | Damaged


def no_length(what: str, unit: str = "epochs") -> str:
    """Return the message that training code asked for a length that the experiment does not have."""
    one = singular(unit)
    limit = "n" if unit == STEPS else f"{{{unit}: n}}"
    return (
        f"{what} needs a length, but the search has none: the experiment file has no searcher.max_length, so the "
        f"training code decides how long it trains. Add max_length: {limit} to the searcher section, or use a loop of "
        f"your own, such as for {one} in range(trial.length, n), and pass length={one} + 1 to trial.report()"
    )


def without_result(job: WorkerJob, reported: Sequence[str] = ()) -> str:
    """Return the warning about training code that has ended by itself without the metric of the search.

    Args:
        job: the job.
        reported: names of the metrics that it has reported.
    """
    names = ", ".join(map(repr, reported))
    only = f", only {names}{did_you_mean(job.metric, reported)}" if names else ""
    return f"the training code ended without reporting {job.metric!r}{only}; the trial is complete, without a result"


def draw_of(job: WorkerJob) -> str:
    """Return the digest that identifies the trial of a job in the manifests of its checkpoints."""
    return digest_of_draw(job.hparams, job.seed)


class Attempt:
    """One call of the training code.

    Attributes:
        job: the stretch of training that the attempt was started for.
        target: total length at which a report asks the search what to do.
        loop: the latest loop of the training code, or None if it has begun none.
        restored: whether the training code read its checkpoint; True if the job has no checkpoint.
        trains_on: whether code that owns its loop may train after a request to suspend, and decides itself where it
            ends; otherwise an exception ends it at its next report.
        at_end: function that is called when the training code has ended without an error, or None.  It may report and
            save.  In a command, these messages count only if the command succeeds.
    """

    def __init__(self, job: WorkerJob, link: Link) -> None:
        self.job = job
        # If the checkpoint is already at the target, the search has answered there, so the trial trains one step
        # further.
        self.target = max(job.target, job.length + 1)
        self._link = link
        # The target that was reached without the metric of the search, and the length to which loops continue until
        # that metric is reported.
        self._lengthened_at = self._lengthened_to = 0
        self._heartbeat = Heartbeat(link, job.pulse)
        self.loop: Loop | None = None
        self.restored = job.directory is None
        self.trains_on = False
        self.at_end: Callable[[], None] | None = None
        # Latest length that the training code passed to report() or save(), or None.
        self._named: int | None = None
        # Position that the training code passed with that length, because several positions have the same length.
        self._fine: Position | None = None
        # Whether the training code reads `should_stop`. Such code does not have to return after each report.
        self._looks = False
        # Whether the training code was asked to end: by `should_stop`, or by an exception.
        self._told_to_end = False
        # Whether the training code has reported since the request to suspend was noticed.
        self._reported_since = False
        self._suspended = False
        self._final: ReportAnswer | None = None
        self._went_on_at: int | None = None
        self._reported: dict[str, int] = {}
        # Metrics of the last report, if the training code has not begun a loop.
        self._last: dict[str, float] = {}
        self._reports_without_loop = 0
        # Metrics of reports that no checkpoint of this attempt contains yet, by length, in the order of the reports.
        self._unsaved: dict[int, dict[str, float]] = {}
        self._saves = False
        self._saver: tuple[Position, Save] | None = None
        self._saved_at: Position | None = None
        # Position at which the code called `Trial.save`; the checkpoint is saved after the search has answered there.
        self._save_later_at: Position | None = None
        self._began_at: Position = ("", job.length)
        self._saved_position = job.length
        self._checkpoint = (job.length, job.checkpoint)
        # Time since which optional saves (`save_on`) have failed, and the seconds after it until the next try.
        self._failing_since: float | None = None
        self._next_try_at_age = 0.0
        # Lowest loss of a saved checkpoint as far as this attempt knows, and seconds that it has spent on saves because
        # of `save_on`.
        self._best = inf if job.best is None else job.best
        self._extra_seconds = 0.0
        self._warned_of_extra_saves = False
        self._departure: Invalid | Stopped | None = None
        self._follows = job.rank > 0
        link.started(job.length)

    @property
    def reported(self) -> Mapping[str, int]:
        """Latest length of each metric that the attempt has reported, by the name of the metric."""
        return self._reported

    @property
    def length(self) -> int:
        """Total length so far, counting the unit in work."""
        loop = self.loop
        if loop is not None:
            return loop.scale.length(loop.position)
        return self.job.length if self._named is None else self._named

    # -- loops --------------------------------------------------------------------------------

    def chunks(self, unit: str, step: int = 1) -> Iterator[Iterator[int]]:
        """Yield the steps of a loop in chunks, up to the target."""
        loop = self._enter(unit, step)
        self._notice()
        try:
            while not self._leaves() and (goal := loop.scale.position(self._goal)) > loop.position:
                yield loop.chunk(min(goal, self._due(loop)), goal)
                loop.adapt()
                self._heartbeat.note(self._position())
                self._notice()
                if self._over or self.length < self.target:
                    continue
                if self._follows:
                    self._ask(self.length)
                elif self._lengthened_at != self.target:
                    self._lengthen(loop)
        finally:
            loop.active = False

    def goal(self, unit: str) -> int:
        """Return the position at which a loop over ``unit`` ends unless the search sets a new target."""
        return Scale(self.job, unit).position(self._goal)

    def first(self, unit: str) -> int:
        """Return the position at which a loop over ``unit`` begins."""
        if self.loop is not None and self.loop.unit == unit:
            return self.loop.position
        scale = Scale(self.job, unit)
        resumed = None if self.loop is not None else named_position(self.job.checkpoint or "", unit)
        is_exact = resumed is not None and scale.length(resumed) == self.job.length
        return resumed if resumed is not None and is_exact else scale.position(self.length)

    @property
    def _goal(self) -> int:
        """Total length at which a loop ends unless the search sets a new target."""
        return max(self.target, self._lengthened_to)

    def _lengthen(self, loop: Loop) -> None:
        """Extend a loop that reached its target without the metric of the search to the next validation.

        That is at most one validation period further, and never past max_length.  Several processes that train a trial
        together do not do this, because they do not know each other's reports.
        """
        period = self.job.validation_period
        if period is None or self.job.world_size > 1:
            return
        position = loop.scale.next_multiple(period, loop.position, "min_validation_period")
        self._lengthened_at = self.target
        self._lengthened_to = min(loop.scale.length(position), self.job.max_length)

    def _enter(self, unit: str, step: int) -> Loop:
        if self.job.open_ended:
            raise TrainingCodeError(no_length(f"trial.{unit}()", unit))
        if self.loop is not None and self.loop.active:
            raise TrainingCodeError(
                f"trial.{unit}() was called inside the loop over trial.{self.loop.unit}(): a trial counts one thing; "
                f"use an ordinary loop for the other"
            )
        if self._named is not None:
            raise TrainingCodeError(
                f"trial.{unit}() was called after report(length=...) or save(length=...): training code either names "
                "its lengths or uses a loop of the trial"
            )
        scale = Scale(self.job, unit)
        self._saved_position = position = self.first(unit)
        if self.loop is None:
            self._began_at = (unit, position)
        self.loop = Loop(unit, step, scale, position)
        self._heartbeat.note(self._position())
        return self.loop

    def _due(self, loop: Loop) -> int:
        """Return the next position at which a report is due."""
        position = loop.position
        if self._suspended:
            return position + 1
        dues = [loop.scale.position(self._goal)]
        if self.job.validation_period is not None:
            dues.append(loop.scale.next_multiple(self.job.validation_period, position, "min_validation_period"))
        if self.job.checkpoint_period is not None:
            dues.append(loop.scale.next_multiple(self.job.checkpoint_period, position, "min_checkpoint_period"))
        return min(dues)

    def _leaves(self) -> bool:
        """Return whether the loop must end here, between two steps."""
        if self._final is not None:
            return True
        if not self._suspended:
            return False
        # Nothing was trained since the last report, so the callable of that report still saves its state.
        self._save_if(True)
        return self._may_leave()

    def _may_leave(self) -> bool:
        """Return whether the attempt can end here without losing training that the next report would save."""
        return self._position() in (self._began_at, self._saved_at) or bool(self._reported and not self._saves)

    # -- lengths that the code passes ---------------------------------------------------------

    @property
    def should_stop(self) -> bool:
        """Whether the trial must end now, for training code that owns its loop."""
        self._looks = True
        if self._final is not None:
            return True
        self._notice()
        if not self._suspended:
            return False
        # Outside a loop of the trial, nothing is saved here, because training may have continued since the last report.
        self._told_to_end = self._leaves() if self.loop is not None else self._may_leave()
        return self._told_to_end

    @property
    def save_due(self) -> bool:
        """Whether a save is due that no callable has been passed for."""
        self._looks = True
        self._notice()
        if self._position() in (self._began_at, self._saved_at):
            return False
        return self._save_stands() or (self.length < self.target and self._period_passed())

    @property
    def stop_requested(self) -> bool:
        """Whether the trial was asked to end, even if training since its latest checkpoint would be lost."""
        if self.should_stop:
            return True
        self._told_to_end = self._told_to_end or self._suspended
        return self._suspended

    def _advance(self, length: int, position: Position | None) -> None:
        """Record the total length that the training code passed, and its position.

        If the code continues although the trial is over, it is ended here; otherwise it would hold its worker.
        """
        if self.loop is not None:
            raise TrainingCodeError(
                f"length={length} was passed after trial.{self.loop.unit}() was called, which counts by itself: leave "
                'length out; a metric of that name goes into a mapping: trial.report({"length": ...})'
            )
        before = self.length
        if length < before:
            raise TrainingCodeError(
                f"length={length} was passed after length {before}: lengths are totals and must not decrease; start "
                "at trial.length, which is the length of the checkpoint"
            )
        lost = self._suspended and self._reported_since and not self.trains_on and self._may_leave()
        if length > before and (self._final is not None or lost):
            self._told_to_end = True
            raise Leave
        self._named, self._fine = length, position

    def _count(self, metrics: dict[str, float]) -> None:
        """Count a report without a length as one more step, in training code that decides how long it trains.

        Reports of different metrics belong to the same step.
        """
        length = self.length
        if length == self.job.length or any(self._reported.get(name) == length for name in metrics):
            self._advance(length + 1, None)

    # -- reports ------------------------------------------------------------------------------

    def report(
        self,
        metrics: dict[str, float],
        save: Save | None,
        length: int | None = None,
        position: Position | None = None,
    ) -> None:
        """Send metrics to the driver, wait for the answer of the search at the target, and save if that is due.

        Args:
            metrics: the metrics.
            save: function that saves a checkpoint, or None.
            length: total length, for training code that owns its loop.
            position: position at that length, as a unit and a count, if several positions have the same length.
        """
        if length is not None:
            self._advance(length, position)
        elif self.job.open_ended:
            self._count(metrics)
        if not self.restored:
            self._warn_of_restoring()
        self._heartbeat.note(self._position())
        if self._suspended and self._position() == self._began_at:
            return  # No step was trained since the attempt began, so its checkpoint has this state already.
        length = self.length
        if save is not None:
            self._saves = True
            self._saver = (self._position(), save)
        if metrics:
            if not self._follows:
                self._link.reported(length, metrics)
            self._reported.update(dict.fromkeys(metrics, length))
            if self.loop is None:
                self._last = metrics
                self._reports_without_loop += self.job.metric in metrics
            # Reports at one length belong together: code may call report() once for each metric.
            self._unsaved.setdefault(length, {}).update(metrics)
            if len(self._unsaved) > _MOST_UNSAVED:
                # Many are deleted at once: finding the first key of a dictionary takes longer after many deletions.
                for oldest in list(islice(self._unsaved, _MOST_UNSAVED // 10)):
                    del self._unsaved[oldest]
        if length >= self.target and not self._over and self._answers(metrics):
            self._ask(length)
        else:
            self._notice()
            stands = self._save_stands()
            self._save_if(stands or (length < self.target and self._period_passed()), required=stands)
        self._save_best()
        self._reported_since = self._suspended

    def save(self, save: Save, length: int | None = None, position: Position | None = None) -> None:
        """Save a checkpoint, or note to save it later if the search must answer first.

        The arguments are those of `report`.  With a ``position``, the name of the checkpoint contains it.
        """
        if length is not None:
            self._advance(length, position)
        self._saves = True
        self._saver = (self._position(), save)
        # If the process saved at its target and then died, the next attempt could not repeat the report that the search
        # waits for.
        if self.length >= self.target and not self._over:
            self._save_later_at = self._position()
        else:
            self._save_if(True)
        self._reported_since = self._suspended

    def _warn_of_restoring(self) -> None:
        """Warn that the training code has trained without reading the checkpoint from which it must continue."""
        self.restored = True
        if self._follows:
            return
        message = (
            "the training code continues from a checkpoint but has not read trial.checkpoint, so it probably trained "
            "a new model; add before its loop: if trial.checkpoint: model.load(trial.checkpoint / 'model.pt')"
        )
        self.warn(message)

    def warn(self, message: str) -> None:
        """Warn in the trial's log and, the first time in the experiment, on the driver's terminal."""
        print(f"warning: {message}", flush=True)
        self._link.warned(message)

    def _notice(self) -> None:
        """Look for a request to suspend; the loop then ends with its present step instead of its chunk."""
        if not self._suspended and self._link.suspended():
            self._suspended = True
            if self.loop is not None:
                self.loop.cut()

    def _answers(self, metrics: dict[str, float]) -> bool:
        """Return whether the metrics include the metric that the search compares."""
        if self.job.metric is not None:
            return self.job.metric in metrics
        return any(not name.startswith(TRAINING) for name in metrics)

    def _save_stands(self) -> bool:
        """Return whether the attempt is ending and must save before it does."""
        return self._suspended or (self._final is not None and self._final.save)

    @property
    def _over(self) -> bool:
        return self._suspended or self._final is not None

    def _ask(self, length: int) -> None:
        answer = self._link.answer()
        self._heartbeat.wait_over()
        self._obey(answer, length)

    def _obey(self, answer: ReportAnswer | None, length: int) -> None:
        """Act on the answer to the report at ``length``; the answer None is a request to suspend."""
        if answer is None:
            self._suspended = True
            self._save_if(True)
        elif answer.target is None:
            self._final = answer
            self._save_if(answer.save)
        else:
            self.target = max(answer.target, length + 1)
            if self.target > self.job.max_length:  # The search was extended while the attempt ran.
                self.job = self.job._replace(max_length=self.target)
            self._went_on_at = length
            # Training code without a loop is about to return, and is called again from its checkpoint.
            inside = self._looks if self.loop is None else self.loop.active
            wanted = not inside or self._save_later_at == self._position() or self._period_passed()
            self._save_if(wanted, required=not inside)

    def _period_passed(self) -> bool:
        period, loop = self.job.checkpoint_period, self.loop
        if period is None or (loop is None and self._named is None):
            return False
        own = self.job.open_ended or self.trains_on  # The training code itself saves so often.
        if own and period[1] != self.job.unit:
            return False
        scale = Scale(self.job, self.job.unit) if loop is None else loop.scale
        due = scale.next_multiple(period, self._saved_position, "min_checkpoint_period")
        return due <= (self.length if loop is None else loop.position)

    # -- checkpoints --------------------------------------------------------------------------

    def _save_best(self) -> None:
        """Save a checkpoint here if ``save_on`` requires it.  Training continues if the storage fails."""
        if not self._is_worth_saving():
            return
        began = time.monotonic()
        self._save_if(True, required=False)
        self._extra_seconds += time.monotonic() - began
        most = max(_LEAST_EXTRA_SECONDS, _MOST_EXTRA * self._heartbeat.trained)
        if self._extra_seconds > most and not self._warned_of_extra_saves:
            self._warned_of_extra_saves = True
            self.warn(
                f"checkpoint_policy: {self.job.save_on} saves checkpoints for more than {_MOST_EXTRA:.0%} of the "
                "training time; checkpoint_policy: none saves only when a trial pauses or ends, and every "
                "min_checkpoint_period"
            )

    def _is_worth_saving(self) -> bool:
        """Return whether ``save_on`` asks to save this position, which the training code offers and nothing has saved.

        If several machines train the trial together, they do not: saving may take all processes, and those on other
        machines know of no report of rank 0 but those that the search answers.
        """
        job = self.job
        if job.save_on == "none" or job.metric is None or self._follows or job.rendezvous is not None:
            return False
        if self._unsaved_offer() is None:
            return False
        metric = self._unsaved.get(self.length, {}).get(job.metric)
        if metric is None or job.save_on == "all":
            return metric is not None
        return isfinite(metric) and self._loss(metric) < self._best_saved()

    def _best_saved(self) -> float:
        """Return the lowest loss of a checkpoint of this attempt, or of the experiment according to the driver."""
        return min(self._best, self._link.best())

    def _loss(self, metric: float) -> float:
        return metric if self.job.smaller_is_better else -metric

    def _position(self) -> Position:
        if self.loop is None:
            return self._fine or ("", self.length)
        return self.loop.unit, self.loop.position

    def _unsaved_offer(self) -> Save | None:
        """Return the callable that the training code passed at this position, or None if there is nothing to save."""
        if self._saver is None:
            return None
        here, (offered_at, save) = self._position(), self._saver
        if offered_at != here or self._saved_at == here:
            return None
        # The checkpoint from which the attempt started already has this name.
        return None if here == ("", self.job.length) and self.job.length > 0 else save

    def _save_if(self, wanted: bool, *, required: bool = True) -> None:
        """Save a checkpoint here with the callable of the report, unless one is saved already or there is no callable.

        If the save is not ``required``, training continues while the storage fails, and the next report tries again.
        """
        save = self._unsaved_offer() if wanted else None
        if save is None:
            return
        here, length = self._position(), self.length
        if self._follows:
            self._join_in(save)
            self._saved_at = here
            self._saved_position = length if self.loop is None else here[1]
            return
        # If several positions have the same length, the name contains the position.
        named = self._fine if self.loop is None else None if self.loop.scale.same else here
        name = checkpoint_name(self.job.trial, length, self.job.attempt, named)
        metrics = self._unsaved.pop(length, {})
        about = CheckpointInfo(metrics, self.job.experiment, draw_of(self.job), tuple(self._unsaved.items()))
        if (size := self._save(name, save, about, required)) is None:
            self._unsaved |= {length: metrics} if metrics else {}
            return
        # The manifest of this checkpoint contains the reports since the last one, so the next one need not.
        self._unsaved = {length: metrics} if metrics else {}
        self._saved_at = here
        self._saved_position = length if self.loop is None else here[1]
        self._checkpoint = (length, name)
        if self.job.metric in metrics and isfinite(metric := metrics[self.job.metric]):
            self._best = min(self._best, self._loss(metric))
        self._link.saved(length, name, metrics, size)

    def _save(self, name: str, save: Save, about: CheckpointInfo, required: bool) -> int | None:
        """Save a checkpoint, and return its size in bytes, or None if the storage failed and is tried again later.

        Raises:
            StorageUnreachable: the storage has failed for `RETRY_SECONDS`.
        """
        age = 0.0 if self._failing_since is None else time.monotonic() - self._failing_since
        if not required and age < self._next_try_at_age:
            return None
        goes_on = not required and age < RETRY_SECONDS
        seconds = 0.0 if goes_on else max(_LAST_TRIES_SECONDS, RETRY_SECONDS - age)
        patience = Patience(seconds, self._hurries)
        try:
            with self._heartbeat.saving(save) as write:
                size = open_storage(self.job.checkpoints, patience).save(name, write, lambda: about)
        except StorageUnreachable as error:
            if not goes_on or self._suspended:
                raise
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                print(f"Cannot save checkpoint {name}: {error}. Training continues; the next reports try again.")
            self._next_try_at_age = time.monotonic() - self._failing_since + _NEXT_TRY_SECONDS
            return None
        self._failing_since, self._next_try_at_age = None, 0.0
        return size

    def _hurries(self) -> bool:
        """Return whether the trial must stop, so that a failing storage is given up soon."""
        self._heartbeat.transferring()
        self._notice()
        return self._suspended

    def _join_in(self, save: Save) -> None:
        """Call the saver with a temporary directory: all processes may have to take part in a save of rank 0."""
        from ashwood.checkpoints.scratch import scratch  # imported here, because most trials train alone

        with scratch() as directory:
            save(directory)

    # -- how it ends --------------------------------------------------------------------------

    def leave(self, departure: Invalid | Stopped) -> NoReturn:
        """End the attempt from inside the training code."""
        self._departure = departure
        raise Leave

    def outcome(self, returned: Any = None) -> Outcome:
        """Return how the attempt ended, after the training code has returned."""
        if self.at_end is not None:
            at_end, self.at_end = self.at_end, None
            at_end()
        if self._departure is not None:
            return self._departure
        if hasattr(returned, "__await__"):
            if hasattr(returned, "close"):
                returned.close()
            return Failed("the training function is asynchronous: make it a plain function (asyncio.run() inside it)")
        if self.job.open_ended:
            return self._end_of_open_ended(returned)
        if self._over:
            return Ended(self.length)
        if self._went_on_at is not None and self._went_on_at == self.length:
            if self._follows:
                return Failed(
                    "a trial on several machines must continue inside its loop, but the training code returned"
                )
            length, checkpoint = self._checkpoint
            if checkpoint is None:
                length = 0
            best = self._best_saved()
            again = self.job._replace(target=self.target, length=length, checkpoint=checkpoint)
            return Again(again._replace(best=best if best < inf else None))
        if self.loop is None and self._named is None and (metrics := self._single_result(returned)):
            return self._end_after_one_step(metrics)
        why, said = self._unfinished(), type(returned).__name__
        if returned is not None:
            headline, _, details = why.partition("\n")
            why = f"{headline} (it returned a {said}, which is not a number)\n{details}"
        cause = NO_VALIDATION if self._lacks_validation else "unfinished at length "
        return Failed(why, f"{cause}{self.length}", bool(self._reported))

    def _end_of_open_ended(self, returned: Any) -> Outcome:
        """Return the outcome of training code that decides how long it trains."""
        metric = self.job.metric
        if self._follows or self._told_to_end:
            return Ended(self.length)
        if metric is not None and metric not in self._reported:
            if (number := _number_of(returned)) is not None:
                self._link.reported(max(1, self.length), {metric: number})
            elif self._reported and self.job.checkpoint is None:  # An earlier attempt may have reported it.
                said = ", ".join(map(repr, self._reported))
                hint = did_you_mean(metric, self._reported)
                self.warn(f"the training code ended without reporting {metric!r}; it reported {said}{hint}")
        if self.job.world_size == 1:  # With several processes, the others have ended, and cannot save with this one.
            self._save_if(True)
        return Returned()

    @property
    def _lacks_validation(self) -> bool:
        """Whether the code reached its target, but probably validates at other lengths only."""
        return self.length >= self.target and self.job.validation_period is None and bool(self._reported)

    def _single_result(self, returned: Any) -> dict[str, float]:
        """Return the metrics of code without a loop: those of its last report, or the number that it returned."""
        metric = self.job.metric
        if metric is None or self._follows:
            return {}
        if (number := _number_of(returned)) is not None:
            return {metric: number}
        return self._last if metric in self._last and self._reports_without_loop == 1 else {}

    def _end_after_one_step(self, metrics: dict[str, float]) -> Outcome:
        """End a trial whose training is a single step, which is enough for searches without early stopping."""
        if self.job.halving:
            unit, metric = self.job.unit, self.job.metric
            one = singular(unit)
            return Unusable(
                f"the training code has no loop over trial.{unit}(), so a halving search can neither stop nor continue "
                f"it\nPut the training into a loop:\n\n    for {one} in trial.{unit}():\n"
                f"        ...  # train for one more {one}\n        trial.report({metric}=..., checkpoint=save)\n\n"
                "or search with random, grid or single, for which a trial may be one step."
            )
        self._link.reported(self.target, metrics)
        self._ask(self.target)
        return Ended(self.target)

    def _unfinished(self) -> str:
        metric, unit = self.job.metric, self.job.unit
        said = ", ".join(f"{name!r} (last at {format_length(at, unit)})" for name, at in self._reported.items())
        hint = did_you_mean(metric, self._reported) if metric not in self._reported else ""
        advice = ""
        if self._lacks_validation and not hint:
            never = metric not in self._reported
            names = ", ".join(map(repr, self._reported))
            hint = f", only {names}: correct searcher.metric, or" if never else ";"
            hint += " set min_validation_period if it validates less often"
            period = "n" if self.job.unit == STEPS else f"{{{self.job.unit}: n}}"
            advice = (
                f"With min_validation_period: {period} in the experiment file, a trial trains on to its next "
                "validation, at most one period further.\n"
            )
        target = "" if self.length == self.target else f" at {format_length(self.target, unit)}"
        return (
            f"the training code ended at {format_length(self.length, unit)} without reporting "
            f"{metric!r}{target}{hint}\n"
            f"It reported {said or 'nothing'}.\n{advice}"
            "It must loop over trial.epochs(), trial.batches(), trial.records() or trial.steps() until the loop ends, "
            f"and report {metric!r} at its end; or train until trial.should_stop is True, and report {metric!r} with "
            "length=. To end a trial early, call trial.stop()."
        )
