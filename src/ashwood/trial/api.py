"""The trial, as training code sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import index, length_hint
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import TRAINING, Attempt, Rejected, Save, Stopped
from ashwood.trial.channel import Link
from ashwood.trial.job import Job
from ashwood.trial.sharing import make_shared
from ashwood.trial.values import Values

_T = TypeVar("_T")


class ExperimentInfo(NamedTuple):
    """The experiment of a trial.

    Attributes:
        id: its number in its home.
        name: the name that it was created with.
    """

    id: int
    name: str


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

    Training code that owns its loop names the length of each report, and ends when `should_stop` says so::

        length = trial.length  # where it continues
        while not trial.should_stop:
            train_some_batches(model, 100)
            length += 100
            trial.report(validation_loss=evaluate(model), length=length, checkpoint=save)

    Attributes:
        hparams: the hyperparameters, nested; read by item or by attribute.
        data: the experiment's ``data``, in the same way.
        seed: a seed for everything random in this trial, the same in every attempt.
        id: which trial of the experiment this is, counted from 0.
        experiment: id and name of the experiment, or None if the trial runs without one.
        unit: what lengths count: ``epochs``, ``batches``, ``records`` or ``steps``.
        max_length: the total length that the trial reaches if the search never stops it, for example for a schedule of
            learning rates.
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
        self._checkpoint = Path(job.directory) if job.directory is not None else None
        self._directory = Path(job.trial_directory)
        self.id = job.trial
        self.experiment = ExperimentInfo(job.experiment_id, job.experiment_name) if job.experiment_id else None
        self.unit = job.unit
        self.max_length = job.max_length
        self.attempt = job.attempt
        self.rank = job.rank
        self.world_size = job.world_size
        self.rendezvous = job.rendezvous
        self._attempt = Attempt(job, link) if attempt is None else attempt

    def __repr__(self) -> str:
        return f"<Trial {self.id}, attempt {self.attempt}, length {self.length} of {self.target}, {dict(self.hparams)}>"

    def hparams_as(self, cls: type[_T]) -> _T:
        """Return the hyperparameters as an object of a dataclass, whose fields may be dataclasses themselves.

        An integer becomes a float if the field is one; so do the values of enumerations and tuples::

            @dataclass
            class Config:
                lr: float
                layers: int = 2

            config = trial.hparams_as(Config)

        Raises:
            TrainingCodeError: a field is missing, a hyperparameter has no field, or a value has another type.
        """
        from ashwood.trial.typed import build  # Workers start fast without it.

        return build(cls, self.hparams)

    @property
    def checkpoint(self) -> Path | None:
        """Directory to start from, which must not be changed, or None to start from scratch.

        Beside the files that were saved it holds ``ashwood-checkpoint.json``, by which they were verified.  Training
        code that reports without having read this attribute gets a warning.
        """
        self._attempt.restored = True
        return self._checkpoint

    @property
    def directory(self) -> Path:
        """Directory of this trial alone, for scratch files and artifacts.

        All attempts and all processes of the trial on one machine share it, and its path is also in the environment
        variable ``ASHWOOD_TRIAL_DIRECTORY``.  It can hold files that were written after the checkpoint, or lack them if
        the trial continues on another machine, so what the trial continues from belongs in the checkpoint::

            (trial.directory / "samples").mkdir(exist_ok=True)
            model.save(trial.directory / "model.pt")

        Raises:
            OSError: it cannot be made.
        """
        make_shared(self._directory)
        return self._directory

    # -- how far ------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """How long the trial has trained in all, in the experiment's unit.

        Inside a loop the step in work counts as done.  In training code that owns its loop it is the length that was
        named last, and before the first report that of the checkpoint.
        """
        return self._attempt.length

    @property
    def target(self) -> int:
        """The total length, in the experiment's unit, that the search wants for now."""
        return self._attempt.target

    @property
    def should_stop(self) -> bool:
        """Whether the trial must end now, because it is paused or stopped or the search is over.

        For training code that owns its loop: return when it is True.  A request to pause makes it True as soon as
        nothing is lost, which is after the next report with a checkpoint.  Reading it takes about a microsecond.
        Training code that goes on nevertheless is ended by an exception at its next report.
        """
        return self._attempt.should_stop

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
        self,
        metrics: Mapping[str, Any] | None = None,
        /,
        *,
        length: int | None = None,
        checkpoint: Save | None = None,
        training: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Report metrics at the present length, or at the one that the training code names.

        When the trial has reached its target and the searcher's metric is among them, this waits for
        the search's decision.  Otherwise it costs microseconds and waits for nothing.

        A metric is a number, an array or tensor of one number, a bool (1 or 0), or None if it was not measured.

        Args:
            metrics: numbers by name, for names that are no Python identifiers, or are parameters of this method.
            length: total length of training so far in the experiment's unit, for code that owns its loop.  It may pass
                the target: the first report at or past the target is compared.  By default, the length that the loop
                of the trial has reached, or the length that was named last.
            checkpoint: called with an empty directory to save the trial into, only when that is due.
            training: metrics of the training itself.  They are recorded as ``training.NAME`` and never compared, so
                they may have the names of validation metrics.
            **more: numbers by name.

        Raises:
            TypeError: a metric is not a number, ``length`` is not an integer, or ``checkpoint`` is not callable.
            TrainingCodeError: ``length`` decreases, or is given inside a loop of the trial.
        """
        if checkpoint is not None and not callable(checkpoint):
            raise _not_callable(checkpoint)
        if metrics is not None and not isinstance(metrics, Mapping):
            raise TypeError(f"metrics must have names: trial.report(loss={metrics!r})")
        named = {**metrics, **more} if metrics else more
        numbers: dict[str, Any] = {
            name: value if type(value) is float and type(name) is str else _number(name, value)
            for name, value in named.items()
        }
        values = numbers if None not in numbers.values() else _measured(numbers)
        if training:
            values |= self._training(training, named)
        if length is not None and type(length) is not int:
            length = _length(length)
        self._attempt.report(values, checkpoint, length)

    def _training(self, metrics: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, float]:
        values = {}
        for name, value in metrics.items():
            number = _number(name, value)
            full = TRAINING + name
            if full in named:
                raise TypeError(f"metric {full!r} is reported twice: by that name, and as {name!r} in training=")
            if full == self._attempt.job.metric:
                raise TypeError(f"the search compares metric {full!r}: report it by that name, not in training=")
            if number is not None:
                values[full] = number
        return values

    def save(self, checkpoint: Save, /, *, length: int | None = None) -> None:
        """Save a checkpoint now, whether or not one is due.

        At the target it is saved after the report there, because a trial that died in between could not repeat the
        report.

        Args:
            checkpoint: called with an empty directory to save the trial into.
            length: total length of training so far, as with `report`.

        Raises:
            TypeError: ``checkpoint`` is not callable, or ``length`` is not an integer.
            TrainingCodeError: ``length`` decreases, or is given inside a loop of the trial.
        """
        if not callable(checkpoint):
            raise _not_callable(checkpoint)
        self._attempt.save(checkpoint, None if length is None else _length(length))

    def invalid_hparams(self, why: str) -> NoReturn:
        """Declare that these hyperparameters make no sense; the search replaces the trial by another."""
        self._attempt.leave(Rejected(why))

    def stop(self) -> NoReturn:
        """End this trial for good where it is; its results stand."""
        self._attempt.leave(Stopped())


def _number(name: object, value: Any) -> float | None:
    """Return a metric as a number, or None if it was not measured."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a metric must be a string, not {name!r}")
    if value is None:
        return None
    number = value
    # Arrays and tensors; item() of those with several elements raises an error of its own kind.
    if hasattr(value, "item"):
        try:
            number = value.item()
        except Exception:  # noqa: BLE001
            number = ""
    # float() takes text too, and would hide a mistake.
    if not isinstance(number, (str, bytes, bytearray)):
        try:
            return float(number)
        except (TypeError, ValueError, OverflowError):
            pass
    raise TypeError(f"metric {name!r} must be one number, a bool or None, not {value!r} ({type(value).__name__})")


def _measured(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: number for name, number in numbers.items() if number is not None}


def _length(length: Any) -> int:
    if not isinstance(length, bool):
        try:
            return index(length)
        except TypeError:
            pass
    raise TypeError(f"length must be an integer, not {length!r} ({type(length).__name__})")


def _not_callable(checkpoint: object) -> TypeError:
    return TypeError(f"checkpoint must be a function that saves into a directory, not {checkpoint!r}")
