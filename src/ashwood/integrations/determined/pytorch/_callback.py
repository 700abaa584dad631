"""Callbacks of a trial."""

from __future__ import annotations

from typing import Any


class PyTorchCallback:
    """Base class of callbacks, which `PyTorchTrial.build_callbacks` returns by name.

    If a callback has state, override `state_dict` and `load_state_dict`, so that checkpoints contain it.  If several
    processes train the trial, each runs the callback.
    """

    def on_trial_startup(self, first_batch_idx: int, checkpoint_uuid: str | None) -> None:
        """Run before the data loaders are built; ``first_batch_idx`` is the number of trained batches."""

    def on_trial_shutdown(self) -> None:
        """Run at the end, also after an exception."""

    def on_training_start(self) -> None:
        """Run after the checkpoint was loaded, before the first batch."""

    def on_training_epoch_start(self, epoch_idx: int) -> None:
        """Run before the first batch of an epoch."""

    def on_training_epoch_end(self, epoch_idx: int) -> None:
        """Run after the last batch of an epoch."""

    def on_training_workload_end(self, avg_metrics: dict[str, Any], batch_metrics: list[dict[str, Any]]) -> None:
        """Run after some batches were trained, with their mean metrics and those of each batch."""

    def on_validation_start(self) -> None:
        """Run before a validation."""

    def on_validation_epoch_start(self) -> None:
        """Run before the first batch of a validation by `PyTorchTrial.evaluate_batch`."""

    def on_validation_epoch_end(self, outputs: list[Any]) -> None:
        """Run after the last batch of a validation by `PyTorchTrial.evaluate_batch`, with the metrics of each batch."""

    def on_validation_end(self, metrics: dict[str, Any]) -> None:
        """Run after a validation, with its metrics."""

    def on_validation_step_start(self) -> None:
        """Run before a validation.  It is an old name of `on_validation_start`."""

    def on_validation_step_end(self, metrics: dict[str, Any]) -> None:
        """Run after a validation.  It is an old name of `on_validation_end`."""

    def on_before_optimizer_step(self, parameters: Any) -> None:
        """Run before each step of an optimizer; pass ``clip_grads`` to ``context.step_optimizer`` instead."""

    def on_checkpoint_load_start(self, checkpoint: dict[str, Any]) -> None:
        """Run before the states in ``checkpoint`` are restored."""

    def on_checkpoint_save_start(self, checkpoint: dict[str, Any]) -> None:
        """Run before ``checkpoint`` is written; it can be changed."""

    def on_checkpoint_end(self, checkpoint_dir: str) -> None:
        """Run after the files of a checkpoint were written.  It is an old name of `on_checkpoint_write_end`."""

    def on_checkpoint_write_end(self, checkpoint_dir: str) -> None:
        """Run after the files of a checkpoint were written; more files can be added to the directory."""

    def on_checkpoint_upload_end(self, uuid: str) -> None:
        """Run after a checkpoint was saved; ``uuid`` is its name."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the callback, which must be possible to pickle."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class ClipGradsL2Norm(PyTorchCallback):
    """Clip the norm of the gradients; pass ``clip_grads`` to ``context.step_optimizer`` instead."""

    def __init__(self, clip_value: float) -> None:
        self._clip_value = clip_value

    def on_before_optimizer_step(self, parameters: Any) -> None:
        from torch.nn.utils import clip_grad_norm_

        clip_grad_norm_(parameters, self._clip_value)


class ClipGradsL2Value(PyTorchCallback):
    """Clip the values of the gradients; pass ``clip_grads`` to ``context.step_optimizer`` instead."""

    def __init__(self, clip_value: float) -> None:
        self._clip_value = clip_value

    def on_before_optimizer_step(self, parameters: Any) -> None:
        from torch.nn.utils import clip_grad_value_

        clip_grad_value_(parameters, self._clip_value)
