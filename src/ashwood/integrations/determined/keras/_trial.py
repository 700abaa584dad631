"""The trial class of Keras, and its training loop."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_metric, check_one_process
from ashwood.integrations.determined._context import start_logging
from ashwood.integrations.determined._saved_class import write_class
from ashwood.integrations.determined.core import DummyDistributedContext
from ashwood.integrations.determined.errors import InvalidHP
from ashwood.integrations.determined.info import current_trial, slots_of_trial
from ashwood.integrations.determined.keras import _state
from ashwood.integrations.determined.keras._context import TFKerasTrialContext
from ashwood.integrations.determined.keras._data import Batches, unpacked
from ashwood.integrations.determined.keras.callbacks import Callback
from ashwood.trial import Trial
from ashwood.trial.lengths import Scale

logger = logging.getLogger("determined.keras")


class TFKerasTrial(ABC):
    """A Keras model and its data.

    An experiment trains it with ``entrypoint: model_def:DigitsTrial``::

        class DigitsTrial(TFKerasTrial):
            def __init__(self, context):
                self.context = context

            def build_model(self):
                model = self.context.wrap_model(keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)]))
                model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
                return model

            def build_training_data_loader(self):
                return x_train, y_train

            def build_validation_data_loader(self):
                return x_valid, y_valid
    """

    trial_context_class = TFKerasTrialContext

    def __init__(self, context: TFKerasTrialContext) -> None:
        self.context = context

    @abstractmethod
    def build_model(self) -> Any:
        """Return the compiled model."""

    @abstractmethod
    def build_training_data_loader(self) -> Any:
        """Return the data for the training: arrays ``(x, y)``, a `keras.utils.PyDataset` or a `tf.data.Dataset`."""

    @abstractmethod
    def build_validation_data_loader(self) -> Any:
        """Return the data for validations, in one of the same forms."""

    def keras_callbacks(self) -> list[Any]:
        """Return callbacks."""
        return []

    @classmethod
    def __ashwood_train__(cls, trial: Trial) -> None:
        """Train the class in a trial of an experiment whose entrypoint it is."""
        current_trial()
        start_logging()
        check_one_process("Keras", trial.world_size)
        if (slots := slots_of_trial()) > 1:
            logger.warning(f"the trial has {slots} slots, but Keras trains a TFKerasTrial in one process")
        try:
            keras.utils.set_random_seed(trial.seed % 2**32)
            context = cls.trial_context_class(trial, DummyDistributedContext())
            _Loop(cls(context), context, trial).run()
        except InvalidHP as error:
            trial.invalid_hparams(str(error))


class _Loop:
    """Trains a `TFKerasTrial` as far as the search requires."""

    def __init__(self, user: TFKerasTrial, context: TFKerasTrialContext, trial: Trial) -> None:
        self._user, self._context, self._trial = user, context, trial
        self._period = int(context.get_experiment_config().get("scheduling_unit") or 100)
        size = context._sizes[0] if context._sizes else None
        options = context.fit_options
        self._batches = Batches(user.build_training_data_loader(), size, options["shuffle"], trial.seed)
        self._validation = user.build_validation_data_loader()
        self._size = size
        self._epoch_len = self._batches.length or self._of_file()
        self._window: list[dict[str, float]] = []
        self._done = 0
        self._validates, self._saves = self._use_sizes()

    def _of_file(self) -> int | None:
        """Return the number of batches in an epoch according to the experiment file, or None."""
        records = self._trial._attempt.job.records_per_epoch
        return max(1, records // self._size) if records and self._size else None

    def _use_sizes(self) -> list[int | None]:
        """Let lengths be converted with the length of the data, and return the file's periods in batches."""
        attempt, size = self._trial._attempt, self._size or 1
        attempt.job = job = attempt.job._replace(
            records_per_batch=size, records_per_epoch=self._epoch_len and self._epoch_len * size
        )
        scale = Scale(job, "batches")  # It says what is missing if units cannot be converted.
        periods = [("min_validation_period", job.validation_period), ("min_checkpoint_period", job.checkpoint_period)]
        found = [None if period is None else scale.next_multiple(period, 0, name) for name, period in periods]
        attempt.job = job._replace(validation_period=None, checkpoint_period=None)
        self._scale = Scale(attempt.job, "batches")
        return found

    def run(self) -> None:
        """Train until the search ends the trial."""
        trial = self._trial
        self._done = start = trial._attempt.first("batches")
        self._context._initial_batch = start
        self._model = model = self._user.build_model() or self._context.model
        if getattr(model, "optimizer", None) is None:
            raise TrainingCodeError("build_model() must return a compiled model: call model.compile() in it")
        batches = self._batches.from_batch(start)
        batch = next(batches)
        self._prepare(batch)
        self._callbacks = list(self._user.keras_callbacks() or [])
        callbacks = self._all = keras.callbacks.CallbackList(self._callbacks, model=model)
        model.stop_training = False
        callbacks.on_train_begin()
        self._restore(start)
        for batch_idx in trial.batches():
            self._train(batch_idx, batch)
            if self._after_batch(batch_idx + 1):
                break
            batch = next(batches)
        callbacks.on_train_end()

    def _prepare(self, batch: Any) -> None:
        """Let Keras do what it does with its first batch, which draws random numbers, before it is restored."""
        model = self._model
        x, y, weights = unpacked(batch)
        if not model.built:
            try:
                model(x)
            except Exception:  # noqa: BLE001 - a model with a train_step of its own need not be callable
                model.built = True
        _state.build_optimizer(model)
        before = _state.arrays(model)
        others = _state.other_optimizers(model)
        if all(each.built for each in others):
            model.test_on_batch(x, y, sample_weight=weights)
        else:  # Only the model's train_step knows which variables they change.
            before.pop(_state.OTHERS)
            model.train_on_batch(x, y, sample_weight=weights)
            for optimizer in others:
                _state.reset_optimizer(optimizer)
        _state.assign(model, before)

    def _train(self, batch_idx: int, batch: Any) -> None:
        in_epoch = batch_idx % self._epoch_len if self._epoch_len else batch_idx
        epoch = batch_idx // self._epoch_len if self._epoch_len else 0
        if not self._window:
            self._call("on_train_workload_begin", batch_idx, None, {})
        if in_epoch == 0:
            self._all.on_epoch_begin(epoch)
        self._all.on_train_batch_begin(in_epoch)
        x, y, weights = unpacked(batch)
        # Metrics of Keras are means since their last reset.  Those of each batch are kept, so a pause changes none.
        self._model.reset_metrics()
        logs = self._model.train_on_batch(
            x, y, sample_weight=weights, class_weight=self._context.fit_options["class_weight"], return_dict=True
        )
        self._window.append({name: float(value) for name, value in logs.items()})
        self._done = batch_idx + 1
        self._all.on_train_batch_end(in_epoch, self._window[-1])
        if self._epoch_len and in_epoch == self._epoch_len - 1:
            self._all.on_epoch_end(epoch, {})

    def _after_batch(self, done: int) -> bool:
        """Do what is due after ``done`` batches, and return whether the training code has stopped the trial."""
        trial = self._trial
        is_due = trial.validation_due
        at_goal = is_due and done >= trial._attempt.goal("batches")
        validates = self._validates is not None and done % self._validates == 0
        saves = self._saves is not None and done % self._saves == 0
        at_end = at_goal and done >= self._scale.position(trial.max_length)
        closes = validates or saves or at_end or done % self._period == 0
        is_exact = self._scale.position(self._scale.length(done)) == done
        training = self._mean() if closes or at_goal else {}
        if closes:
            self._call("on_train_workload_end", done, training)
            self._window = []
        if validates or at_goal:
            metrics = self._validate()
            if at_goal or is_exact:
                trial.report(metrics, training=training, checkpoint=self._save)
            else:
                print(f"validation after {done} batches: {metrics} (not recorded: the experiment counts {trial.unit})")
        elif closes and is_exact:
            trial.report(training=training)
        if saves or (is_due and not at_goal):
            trial.save(self._save)
        if not ((closes or at_goal) and (self._model.stop_training or self._context.get_stop_requested())):
            return False
        trial.save(self._save)
        print(f"The training code stopped the trial after {done} batches.", flush=True)
        with suppress(SystemExit):
            trial.stop()
        return True

    def _mean(self) -> dict[str, float]:
        names = dict.fromkeys(name for metrics in self._window for name in metrics)
        return {name: float(np.mean([m[name] for m in self._window if name in m])) for name in names}

    def _validate(self) -> dict[str, float]:
        self._all.on_test_begin()
        data = self._validation
        data = getattr(data, "sequence", data)
        options: dict[str, Any] = {"steps": self._context.fit_options["validation_steps"]}
        if isinstance(data, tuple | list) and not hasattr(data, "batch"):
            x, y, weights = unpacked(tuple(data))
            options = {"y": y, "sample_weight": weights, "batch_size": self._size}
            data = x
        logs = self._model.evaluate(data, verbose=0, return_dict=True, **options)
        metrics = {f"val_{name}": float(value) for name, value in logs.items()}
        self._all.on_test_end(metrics)
        check_metric(self._trial, metrics)
        return metrics

    def _save(self, directory: Path) -> None:
        states = [each.get_state() if isinstance(each, Callback) else None for each in self._callbacks]
        _state.save(directory, self._model, batches=self._done, window=self._window, callbacks=states)
        write_class(directory, "TFKerasTrial", type(self._user), self._context)
        self._call("on_checkpoint_end", str(directory))

    def _restore(self, start: int) -> None:
        if self._trial.checkpoint is None:
            return
        state = _state.load(self._trial.checkpoint)
        _state.assign(self._model, state["model"])
        if state["batches"] != start:
            if start:
                raise TrainingCodeError(
                    f"the checkpoint was saved after {state['batches']} batches, but the trial continues at batch "
                    f"{start}: the number of batches in an epoch has changed"
                )
            return  # A new trial starts from the checkpoint of another one.
        _state.restore_random(state)
        self._window = state["window"]
        for callback, saved in zip(self._callbacks, state["callbacks"], strict=False):
            if isinstance(callback, Callback) and saved is not None:
                callback.load_state(saved)

    def _call(self, event: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            if isinstance(callback, Callback):
                getattr(callback, event)(*arguments)
