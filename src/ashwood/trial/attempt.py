"""The rules of one attempt: how far to train, when to ask, when to save, how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from ashwood.errors import StorageUnreachable, TrainingCodeError
from ashwood.trial.channel import Link, Verdict
from ashwood.trial.job import Job
from ashwood.trial.lengths import STEPS, Scale
from ashwood.trial.loop import Loop
from ashwood.trial.signs import Signs
from ashwood.trial.storage import (
    RETRY_SECONDS,
    About,
    Patience,
    Write,
    checkpoint_name,
    digest_of_draw,
    named_position,
    open_storage,
)
from ashwood.trial.values import nearest

Save = Write
Place = tuple[str, int]
"""The unit of a loop and the position in it; outside any loop an empty unit and the total length."""

NO_VALIDATION = "no validation at length "
"""How the cause of `Failed` begins if the code trained to its target and did not report the metric there."""

TRAINING = "training."
"""How the names of training metrics begin. The search never compares them."""


class Leave(SystemExit):
    """The training code asked to end the trial.

    No `Exception`, so that handlers in training code let it pass; and a script of its own ends quietly.
    """

    def __init__(self) -> None:
        super().__init__(0)


class Ended(NamedTuple):
    """The trial was let go in good order."""

    length: int


class Failed(NamedTuple):
    """The training code did something wrong; ``error`` begins with one line for people.

    Attributes:
        cause: where the error arose if it comes again whenever the code gets there, and otherwise empty; see
            `ashwood.experiment.events.AttemptFailed`.
        has_reported: whether the attempt had reported anything before.
    """

    error: str
    cause: str = ""
    has_reported: bool = False


class Unusable(NamedTuple):
    """No trial of this search can train with this code; ``why`` begins with one line for people."""

    why: str


class NoSpace(NamedTuple):
    """There was no room for what the trial writes; ``error`` is as that of `Failed`."""

    error: str


class NoStorage(NamedTuple):
    """The storage of checkpoints could not be used; ``error`` is as that of `Failed`."""

    error: str


class Rejected(NamedTuple):
    """The training code declared the hyperparameters invalid."""

    why: str


class Stopped(NamedTuple):
    """The training code ended the trial."""


class Again(NamedTuple):
    """The training code returned although the search wants more: call it again with this job."""

    job: Job


class Damaged(NamedTuple):
    """The training code wasn't called: the checkpoint that it was to start from is damaged or missing."""

    checkpoint: str
    why: str


_LAST_TRIES_SECONDS = 10.0
"""Seconds for which at least a save is tried that the trial cannot do without."""
_NEXT_TRY_SECONDS = 2.0
"""Seconds between two tries of a save that may wait."""

_MOST_UNSAVED = 100_000
"""Most lengths of which reports are kept for the next checkpoint: code may report every batch and save once."""


def _number_of(returned: Any) -> float | None:
    """Return what training code returned as a number, or None if it is none: NumPy has types of its own."""
    if isinstance(returned, (bool, str, bytes)) or not hasattr(type(returned), "__float__"):
        return None
    try:
        return float(returned)
    except (TypeError, ValueError):  # an array of several numbers
        return None


Outcome = Ended | Failed | Unusable | NoSpace | NoStorage | Rejected | Stopped | Again | Damaged


def draw_of(job: Job) -> str:
    """The digest by which checkpoints know the trial of a job."""
    return digest_of_draw(job.hparams, job.seed)


class Attempt:
    """One call of the training code.

    Attributes:
        job: what it is to do.
        target: total length at which a report asks the search what to do.
        loop: where the training code's latest loop stands; None: it has begun none.
        restored: whether the training code read its checkpoint; True if it has none.
    """

    def __init__(self, job: Job, link: Link) -> None:
        self.job = job
        # A checkpoint at the target has no verdict any more, so it takes a step further to get one.
        self.target = max(job.target, job.length + 1)
        self._link = link
        # The target that was reached without the metric of the search, and the length to which loops go on for it.
        self._lengthened_at = self._lengthened_to = 0
        self._signs = Signs(link, job.pulse)
        self.loop: Loop | None = None
        self.restored = job.directory is None
        # Length that the code named last; None: it has named none, and counts by a loop of the trial or not at all.
        self._named: int | None = None
        # Whether the code looks at `should_stop`: then it does not return after each report.
        self._looks = False
        # Whether a report came after the request to suspend was noticed.
        self._reported_since = False
        self._suspended = False
        self._verdict: Verdict | None = None
        self._went_on_at: int | None = None
        self._reported: dict[str, int] = {}
        # The last report of code that has begun no loop.
        self._last: dict[str, float] = {}
        self._reports_without_loop = 0
        # What no checkpoint of this attempt holds yet: metrics by length, in the order of the reports.
        self._unsaved: dict[int, dict[str, float]] = {}
        self._saves = False
        self._saver: tuple[Place, Save] | None = None
        self._saved_at: Place | None = None
        # A place that the code wanted to save at by itself, but where the search must answer first.
        self._save_later_at: Place | None = None
        self._began_at: Place = ("", job.length)
        self._saved_position = job.length
        self._checkpoint = (job.length, job.checkpoint)
        # Since when saves that may wait have failed, and how many seconds after that the next one is tried.
        self._failing_since: float | None = None
        self._next_try_at_age = 0.0
        self._departure: Rejected | Stopped | None = None
        self._follows = job.rank > 0
        link.started(job.length)

    @property
    def has_reported(self) -> bool:
        """Whether anything was reported."""
        return bool(self._reported)

    @property
    def length(self) -> int:
        """Total length so far, counting the unit in work."""
        loop = self.loop
        if loop is not None:
            return loop.scale.length(loop.position)
        return self.job.length if self._named is None else self._named

    # -- loops --------------------------------------------------------------------------------

    def chunks(self, unit: str, step: int = 1) -> Iterator[Iterator[int]]:
        """The steps of a loop, in chunks, up to what the search wants."""
        loop = self._enter(unit, step)
        self._notice()
        try:
            while not self._leaves() and (goal := loop.scale.position(self._goal)) > loop.position:
                yield loop.chunk(min(goal, self._due(loop)), goal)
                loop.adapt()
                self._signs.note(self._place())
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
        """The position at which a loop over ``unit`` ends for now."""
        return Scale(self.job, unit).position(self._goal)

    @property
    def _goal(self) -> int:
        """Total length at which a loop ends for now."""
        return max(self.target, self._lengthened_to)

    def _lengthen(self, loop: Loop) -> None:
        """Let a loop that reached its target without the metric of the search train on to the next validation.

        It is at most one validation period further and not past max_length.  Processes that train a trial together
        don't know of each other's reports, so they do not.
        """
        period = self.job.validation_period
        if period is None or self.job.world_size > 1:
            return
        position = loop.scale.next_multiple(period, loop.position, "min_validation_period")
        self._lengthened_at = self.target
        self._lengthened_to = min(loop.scale.length(position), self.job.max_length)

    def _enter(self, unit: str, step: int) -> Loop:
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
        position = scale.position(self.length)
        if self.loop is not None and self.loop.unit == unit:
            position = self.loop.position
        elif (resumed := named_position(self.job.checkpoint or "", unit)) is not None and (
            scale.length(resumed) == self.job.length
        ):
            position = resumed
        self._saved_position = position
        if self.loop is None:
            self._began_at = (unit, position)
        self.loop = Loop(unit, step, scale, position)
        self._signs.note(self._place())
        return self.loop

    def _due(self, loop: Loop) -> int:
        """The next position at which a report is wanted."""
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
        """Whether the trial lets go here, between two steps."""
        if self._verdict is not None:
            return True
        if not self._suspended:
            return False
        # A callable from this very position still saves this very state.
        self._save_if(True)
        return self._may_leave()

    def _may_leave(self) -> bool:
        """Whether leaving here loses nothing that the next report would save."""
        return self._place() in (self._began_at, self._saved_at) or bool(self._reported and not self._saves)

    # -- lengths that the code names ----------------------------------------------------------

    @property
    def should_stop(self) -> bool:
        """Whether the trial must end now, for training code that owns its loop."""
        self._looks = True
        if self._verdict is not None:
            return True
        self._notice()
        if not self._suspended:
            return False
        # Outside a loop of the trial nothing is saved here: training may have gone on since the length was named.
        return self._leaves() if self.loop is not None else self._may_leave()

    def _advance(self, length: int) -> None:
        """Note the total length that the training code names.

        Code that trains on though the trial is over is ended here, so that it can't hold its worker until its end.
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
        if length > before and (
            self._verdict is not None or (self._suspended and self._reported_since and self._may_leave())
        ):
            raise Leave
        self._named = length

    # -- reports ------------------------------------------------------------------------------

    def report(self, metrics: dict[str, float], save: Save | None, length: int | None = None) -> None:
        """Pass metrics on; at the target, learn what the search wants; save where that is due."""
        if length is not None:
            self._advance(length)
        if not self.restored:
            self._warn_of_restoring()
        self._signs.note(self._place())
        if self._suspended and self._place() == self._began_at:
            return  # no step was trained: this is the state that the attempt began with
        length = self.length
        if save is not None:
            self._saves = True
            self._saver = (self._place(), save)
        if metrics:
            if not self._follows:
                self._link.reported(length, metrics)
            self._reported.update(dict.fromkeys(metrics, length))
            if self.loop is None:
                self._last = metrics
                self._reports_without_loop += self.job.metric in metrics
            # What is reported at one length belongs together, also if the code calls report() once for each metric.
            self._unsaved.setdefault(length, {}).update(metrics)
            if len(self._unsaved) > _MOST_UNSAVED:
                # Many at once: finding the first of a dictionary takes the longer, the more were deleted before it.
                for oldest in list(islice(self._unsaved, _MOST_UNSAVED // 10)):
                    del self._unsaved[oldest]
        if length >= self.target and not self._over and self._answers(metrics):
            self._ask(length)
        else:
            self._notice()
            stands = self._save_stands()
            self._save_if(stands or (length < self.target and self._period_passed()), required=stands)
        self._reported_since = self._suspended

    def save(self, save: Save, length: int | None = None) -> None:
        """Save a checkpoint, or note that it is wanted if the search must answer first."""
        if length is not None:
            self._advance(length)
        self._saves = True
        self._saver = (self._place(), save)
        # A process that saved at its target would lose the report that the search waits for if it died now.
        if self.length >= self.target and not self._over:
            self._save_later_at = self._place()
        else:
            self._save_if(True)
        self._reported_since = self._suspended

    def _warn_of_restoring(self) -> None:
        """Warn that the training code has trained without a look at the checkpoint that it must continue from."""
        self.restored = True
        if self._follows:
            return
        message = (
            f"the training code continues at length {self.job.length} but has not read trial.checkpoint, so it "
            "probably trained a new model; add before its loop: if trial.checkpoint: model.load(trial.checkpoint / "
            "'model.pt')"
        )
        print(f"warning: {message}", flush=True)
        self._link.warned(message)

    def _notice(self) -> None:
        """Notice a request to suspend; the loop then ends with the step in work, not with its chunk."""
        if not self._suspended and self._link.suspended():
            self._suspended = True
            if self.loop is not None:
                self.loop.cut()

    def _answers(self, metrics: dict[str, float]) -> bool:
        """Whether these are the metrics that the search decides by."""
        if self.job.metric is not None:
            return self.job.metric in metrics
        return any(not name.startswith(TRAINING) for name in metrics)

    def _save_stands(self) -> bool:
        """Whether the trial is being let go of and has to be saved first."""
        return self._suspended or (self._verdict is not None and self._verdict.save)

    @property
    def _over(self) -> bool:
        return self._suspended or self._verdict is not None

    def _ask(self, length: int) -> None:
        verdict = self._link.verdict()
        self._signs.wait_over()
        self._obey(verdict, length)

    def _obey(self, verdict: Verdict | None, length: int) -> None:
        """Act on the answer to the report at ``length``, or on a request to suspend, which is None."""
        if verdict is None:
            self._suspended = True
            self._save_if(True)
        elif verdict.target is None:
            self._verdict = verdict
            self._save_if(verdict.save)
        else:
            self.target = max(verdict.target, length + 1)
            self._went_on_at = length
            # Outside a loop the code is about to return, and to be called again from its checkpoint.
            inside = self._looks if self.loop is None else self.loop.active
            wanted = not inside or self._save_later_at == self._place() or self._period_passed()
            self._save_if(wanted, required=not inside)

    def _period_passed(self) -> bool:
        period, loop = self.job.checkpoint_period, self.loop
        if period is None or (loop is None and self._named is None):
            return False
        scale = Scale(self.job, self.job.unit) if loop is None else loop.scale
        due = scale.next_multiple(period, self._saved_position, "min_checkpoint_period")
        return due <= (self.length if loop is None else loop.position)

    # -- checkpoints --------------------------------------------------------------------------

    def _place(self) -> Place:
        return ("", self.length) if self.loop is None else (self.loop.unit, self.loop.position)

    def _save_if(self, wanted: bool, *, required: bool = True) -> None:
        """Save what the training code last offered, if that was here and isn't saved yet.

        If it is not ``required``, training goes on while the storage fails, and the next report tries again.
        """
        place = self._place()
        if not wanted or self._saver is None or self._saver[0] != place or self._saved_at == place:
            return
        if place == ("", self.job.length) and self.job.length > 0:
            return  # it is the state that the attempt began with, and has the name of the checkpoint that holds it
        length = self.length
        if self._follows:
            self._join_in(self._saver[1])
            self._saved_at = place
            self._saved_position = place[1]
            return
        # Where several positions have one length, the position is told apart by the name.
        position = None if self.loop is None or self.loop.scale.same else place
        name = checkpoint_name(self.job.trial, length, self.job.attempt, position)
        metrics = self._unsaved.pop(length, {})
        about = About(metrics, self.job.experiment, draw_of(self.job), tuple(self._unsaved.items()))
        if not self._save(name, self._saver[1], about, required):
            self._unsaved |= {length: metrics} if metrics else {}
            return
        # The driver may already have heard of them. If not, the next checkpoint need not repeat what this one holds.
        self._unsaved = {length: metrics} if metrics else {}
        self._saved_at = place
        self._saved_position = place[1]
        self._checkpoint = (length, name)
        self._link.saved(length, name, metrics)

    def _save(self, name: str, save: Save, about: About, required: bool) -> bool:
        """Save a checkpoint, and return whether it is saved.

        Raises:
            StorageUnreachable: the storage has failed for `RETRY_SECONDS`.
        """
        age = 0.0 if self._failing_since is None else time.monotonic() - self._failing_since
        if not required and age < self._next_try_at_age:
            return False
        goes_on = not required and age < RETRY_SECONDS
        seconds = 0.0 if goes_on else max(_LAST_TRIES_SECONDS, RETRY_SECONDS - age)
        patience = Patience(seconds, self._hurries)
        try:
            with self._signs.saving(save) as write:
                open_storage(self.job.checkpoints, patience).save(name, write, lambda: about)
        except StorageUnreachable as error:
            if not goes_on or self._suspended:
                raise
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                print(f"Cannot save checkpoint {name}: {error}. Training continues; the next reports try again.")
            self._next_try_at_age = time.monotonic() - self._failing_since + _NEXT_TRY_SECONDS
            return False
        self._failing_since, self._next_try_at_age = None, 0.0
        return True

    def _hurries(self) -> bool:
        """Return whether the trial has to stop, so that a storage that fails is given up soon."""
        self._signs.transferring()
        self._notice()
        return self._suspended

    def _join_in(self, save: Save) -> None:
        """Saving may take all processes; what counts is what the one of rank 0 writes."""
        from ashwood.trial.storage.scratch import scratch  # who trains alone has no use for it

        with scratch() as directory:
            save(directory)

    # -- how it ends --------------------------------------------------------------------------

    def leave(self, departure: Rejected | Stopped) -> NoReturn:
        """End the attempt from inside the training code."""
        self._departure = departure
        raise Leave

    def outcome(self, returned: Any = None) -> Outcome:
        """How the attempt ended, now that the training code has returned."""
        if self._departure is not None:
            return self._departure
        if hasattr(returned, "__await__"):
            if hasattr(returned, "close"):
                returned.close()
            return Failed("the training function is asynchronous: make it a plain function (asyncio.run() inside it)")
        if self._over:
            return Ended(self.length)
        if self._went_on_at is not None and self._went_on_at == self.length:
            if self._follows:
                return Failed("a trial that trains on several machines has to go on inside its loop, not to return")
            length, checkpoint = self._checkpoint
            if checkpoint is None:
                length = 0
            return Again(self.job._replace(target=self.target, length=length, checkpoint=checkpoint))
        if self.loop is None and self._named is None and (metrics := self._single_result(returned)):
            return self._end_after_one_step(metrics)
        why, said = self._unfinished(), type(returned).__name__
        if returned is not None:
            headline, _, details = why.partition("\n")
            why = f"{headline} (it returned a {said}, which is no number)\n{details}"
        cause = NO_VALIDATION if self._lacks_validation else "unfinished at length "
        return Failed(why, f"{cause}{self.length}", bool(self._reported))

    @property
    def _lacks_validation(self) -> bool:
        """Whether the code trained to its target, and probably validates at other lengths only."""
        return self.length >= self.target and self.job.validation_period is None and bool(self._reported)

    def _single_result(self, returned: Any) -> dict[str, float]:
        """Return the metrics of training code without a loop: the number that it returned, or its last report."""
        metric = self.job.metric
        if metric is None or self._follows:
            return {}
        if (number := _number_of(returned)) is not None:
            return {metric: number}
        return self._last if metric in self._last and self._reports_without_loop == 1 else {}

    def _end_after_one_step(self, metrics: dict[str, float]) -> Outcome:
        """End a trial whose training is one step, which is all that searches without early stopping need."""
        if self.job.halving:
            unit, metric = self.job.unit, self.job.metric
            one = unit.removesuffix("s")
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
        metric, unit = self.job.metric, "" if self.job.unit == STEPS else f" {self.job.unit}"
        said = ", ".join(f"{name!r} (last at length {length})" for name, length in self._reported.items())
        hint = nearest(metric, self._reported) if metric not in self._reported else ""
        advice = ""
        if self._lacks_validation and not hint:
            hint = "; set min_validation_period if it validates less often"
            period = "n" if self.job.unit == STEPS else f"{{{self.job.unit}: n}}"
            advice = (
                f"With min_validation_period: {period} in the experiment file, a trial trains on to its next "
                "validation, at most one period further.\n"
            )
        return (
            f"the training code ended at length {self.length}{unit} without reporting {metric!r} at length "
            f"{self.target}{unit}{hint}\n"
            f"It reported {said or 'nothing'}.\n{advice}"
            "It must loop over trial.epochs(), trial.batches(), trial.records() or trial.steps() until the loop ends, "
            f"and report {metric!r} at its end; or train until trial.should_stop is True, and report {metric!r} with "
            "length=. To end a trial early, call trial.stop()."
        )
