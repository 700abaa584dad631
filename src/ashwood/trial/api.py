"""The trial, as training code sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import length_hint
from pathlib import Path
from typing import Any, NoReturn

from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import Attempt, Rejected, Save, Stopped
from ashwood.trial.channel import Link
from ashwood.trial.job import Job
from ashwood.trial.values import Values


class Trial:
    """One set of hyperparameters and its training, as far as the search wants it.

    Training code is a function of a trial::

        def train(trial: ashwood.Trial) -> None:
            model = build(**trial.hparams)
            if trial.checkpoint:  # left by an earlier stretch of this trial
                model.load(trial.checkpoint / "model.pt")
            for epoch in trial.epochs():
                fit_one_epoch(model)
                trial.report(validation_loss=evaluate(model), checkpoint=lambda d: model.save(d / "model.pt"))

    It is called for every stretch of training, maybe in another process each time, so what
    has to outlive a stretch belongs into the checkpoint.

    Attributes:
        hparams: the hyperparameters, nested; read by item or by attribute.
        data: the experiment's ``data``, in the same way.
        seed: a seed for everything random in this trial, the same in every attempt.
        checkpoint: directory to start from, to be read only; None: start from scratch. Beside the files that were saved
            it holds ``ashwood-checkpoint.json``, by which they were verified.
        id: which trial of the experiment this is, counted from 0.
        attempt: which process of this trial this is, counted from 1.
        rank: number of this process, from 0, if several train the trial together: on several machines, or started by
            a launcher such as ``torchrun``. What rank 0 reports and saves counts; the others follow its loop.
        world_size: how many processes there are.
        rendezvous: where processes on several machines can meet, ``HOST:PORT`` on the machine of rank 0, or None.
    """

    def __init__(self, job: Job, link: Link, attempt: Attempt | None = None) -> None:
        self.hparams = Values(job.hparams)
        self.data = Values(job.data)
        self.seed = job.seed
        self.checkpoint = Path(job.directory) if job.directory is not None else None
        self.id = job.trial
        self.attempt = job.attempt
        self.rank = job.rank
        self.world_size = job.world_size
        self.rendezvous = job.rendezvous
        self._attempt = Attempt(job, link) if attempt is None else attempt

    def __repr__(self) -> str:
        return f"<Trial {self.id}, attempt {self.attempt}, length {self.length} of {self.target}, {dict(self.hparams)}>"

    # -- how far ------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """How long the trial has trained in all, in the experiment's unit.

        Inside a loop the step in work counts as done.
        """
        return self._attempt.length

    @property
    def target(self) -> int:
        """The total length, in the experiment's unit, that the search wants for now."""
        return self._attempt.target

    # -- loops --------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Loop over epochs, from where the trial stopped up to what the search wants; yields 0-based epochs.

        The loop asks the search at its end, through the report in its last round, and goes on if
        the search wants more.

        Raises:
            TrainingCodeError: the experiment counts something that can't be converted to epochs.
        """
        for chunk in self._attempt.chunks("epochs"):
            yield from chunk

    def batches(self) -> Iterator[int]:
        """Loop over batches as `epochs` does over epochs; yields 0-based batches and costs nanoseconds each.

        Validation is too dear to do after every batch: do it when `validation_due` says so.
        """
        for chunk in self._attempt.chunks("batches"):
            yield from chunk

    def records(self, batch_size: int | None = None) -> Iterator[range]:
        """Loop over records, ``batch_size`` at a time; yields the range of 0-based records to train on.

        The last range before the search has to decide is shorter where the lengths ask for it, so the
        total is exact.  Counting goes on from epoch to epoch; ``len(records)`` is the size of the batch.

        Args:
            batch_size: records a step; None: the hyperparameter ``global_batch_size``.
        """
        size = batch_size if batch_size is not None else self.hparams.get("global_batch_size")
        if not isinstance(size, int) or size < 1:
            raise TrainingCodeError(
                f"trial.records() needs a batch size of at least 1, but has {size!r}: "
                "pass one, or add an integer global_batch_size to the hyperparameters"
            )
        for chunk in self._attempt.chunks("records", size):
            goal = self._attempt.goal("records")
            for first in chunk:
                yield range(first, min(first + size, goal))

    def steps(self) -> Iterator[int]:
        """Loop over unitless steps as `epochs` does over epochs, where ``max_length`` is a bare number."""
        for chunk in self._attempt.chunks("steps"):
            yield from chunk

    @property
    def validation_due(self) -> bool:
        """Whether a report is wanted from the step in work: ``if trial.validation_due: trial.report(...)``.

        It is on the last step before the search decides, at each ``min_validation_period`` and
        ``min_checkpoint_period``, and when the experiment is about to pause.
        """
        loop = self._attempt.loop
        return loop is None or (loop.due and not length_hint(loop.left))

    # -- reports ------------------------------------------------------------------------------

    def report(
        self, metrics: Mapping[str, Any] | None = None, /, *, checkpoint: Save | None = None, **more: Any
    ) -> None:
        """Report metrics at the present length.

        When the trial has reached its target and the searcher's metric is among them, this waits for
        the search's decision.  Otherwise it costs microseconds and waits for nothing.

        Args:
            metrics: numbers by name, for names that are no Python identifiers.
            checkpoint: called with an empty directory to save the trial into, only when that is due.
            **more: numbers by name.

        Raises:
            TypeError: a metric isn't a number, or ``checkpoint`` isn't callable.
        """
        if checkpoint is not None and not callable(checkpoint):
            raise TypeError(f"checkpoint has to be a function that saves into a directory, not {checkpoint!r}")
        named = {**metrics, **more} if metrics else more
        values = {
            name: value if type(value) is float and type(name) is str else _number(name, value)
            for name, value in named.items()
        }
        self._attempt.report(values, checkpoint)

    def invalid_hparams(self, why: str) -> NoReturn:
        """Declare that these hyperparameters make no sense; the search replaces the trial by another."""
        self._attempt.leave(Rejected(why))

    def stop(self) -> NoReturn:
        """End this trial for good where it is; its results stand."""
        self._attempt.leave(Stopped())


def _number(name: object, value: Any) -> float:
    if not isinstance(name, str):
        raise TypeError(f"the name of a metric has to be a string, not {name!r}")
    # float() would take these too, and hide a mistake.
    if not isinstance(value, (str, bytes, bytearray)) and type(value).__name__ not in ("bool", "bool_"):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise TypeError(f"metric {name!r} has to be a number, not {value!r} ({type(value).__name__})")
