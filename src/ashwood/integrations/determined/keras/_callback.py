"""The callback for ``model.fit``: `DeterminedCallback`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import keras

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_one_process
from ashwood.integrations.determined.keras import _state
from ashwood.integrations.keras import seed_epoch

_MODEL, _COUNTERS = "model_checkpoint", "callback_state"


class DeterminedCallback(keras.callbacks.Callback):
    """Callback that reports each epoch, saves and restores checkpoints, and ends the training on request.

    Example::

        with det.core.init() as core_context:
            info = det.get_cluster_info()
            callback = DeterminedCallback(core_context, info.latest_checkpoint, info.trial.trial_id)
            model.fit(x, y, validation_data=(x_valid, y_valid), epochs=8, callbacks=[callback])

    Args:
        core_context: the context of ``det.core.init()``.
        checkpoint: checkpoint to start from, or None.
        continue_id: text or number that is saved with checkpoints.  If the checkpoint has another one, only the model
            is restored, and the training starts with epoch 0.
        train_metrics_report_period: ``epoch``, or the number of batches between reports of training metrics.
        checkpoint_epochs: number of epochs between checkpoints; 0 to save only at the end and at pauses.
    """

    def __init__(
        self,
        core_context: Any,
        checkpoint: str | None,
        continue_id: int | str,
        *,
        train_metrics_report_period: int | str = "epoch",
        checkpoint_epochs: int = 1,
    ) -> None:
        super().__init__()
        self._core, self._checkpoint, self._continue_id = core_context, checkpoint, continue_id
        self._report_period, self._checkpoint_epochs = train_metrics_report_period, checkpoint_epochs
        self._steps_completed = 0
        self._epoch = self._last_saved = -1
        check_one_process("Keras", core_context.distributed.size)

    def on_train_begin(self, logs: Any = None) -> None:
        if self._checkpoint is None:
            return
        with self._core.checkpoint.restore_path(self._checkpoint) as path:
            self.load_model(self.model, str(Path(path) / _MODEL), self._core.distributed)
            counters = Path(path) / _COUNTERS
            state = pickle.loads(counters.read_bytes()) if counters.exists() else {}  # noqa: S301
        if state.get("continue_id") != self._continue_id:
            return
        self._steps_completed, self._epoch = state["steps_completed"], state["epoch"]
        self._last_saved = self._epoch
        self.model._initial_epoch = self._epoch + 1  # as BackupAndRestore of Keras does

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        info = self._core.info
        if info is not None:
            seed_epoch(info.trial.trial_seed, epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps_completed += 1
        period = self._report_period
        if isinstance(period, int) and self._steps_completed % period == 0:
            self._core.train.report_training_metrics(self._steps_completed, dict(logs or {}))

    def on_test_end(self, logs: Any = None) -> None:
        recorder = self._core._recorder
        metrics = dict(logs or {})
        if recorder is not None:
            job = recorder._job
            if job.unit == "epochs":
                recorder._lengths.learn(self._epoch + 1, self._steps_completed)
            name = str(job.metric)
            if name not in metrics and name.removeprefix("val_") in metrics:
                metrics[name] = metrics[name.removeprefix("val_")]
        self._core.train.report_validation_metrics(self._steps_completed, metrics)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._report_period == "epoch":
            training = {name: value for name, value in (logs or {}).items() if not name.startswith("val_")}
            self._core.train.report_training_metrics(self._steps_completed, training)
        if self._checkpoint_epochs > 0 and (epoch + 1) % self._checkpoint_epochs == 0:
            self._save(epoch)
        if self._core.preempt.should_preempt():
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self._epoch > self._last_saved:
            self._save(self._epoch)

    def _save(self, epoch: int) -> None:
        self._last_saved = epoch
        with self._core.checkpoint.store_path({"steps_completed": self._steps_completed}) as (path, _):
            self.save_model(self.model, str(path / _MODEL), self._core.distributed)
            state = {"epoch": epoch, "steps_completed": self._steps_completed, "continue_id": self._continue_id}
            (path / _COUNTERS).write_bytes(pickle.dumps(state))

    def save_model(self, model: Any, path: str, distributed: Any) -> None:
        """Save the model; override it and `load_model` to save in another way.

        Args:
            model: the model.
            path: directory to create.
            distributed: the processes of the trial.
        """
        Path(path).mkdir()
        _state.save(Path(path), model)

    def load_model(self, model: Any, path: str, distributed: Any) -> None:
        """Restore what `save_model` saved."""
        if not model.built:
            raise TrainingCodeError("build the model before fit: add keras.Input(shape), or call it with one batch")
        _state.assign(model, _state.load(Path(path))["model"])
