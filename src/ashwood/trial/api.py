"""The trial object that training code receives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import index, length_hint
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from ashwood.checkpoints.sharing import make_shared
from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import TRAINING, Attempt, Invalid, Save, Stopped, no_length
from ashwood.trial.channel import Link
from ashwood.trial.job import WorkerJob
from ashwood.trial.values import Values

_T = TypeVar("_T")

running: list[Trial] = []
"""The trial whose training function this process is calling, as the only item.  A command has none."""


class ExperimentInfo(NamedTuple):
    """The id and the name of a trial's experiment.

    Attributes:
        id: number of the experiment in its home.
        name: name of the experiment.
    """

    id: int
    name: str


class Trial:
    """One set of hyperparameter values, and its training as far as the search requests it.

    Training code is a function of a trial::

        def train(trial: ashwood.Trial) -> None:
            model = build(**trial.hparams)
            if trial.checkpoint:  # saved by an earlier attempt of this trial
                model.load(trial.checkpoint / "model.pt")
            for epoch in trial.epochs():
                fit_one_epoch(model)
                trial.report(validation_loss=evaluate(model), checkpoint=lambda d: model.save(d / "model.pt"))

    The function is called again each time the trial continues, often in another process.  So everything that it needs
    to continue must be in the checkpoint.

    Training code with its own loop passes the length of each report, and returns when `should_stop` is true::

        length = trial.length  # where it continues
        while not trial.should_stop:
            train_some_batches(model, 100)
            length += 100
            trial.report(validation_loss=evaluate(model), length=length, checkpoint=save)

    Attributes:
        hparams: hyperparameters, which can be nested; read them by item or by attribute.
        data: the experiment's ``data`` settings, read in the same way.
        seed: seed for all random numbers of this trial, the same in every attempt.
        id: number of the trial in its experiment, from 0.
        experiment: id and name of the experiment, or None if the trial runs without one.
        metric: name of the metric that the search compares, or None if the trial runs without a search.
        unit: unit of lengths: ``epochs``, ``batches``, ``records`` or ``steps``.
        attempt: number of this attempt of the trial, from 1.
        rank: number of this process, from 0, among those that train the trial together: on several machines, or started
            by a launcher such as ``torchrun``.  Reports and checkpoints of rank 0 count; the others follow its loop.
        world_size: number of processes that train the trial together.
        rendezvous: address ``HOST:PORT`` on the machine of rank 0 at which processes on several machines can connect
            to each other, or None if there is one machine.
    """

    def __init__(self, job: WorkerJob, link: Link, attempt: Attempt | None = None) -> None:
        self.hparams = Values(job.hparams)
        self.data = Values(job.data)
        self.seed = job.seed
        self._checkpoint = Path(job.directory) if job.directory is not None else None
        self._directory = Path(job.trial_directory)
        self.id = job.trial
        self.experiment = ExperimentInfo(job.experiment_id, job.experiment_name) if job.experiment_id else None
        self.metric = job.metric
        self.unit = job.unit
        self.attempt = job.attempt
        self.rank = job.rank
        self.world_size = job.world_size
        self.rendezvous = job.rendezvous
        self._attempt = Attempt(job, link) if attempt is None else attempt

    def __repr__(self) -> str:
        of = f" of {self._attempt.target}" if self.has_length else ""
        return f"<Trial {self.id}, attempt {self.attempt}, length {self.length}{of}, {dict(self.hparams)}>"

    def hparams_as(self, cls: type[_T]) -> _T:
        """Return the hyperparameters as an object of a dataclass, whose fields can be dataclasses themselves.

        An integer becomes a float if the field's type is float.  Values of enumerations and tuples are converted too::

            @dataclass
            class Config:
                lr: float
                layers: int = 2

            config = trial.hparams_as(Config)

        Raises:
            TrainingCodeError: a field is missing, a hyperparameter has no field, or a value has another type.
        """
        from ashwood.trial.typed import build  # imported here, so that workers start faster

        return build(cls, self.hparams)

    @property
    def checkpoint(self) -> Path | None:
        """Directory of the checkpoint to continue from, or None to train from the start.

        Do not change its files.  Besides the saved files it contains the manifest ``ashwood-checkpoint.json``.  If
        training code reports without having read this attribute, a warning is recorded.
        """
        self._attempt.restored = True
        return self._checkpoint

    @property
    def directory(self) -> Path:
        """Directory of this trial for temporary files and artifacts.

        All attempts and processes of the trial on one machine share it.  Its path is also in the environment variable
        ``ASHWOOD_TRIAL_DIRECTORY``.  It can contain files that are newer than the checkpoint, and on another machine it
        is empty.  So save everything that the trial needs to continue in the checkpoint::

            (trial.directory / "samples").mkdir(exist_ok=True)
            model.save(trial.directory / "model.pt")

        Raises:
            OSError: the directory cannot be created.
        """
        make_shared(self._directory)
        return self._directory

    # -- lengths ------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Total length of training so far, in the experiment's unit.

        Inside a loop of the trial, the current step counts as done.  In training code with its own loop, this is the
        length of the last report, or before the first report the length of the checkpoint.
        """
        return self._attempt.length

    @property
    def has_length(self) -> bool:
        """Whether the search says how long to train.

        If the experiment file has no ``max_length``, the training code decides: it uses a loop of its own, and the
        trial is complete when it returns.  Then `target`, `max_length` and the loops of the trial raise an error.
        """
        return not self._attempt.job.open_ended

    @property
    def max_length(self) -> int:
        """Total length that the trial reaches if the search never stops it, for example for a learning rate schedule.

        Raises:
            TrainingCodeError: the search has no length; see `has_length`.
        """
        if not self.has_length:
            raise TrainingCodeError(no_length("trial.max_length"))
        return self._attempt.job.max_length

    @property
    def target(self) -> int:
        """Total length to which the search lets the trial train for now, in the experiment's unit.

        Raises:
            TrainingCodeError: the search has no length; see `has_length`.
        """
        if not self.has_length:
            raise TrainingCodeError(no_length("trial.target"))
        return self._attempt.target

    @property
    def should_stop(self) -> bool:
        """Whether the training code must return now, because the trial is paused or stopped, or the search has ended.

        This is for training code with its own loop.  After a request to pause, it becomes true as soon as no training
        is lost, which is after the next report with a checkpoint.  Reading it takes about a microsecond.  If training
        code continues nevertheless, an exception ends it at its next report.
        """
        return self._attempt.should_stop

    @property
    def save_due(self) -> bool:
        """Whether a save is due at the present length, for training code that cannot save inside its own loop.

        This is true if the trial must stop and may be resumed later, and when ``min_checkpoint_period`` has passed.
        Such code trains in one process and reports without ``checkpoint``::

            while not trial.should_stop:
                for length in range(trial.length + 1, trial.max_length + 1):
                    trial.report(loss=step(model), length=length)
                    if trial.save_due or trial.should_stop:
                        break
                if trial.save_due:
                    trial.save(model.save)
        """
        return self._attempt.save_due

    # -- loops --------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Yield epochs, counted from 0, from the length of the checkpoint to the target.

        The report in the last step goes to the search.  If the search promotes the trial, the loop continues to the
        next target.

        Raises:
            TrainingCodeError: lengths of the experiment cannot be converted to epochs.
        """
        for chunk in self._attempt.chunks("epochs"):
            yield from chunk

    def batches(self) -> Iterator[int]:
        """Yield batches as `epochs` yields epochs, counted from 0, at a cost of nanoseconds for each.

        Validation after every batch takes too long.  Validate when `validation_due` is true.
        """
        for chunk in self._attempt.chunks("batches"):
            yield from chunk

    def records(self, batch_size: int | None = None) -> Iterator[range]:
        """Yield the ranges of records to train on, each of ``batch_size`` records; records count from 0.

        The last range before a target is shorter if that is needed to reach the target exactly, so use
        ``len(records)`` as the size of the batch.  The count does not start again in each epoch.

        Args:
            batch_size: records in a step, by default the hyperparameter ``global_batch_size``.
        """
        size = batch_size if batch_size is not None else self.hparams.get("global_batch_size")
        if not isinstance(size, int) or size < 1:
            raise TrainingCodeError(
                f"trial.records() needs a batch size of at least 1, but got {size!r}: "
                "pass one, or add an integer global_batch_size to the hyperparameters"
            )
        for chunk in self._attempt.chunks("records", size):
            goal = self._attempt.goal("records")
            for first in chunk:
                yield range(first, min(first + size, goal))

    def steps(self) -> Iterator[int]:
        """Yield steps as `epochs` yields epochs, for experiments whose ``max_length`` is a number without a unit."""
        for chunk in self._attempt.chunks("steps"):
            yield from chunk

    @property
    def validation_due(self) -> bool:
        """Whether the current step should report: ``if trial.validation_due: trial.report(...)``.

        This is true in the last step before the target, at each multiple of ``min_validation_period`` and
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
        """Report metrics at the current length, or at ``length``.

        If the trial has reached its target and the searcher's metric is reported, this waits for the decision of the
        search.  Otherwise it takes microseconds and does not wait.

        A metric is a number, an array or tensor of one number, a bool (1 or 0), or None if it was not measured.

        Args:
            metrics: metrics by name, for names that are not Python identifiers or are parameters of this method.
            length: total length of training so far in the experiment's unit, for training code with its own loop.  The
                first report at or past the target is compared.  By default, the length that the trial's loop has
                reached, or the length of the last report.
            checkpoint: function that saves the trial into an empty directory; it is called only when a save is due.
            training: metrics of the training itself.  They are recorded as ``training.NAME`` and never compared, so
                they can have the names of validation metrics.
            **more: metrics by name.

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
            name: value if type(value) is float and type(name) is str else to_number(name, value)
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
            number = to_number(name, value)
            full = TRAINING + name
            if full in named:
                raise TypeError(f"metric {full!r} is reported twice: by that name, and as {name!r} in training=")
            if full == self._attempt.job.metric:
                raise TypeError(f"the search compares metric {full!r}: report it by that name, not in training=")
            if number is not None:
                values[full] = number
        return values

    def save(self, checkpoint: Save, /, *, length: int | None = None) -> None:
        """Save a checkpoint now, even if none is due.

        At the target, the save happens after the report.  If the checkpoint came first and the process died before the
        report, the next attempt would start at the target, and could not report its metrics again.

        Args:
            checkpoint: function that saves the trial into an empty directory.
            length: total length of training so far, as for `report`.

        Raises:
            TypeError: ``checkpoint`` is not callable, or ``length`` is not an integer.
            TrainingCodeError: ``length`` decreases, or is given inside a loop of the trial.
        """
        if not callable(checkpoint):
            raise _not_callable(checkpoint)
        self._attempt.save(checkpoint, None if length is None else _length(length))

    def invalid_hparams(self, why: str) -> NoReturn:
        """Declare the hyperparameters invalid and end the training code; the search replaces the trial by another."""
        self._attempt.leave(Invalid(why))

    def stop(self) -> NoReturn:
        """End this trial early, for good; its results so far stay in the search."""
        self._attempt.leave(Stopped())


def to_number(name: object, value: Any) -> float | None:
    """Return a metric as a number, or None if it was not measured.

    Raises:
        TypeError: the name is not text, or the value is not one number.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a metric must be a string, not {name!r}")
    if value is None:
        return None
    number = value
    # Arrays and tensors have item().  For several elements, each library raises an exception of another type.
    if hasattr(value, "item"):
        try:
            number = value.item()
        except Exception:  # noqa: BLE001
            number = ""
    # float() also accepts text, which would hide a mistake.
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
    raise TypeError(
        f"length must be an integer, not {length!r} ({type(length).__name__}): it is the total length of training; a "
        'metric of that name goes into a mapping: trial.report({"length": ...})'
    )


def _not_callable(checkpoint: object) -> TypeError:
    return TypeError(f"checkpoint must be a function that saves into a directory, not {checkpoint!r}")
