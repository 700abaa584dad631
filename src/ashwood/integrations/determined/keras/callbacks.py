"""Callbacks for `TFKerasTrial`."""

from __future__ import annotations

from typing import Any

import keras

_COUNTERS = ("best", "best_epoch", "best_weights", "cooldown_counter", "stopped_epoch", "wait", "test_end_count")


class Callback(keras.callbacks.Callback):
    """A Keras callback with further events, and a state that checkpoints contain.

    ``on_test_end`` gets the metrics of a validation with the prefix ``val_``.  ``on_epoch_end`` gets no metrics.
    """

    def on_train_workload_begin(self, total_batches_trained: int, batches_requested: int | None, logs: Any) -> None:
        """Run before a part of the training."""

    def on_train_workload_end(self, total_batches_trained: int, logs: Any) -> None:
        """Run after a part of the training, with its mean metrics."""

    def on_checkpoint_end(self, checkpoint_dir: str) -> None:
        """Run after the files of a checkpoint were written; more files can be added to the directory."""

    def get_state(self) -> Any:
        """Return the state of the callback, which must be possible to pickle."""
        return None

    def load_state(self, state: Any) -> None:
        """Restore what `get_state` returned."""


class _AfterValidations(Callback):
    """A callback of Keras that looks at each validation instead of each epoch, and whose counters are saved."""

    _keras: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._keras.__init__(self, *args, **kwargs)
        self.test_end_count = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Do nothing: there are no metrics of a validation."""

    def on_test_end(self, logs: Any = None) -> None:
        """Look at the metrics of a validation."""
        self._keras.on_epoch_end(self, self.test_end_count, logs)
        self.test_end_count += 1

    def get_state(self) -> dict[str, Any]:
        """Return the counters."""
        return {name: getattr(self, name) for name in _COUNTERS if hasattr(self, name)}

    def load_state(self, state: Any) -> None:
        """Restore the counters."""
        for name, value in state.items():
            setattr(self, name, value)


class EarlyStopping(_AfterValidations, keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` after each validation."""

    _keras = keras.callbacks.EarlyStopping


class ReduceLROnPlateau(_AfterValidations, keras.callbacks.ReduceLROnPlateau):
    """`keras.callbacks.ReduceLROnPlateau` after each validation."""

    _keras = keras.callbacks.ReduceLROnPlateau


class TensorBoard(Callback):
    """A callback without effect: Ashwood stores no TensorBoard files."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()
