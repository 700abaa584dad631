"""The training loop of a `PyTorchTrial`: batches, validations, reports and checkpoints."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ashwood.errors import TrainingCodeError, did_you_mean
from ashwood.integrations.determined.pytorch import _random, _state
from ashwood.integrations.determined.pytorch._callback import PyTorchCallback
from ashwood.integrations.determined.pytorch._data import (
    DataLoader,
    first_batches,
    len_of,
    not_reproducible,
)
from ashwood.integrations.determined.pytorch._methods import wrap_what_methods_build
from ashwood.integrations.determined.pytorch._reducer import Reducer, mean_metrics, scalars, to_numpy
from ashwood.integrations.determined.pytorch._units import UNITS, Batch, Epoch, Record, TrainUnit
from ashwood.integrations.determined.pytorch.samplers import skips
from ashwood.trial import Trial
from ashwood.trial.attempt import Leave
from ashwood.trial.lengths import Scale

logger = logging.getLogger("determined.pytorch")

_UNKNOWN = sys.maxsize
"""Length of an epoch in batches if it is unknown, as in Determined."""


class Periods(NamedTuple):
    """When the loop validates, saves and reports, besides the lengths at which the search compares trials.

    Attributes:
        validation: period of validations, or None.
        checkpoint: period of checkpoints, or None.
        report: period of reports of training metrics.
        at_start: whether to validate before the first batch.
        saves_all: whether to save a checkpoint after each validation.
        length: total length, for searches in which the training code decides how long it trains.
        is_test: whether to train and validate only one batch.
    """

    validation: TrainUnit | None = None
    checkpoint: TrainUnit | None = None
    report: TrainUnit = Batch(100)
    at_start: bool = False
    saves_all: bool = False
    length: TrainUnit | None = None
    is_test: bool = False


def periods_of(trial: Trial, config: Mapping[str, Any]) -> Periods:
    """Return the periods of an experiment file."""
    job = trial._attempt.job
    units = [
        None if period is None else UNITS[period[1]](period[0])
        for period in (job.validation_period, job.checkpoint_period)
    ]
    every = config.get("scheduling_unit") or config.get("batches_per_step") or 100
    return Periods(units[0], units[1], Batch(int(every)), bool(config.get("perform_initial_validation")))


def _batches_of(period: Record, size: int) -> int:
    if not isinstance(period.value, int):
        raise TrainingCodeError(f"{period!r} must have one number of records; lists are for Batch and Epoch")
    return max(period.value // size, 1) if period.value > 0 else 0


def has_own(trial: Any, method: str) -> bool:
    """Return whether the class of a trial overrides a method."""
    return not getattr(getattr(type(trial), method), "is_default", False)


class TrainingLoop:
    """Trains a `PyTorchTrial` as far as the search requires.

    Checkpoints contain the mean of training metrics since their last report, so a pause does not change the metrics.
    Validations do not change the random numbers of the training.
    """

    def __init__(self, user: Any, context: Any, trial: Trial, periods: Periods, saved: _state.Saved) -> None:
        """Prepare the loop.

        Args:
            user: the `PyTorchTrial`.
            context: its context.
            trial: the trial of the search.
            periods: when to validate, save and report.
            saved: checkpoint to continue from.

        Raises:
            TrainingCodeError: the class lacks a part that the training needs.
        """
        self._user, self._context, self._trial, self._periods, self._saved = user, context, trial, periods, saved
        self._chief = context.distributed.get_rank() == 0
        wrap_what_methods_build(user, context)
        self._callbacks: dict[str, PyTorchCallback] = user.build_callbacks()
        context.callbacks = self._callbacks
        self._train_batch = _adapted(user.train_batch, "batch", "epoch_idx", "batch_idx")
        self._by_batch = has_own(user, "evaluate_batch")
        self._window: list[dict[str, Any]] = []
        self._done = 0
        self._saves = self._announced_saves = 0
        self._has_stopped = False
        self._check()

    def _check(self) -> None:
        for things, wrap in ((self._context.models, "wrap_model"), (self._context.optimizers, "wrap_optimizer")):
            if not things:
                raise TrainingCodeError(
                    f"{type(self._user).__name__} wraps no {wrap.removeprefix('wrap_')}: call context.{wrap}() in its "
                    "__init__"
                )
        if self._by_batch == has_own(self._user, "evaluate_full_dataset"):
            raise TrainingCodeError(
                f"{type(self._user).__name__} must define either evaluate_batch() or evaluate_full_dataset()"
            )
        for name, callback in self._callbacks.items():
            if not isinstance(callback, PyTorchCallback):
                raise TrainingCodeError(
                    f"build_callbacks() returned {callback!r} as {name!r}: it must be a det.pytorch.PyTorchCallback"
                )

    def run(self) -> None:
        """Train until the search ends the trial."""
        context = self._context
        checkpoint = self._trial._attempt.job.checkpoint
        with ExitStack() as stack:
            for callback in self._callbacks.values():
                stack.callback(callback.on_trial_shutdown)
                callback.on_trial_startup(self._saved.batches, checkpoint)
            loader = self._load_training_data()
            self._validation_data = self._load_validation_data()
            self._course = _open_course(self._trial, context, self._periods)
            self._done = start = self._course.start
            continues = start > 0 or self._saved.batches == start
            self._check_position(start)
            own = self._of_rank() if continues else {}
            self._batches = _Batches(loader, context, start, self._trial.seed, own.get("data"))
            stack.callback(self._batches.close)
            if self._saved.states is not None:
                self._restore(own)
            self._saved = _state.Saved()
            self._call("on_training_start")
            if self._periods.at_start and start == 0:
                self._course.report(0, scalars(self._validate()))
            for batch_idx in self._course.batches():
                self._train(batch_idx)
                self._after_batch(batch_idx + 1)
                if self._has_stopped:
                    break
            self._announce_saves()

    # -- data ---------------------------------------------------------------------------------

    def _load_training_data(self) -> Any:
        context = self._context
        data = self._user.build_training_data_loader()
        self._check_loader("build_training_data_loader", data)
        length = len_of(data)
        if isinstance(data, DataLoader) and length is not None:
            length = -(-length // context.distributed.get_size())
        length = context.distributed.broadcast(length)
        job = self._trial._attempt.job
        sizes = context._sizes
        if length is None and job.records_per_epoch and sizes:
            length = max(1, job.records_per_epoch // sizes[1])
        if length == 0:
            raise TrainingCodeError("build_training_data_loader() returned a loader without batches")
        context._epoch_len = _UNKNOWN if length is None else length
        self._use_sizes(length)
        return data

    def _use_sizes(self, epoch_len: int | None) -> None:
        """Let lengths and periods be converted with the length of the data loader."""
        attempt, sizes = self._trial._attempt, self._context._sizes
        units = {self._trial.unit} | {
            name for name, cls in UNITS.items() if cls in map(type, self._periods) and name != "steps"
        }
        if epoch_len is None and "epochs" in units:
            raise TrainingCodeError(
                "the training data loader has no length, so epochs cannot be counted: add records_per_epoch and the "
                "hyperparameter global_batch_size to the experiment, or count batches"
            )
        if sizes is None and "records" in units:
            raise TrainingCodeError(
                "records cannot be counted: add an integer global_batch_size to the hyperparameters, or count batches"
            )
        size = sizes[1] if sizes else 1
        attempt.job = attempt.job._replace(
            records_per_batch=size,
            records_per_epoch=None if epoch_len is None else epoch_len * size,
            # The loop itself decides when to validate and save.
            validation_period=None,
            checkpoint_period=None,
        )
        in_batches: dict[str, Any] = {
            name: Batch(_batches_of(period, size))
            for name, period in self._periods._asdict().items()
            if isinstance(period, Record)
        }
        self._periods = self._periods._replace(**in_batches)

    def _load_validation_data(self) -> Any:
        data = self._user.build_validation_data_loader()
        if not (self._by_batch or self._chief):
            return None
        self._check_loader("build_validation_data_loader", data)
        if not isinstance(data, DataLoader):
            return data
        self._generator, self._generator_state = data.generator, None
        if data.generator is not None:
            self._generator_state = data.generator.get_state()
        shared = self._context.distributed if self._by_batch else None
        size, rank = (shared.get_size(), shared.get_rank()) if shared else (1, 0)
        return data.get_data_loader(num_replicas=size, rank=rank)

    _generator: Any = None

    def _check_loader(self, method: str, data: Any) -> None:
        if data is None:
            raise TrainingCodeError(f"{method}() returned None: it must return a determined.pytorch.DataLoader")
        if not isinstance(data, DataLoader) and not self._context.experimental._data_repro_checks_disabled:
            raise TrainingCodeError(not_reproducible(method, data))

    # -- training -----------------------------------------------------------------------------

    def _train(self, batch_idx: int) -> None:
        context = self._context
        epoch, in_epoch = divmod(batch_idx, context._epoch_len)
        if not self._window:
            self._begin_window()
        batch = next(self._batches)
        if context.experimental._auto_to_device:
            batch = context.to_device(batch)
        with context.batch(batch_idx):
            if in_epoch == 0:
                self._epoch_start(epoch)
            metrics = self._train_batch(batch, epoch, batch_idx)
        if not isinstance(metrics, dict):
            if metrics is None or isinstance(metrics, list | tuple | str):
                raise TrainingCodeError(
                    f"train_batch() must return a dictionary of metrics by name, not {type(metrics).__name__}"
                )
            metrics = {"loss": metrics}
        if context.steps_now():
            for scheduler in context.lr_schedulers:
                scheduler.after_batch(batch_idx, context._aggregation_frequency, context._epoch_len)
        self._window.append({name: to_numpy(value) for name, value in metrics.items()})
        self._done = batch_idx + 1
        if in_epoch == context._epoch_len - 1:
            self._call("on_training_epoch_end", epoch)

    def _begin_window(self) -> None:
        for model in self._context.models:
            model.train()
        self._context.reset_reducers()

    def _epoch_start(self, epoch: int) -> None:
        for callback in self._callbacks.values():
            # Callbacks for versions before 0.17.8 of Determined have no parameter.
            if inspect.signature(callback.on_training_epoch_start).parameters:
                callback.on_training_epoch_start(epoch)
            else:
                callback.on_training_epoch_start()  # type: ignore[call-arg]

    def _after_batch(self, done: int) -> None:
        """Do what is due after ``done`` batches: report, validate, save, stop."""
        periods, course = self._periods, self._course
        is_due = course.is_due
        at_goal = course.reaches_goal(done) or periods.is_test
        validates = self._reaches(periods.validation, done)
        saves = self._reaches(periods.checkpoint, done)
        # The end of the training is the same in each search, so a part of the training ends there too.  At other
        # lengths at which the search compares trials, the mean of training metrics so far is reported.
        at_end = at_goal and course.reaches_end(done)
        closes = validates or saves or at_end or self._reaches(periods.report, done)
        training = self._close_window() if closes else self._mean_so_far() if at_goal else {}
        if validates or at_goal:
            self._validate_and_report(training, at_goal)
        elif closes and course.is_exact(done):
            course.report(done, {}, training=training)
        self._announce_saves()
        if saves or (is_due and not at_goal):
            course.save(done, self._save)
            self._announce_saves()
        if (closes or validates or at_goal) and self._context.distributed.broadcast(self._context.get_stop_requested()):
            course.save(done, self._save)
            self._announce_saves()
            print(f"The training code stopped the trial after {done} batches (set_stop_requested).", flush=True)
            self._stop()

    def _stop(self) -> None:
        """End the trial, but not the script that calls the loop."""
        self._has_stopped = True
        with suppress(Leave):
            self._trial.stop()

    def _reaches(self, period: TrainUnit | None, done: int) -> bool:
        if period is None:
            return False
        if not isinstance(period, Epoch):
            return period.should_stop(done)
        epochs, rest = divmod(done, self._context._epoch_len)
        return rest == 0 and period.should_stop(epochs)

    def _close_window(self) -> dict[str, float]:
        """Return the mean training metrics since the last call, and tell the callbacks."""
        metrics = self._means()
        batches = self._window_of_all()
        for callback in self._callbacks.values():
            callback.on_training_workload_end(avg_metrics=metrics, batch_metrics=batches)
        self._window = []
        return scalars(metrics)

    def _mean_so_far(self) -> dict[str, float]:
        return scalars(self._means())

    def _means(self) -> dict[str, Any]:
        return mean_metrics(self._window_of_all()) | self._context.reduce_metrics(for_training=True)

    def _window_of_all(self) -> list[dict[str, Any]]:
        """Return the metrics of each batch, averaged over the processes."""
        distributed = self._context.distributed
        if distributed.get_size() == 1 or not self._context._average_training_metrics:
            return self._window
        return [mean_metrics(each) for each in zip(*distributed.allgather(self._window), strict=True)]

    # -- validation ---------------------------------------------------------------------------

    def _validate_and_report(self, training: Mapping[str, float], at_goal: bool) -> None:
        trial = self._trial
        metrics = self._validate()
        self._check_metric(metrics)
        if not at_goal and not self._course.is_exact(self._done):
            # A length can be reported once, and lengths that count epochs do not change inside an epoch.
            shown = "  ".join(f"{name}={value:.6g}" for name, value in scalars(metrics).items())
            print(f"validation after {self._done} batches: {shown} (not recorded: the experiment counts {trial.unit})")
            return
        self._course.report(self._done, scalars(metrics), training=training, checkpoint=self._save)
        if self._periods.saves_all or (at_goal and self._course.saves_end):
            self._course.save(self._done, self._save)
        if self._periods.is_test:
            self._stop()

    def _check_metric(self, metrics: Mapping[str, Any]) -> None:
        wanted = self._trial._attempt.job.metric
        if wanted is None or wanted in scalars(metrics):
            return
        if wanted in metrics:
            raise TrainingCodeError(f"the validation metric {wanted!r} must be one number, not {metrics[wanted]!r}")
        raise TrainingCodeError(
            f"the search compares the metric {wanted!r}, but the validation returned {', '.join(metrics) or 'nothing'}"
            f"{did_you_mean(wanted, metrics)}"
        )

    def _validate(self) -> dict[str, Any]:
        context = self._context
        # If a part of the training is unfinished, its values in reducers are restored after the validation.
        collected = context.reducer_states() if self._window else None
        with _random.kept(context.device), context.evaluating():
            if self._generator is not None:
                self._generator.set_state(self._generator_state)
            context.reset_reducers()
            self._call("on_validation_step_start")
            self._call("on_validation_start")
            metrics = self._evaluate_batches() if self._by_batch else self._evaluate_all()
            metrics |= context.reduce_metrics(for_training=False)
            metrics = context.distributed.broadcast(metrics)
            self._call("on_validation_step_end", metrics)
            self._call("on_validation_end", metrics)
        for model in context.models:
            model.train()
        if collected is not None:
            context.restore_reducers(collected)
        return metrics

    def _evaluate_batches(self) -> dict[str, Any]:
        context, evaluate = self._context, _adapted(self._user.evaluate_batch, "batch", "batch_idx")
        self._call("on_validation_epoch_start")
        outputs: list[dict[str, Any]] = []
        for number, batch in enumerate(self._validation_data):
            moved = context.to_device(batch) if context.experimental._auto_to_device else batch
            metrics = evaluate(moved, number)
            if not isinstance(metrics, dict):
                raise TrainingCodeError(
                    f"evaluate_batch() must return a dictionary of metrics by name, not {type(metrics).__name__}"
                )
            if outputs and metrics.keys() != outputs[0].keys():
                raise TrainingCodeError(
                    "evaluate_batch() must return the same metrics for all batches, but returned "
                    f"{', '.join(outputs[0]) or 'nothing'} and then {', '.join(metrics) or 'nothing'}"
                )
            outputs.append({name: to_numpy(value) for name, value in metrics.items()})
            if self._periods.is_test:
                break
        self._call("on_validation_epoch_end", outputs)
        of_all = context.distributed.allgather(self._reduced(outputs))
        measured = [(metrics, count) for metrics, count in of_all if count]
        if not measured:
            raise TrainingCodeError("build_validation_data_loader() returned a loader without batches")
        if len(measured) == 1:
            return dict(measured[0][0])
        counts = [count for _, count in measured]
        reducers = self._reducers(measured[0][0])
        return {
            name: reducers[name].reduce([metrics[name] for metrics, _ in measured], counts) for name in measured[0][0]
        }

    def _reduced(self, outputs: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
        """Return the metrics of this process and the number of its batches."""
        if not outputs:
            return {}, 0
        reducers = self._reducers(outputs[0])
        return {name: reducers[name].reduce([metrics[name] for metrics in outputs]) for name in outputs[0]}, len(
            outputs
        )

    def _reducers(self, names: Mapping[str, Any]) -> dict[str, Reducer]:
        chosen = self._user.evaluation_reducer()
        by_name = chosen if isinstance(chosen, dict) else dict.fromkeys(names, chosen)
        if by_name.keys() != names.keys() or not all(isinstance(each, Reducer) for each in by_name.values()):
            raise TrainingCodeError(
                "evaluation_reducer() must return a det.pytorch.Reducer, or one for each validation metric "
                f"({', '.join(names)}), not {chosen!r}"
            )
        return by_name

    def _evaluate_all(self) -> dict[str, Any]:
        if not self._chief:
            return {}
        metrics = _adapted(self._user.evaluate_full_dataset, "data_loader")(self._validation_data)
        if not isinstance(metrics, dict):
            raise TrainingCodeError(
                f"evaluate_full_dataset() must return a dictionary of metrics by name, not {type(metrics).__name__}"
            )
        return {name: to_numpy(value) for name, value in metrics.items()}

    # -- checkpoints --------------------------------------------------------------------------

    def _save(self, directory: Path) -> None:
        context = self._context
        own = {
            "random": _random.states(context.device),
            "window": self._window,
            "reducers": context.reducer_states() if self._window else [],
            "data": self._batches.state(),
            "gradients": _state.gradients(context.models),
        }
        ranks = context.distributed.allgather(own)
        self._saves += 1
        if not self._chief:
            return
        shared = {"batches": self._done, "epoch": self._done // context._epoch_len, "ranks": ranks}
        states = _state.collect(context, shared, own["random"])
        self._call("on_checkpoint_save_start", states)
        _state.write(directory, states, context, type(self._user))
        self._call("on_checkpoint_end", str(directory))
        self._call("on_checkpoint_write_end", str(directory))

    def _announce_saves(self) -> None:
        """Tell the callbacks that a checkpoint was saved."""
        if self._saves == self._announced_saves:
            return
        self._announced_saves = self._saves
        name = self._context.distributed.broadcast(self._trial._attempt._checkpoint[1] or "")
        self._call("on_checkpoint_upload_end", name)

    def _of_rank(self) -> dict[str, Any]:
        """Return the saved state of this process."""
        ranks = self._saved.own.get("ranks") or [{}]
        return ranks[min(self._context.distributed.get_rank(), len(ranks) - 1)]

    def _restore(self, own: Mapping[str, Any]) -> None:
        states = self._saved.states
        assert states is not None  # noqa: S101
        self._call("on_checkpoint_load_start", states)
        context = self._context
        _state.restore(context, states)
        if found := own.get("random") or states.get("rng_state"):
            _random.restore(found, context.device)
        _state.restore_gradients(context.models, own.get("gradients", ()))
        self._window = list(own.get("window", ()))
        if self._window:
            for model in self._context.models:
                model.train()
            self._context.reset_reducers()
            self._context.restore_reducers(own.get("reducers", ()))

    def _check_position(self, start: int) -> None:
        if start and self._saved.states is not None and self._saved.batches not in (0, start):
            raise TrainingCodeError(
                f"the checkpoint was saved after {self._saved.batches} batches, but the trial continues at batch "
                f"{start}: the number of batches in an epoch has changed (by another data set or batch size)"
            )

    def _call(self, event: str, *arguments: Any) -> None:
        for callback in self._callbacks.values():
            getattr(callback, event)(*arguments)


class _SearchedCourse:
    """The batches up to the length that the search requires.

    Attributes:
        start: number of trained batches at the beginning.
        saves_end: whether the loop must save at the goal; here, the search decides.
    """

    saves_end = False

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._scale = Scale(trial._attempt.job, "batches")
        self.start = trial._attempt.first("batches")

    def batches(self) -> Iterator[int]:
        """Yield the numbers of the batches."""
        return self._trial.batches()

    @property
    def is_due(self) -> bool:
        """Whether the present batch is the last one before the search or a pause requires a report or a checkpoint."""
        return self._trial.validation_due

    def reaches_goal(self, done: int) -> bool:
        """Return whether the search compares the trial after a number of batches."""
        return self._trial.validation_due and done >= self._trial._attempt.goal("batches")

    def reaches_end(self, done: int) -> bool:
        """Return whether the training is complete after a number of batches."""
        return done >= self._scale.position(self._trial.max_length)

    def is_exact(self, done: int) -> bool:
        """Return whether a number of batches is a length in the unit of the experiment, not between two of them."""
        return self._scale.position(self._scale.length(done)) == done

    def report(self, done: int, metrics: Mapping[str, float], **options: Any) -> None:
        """Report metrics after a number of batches."""
        self._trial.report(metrics, **options)

    def save(self, done: int, save: Callable[[Path], None]) -> None:
        """Save a checkpoint after a number of batches, unless there is one."""
        self._trial.save(save)


class _OwnCourse:
    """The batches up to a length of the training code, if the search has none.  Lengths are batches."""

    saves_end = True

    def __init__(self, trial: Trial, goal: int) -> None:
        self._trial, self._goal = trial, goal
        self.start = trial.length

    def batches(self) -> Iterator[int]:
        """Yield the numbers of the batches."""
        for batch in range(self.start, self._goal):
            yield batch
            if self._trial.should_stop:
                return

    @property
    def is_due(self) -> bool:
        """Whether the trial pauses."""
        return self._trial._attempt.stop_requested

    def reaches_goal(self, done: int) -> bool:
        """Return whether the training is complete after a number of batches."""
        return done >= self._goal

    reaches_end = reaches_goal

    def is_exact(self, done: int) -> bool:
        """Return True: lengths are batches."""
        return True

    def report(self, done: int, metrics: Mapping[str, float], **options: Any) -> None:
        """Report metrics after a number of batches."""
        self._trial.report(metrics, length=done, **options)

    def save(self, done: int, save: Callable[[Path], None]) -> None:
        """Save a checkpoint after a number of batches, unless there is one."""
        self._trial.save(save, length=done)


def _open_course(trial: Trial, context: Any, periods: Periods) -> Any:
    if trial.has_length:
        return _SearchedCourse(trial)
    length = periods.length
    if length is None or not isinstance(length.value, int) or length.value < 1:
        raise TrainingCodeError(
            "the search has no length, so the training code needs one: add max_length to the searcher section, or pass "
            "max_length=pytorch.Epoch(n) to Trainer.fit()"
        )
    return _OwnCourse(trial, length.value * (context._epoch_len if isinstance(length, Epoch) else 1))


class _Batches:
    """The batches of the training from batch ``start``, without end."""

    def __init__(self, loader: Any, context: Any, start: int, seed: int, saved: Mapping[str, Any] | None) -> None:
        self._device = context.device
        self._replays = False
        if isinstance(loader, DataLoader):
            distributed = context.distributed
            self._loader = loader.get_data_loader(
                True, start, distributed.get_size(), distributed.get_rank(), seed=seed
            )
            self._iterator: Iterator[Any] | None = iter(self._loader)
            return
        # Another loader is repeated here.  Its random numbers are those of the process, so its position is the state of
        # the generators at the beginning of the epoch, and the number of batches since then.  A loader that skips by
        # itself is not replayed.
        self._loader = loader
        self._replays = not (context._asked_initial_batch or skips(loader))
        if self._replays and saved:
            self._began, self._yielded = saved["began"], saved["yielded"]
            _random.restore(self._began, self._device)
            self._iterator = first_batches(loader, self._yielded)
        else:
            self._begin()

    def _begin(self) -> None:
        self._began, self._yielded = _random.states(self._device), 0
        self._iterator = iter(self._loader)

    def __next__(self) -> Any:
        assert self._iterator is not None  # noqa: S101
        nothing = object()
        batch = next(self._iterator, nothing)
        if batch is nothing:
            self._begin()
            batch = next(self._iterator, nothing)
            if batch is nothing:
                raise TrainingCodeError("build_training_data_loader() returned a loader without batches")
        if self._replays:
            self._yielded += 1
        return batch

    def state(self) -> dict[str, Any] | None:
        """Return what is needed to continue after the last batch, or None if the number of batches is enough."""
        return {"began": self._began, "yielded": self._yielded} if self._replays else None

    def close(self) -> None:
        """End the processes that load data."""
        self._iterator = None


def _adapted(method: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """Return a function that calls a method with as many of these arguments as it takes, by name if it has them."""
    parameters = inspect.signature(method).parameters.values()
    found = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if set(names) <= set(found) or any(each.kind is each.VAR_KEYWORD for each in parameters):
        return lambda *arguments: method(**dict(zip(names, arguments, strict=True)))
    if set(found) <= set(names):
        return lambda *arguments: method(**{n: a for n, a in zip(names, arguments, strict=True) if n in found})
    takes_all = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    return lambda *arguments: method(*(arguments if takes_all else arguments[: len(found)]))
