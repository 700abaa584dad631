"""Lightning: report validations, stop, and continue from the checkpoint."""

from __future__ import annotations

import sys
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_unit, require
from ashwood.integrations.torch import random_state, restore_random_state, torch
from ashwood.trial import Trial

_loaded = sys.modules.get("lightning.pytorch") or sys.modules.get("pytorch_lightning")  # the package of the trainer
pl: Any = _loaded or require("lightning.pytorch", "lightning")


def fit(trial: Trial, trainer: Any, model: Any, *data: Any, **arguments: Any) -> None:
    """Train with ``trainer.fit``: report, stop when the search stops the trial, and continue from its checkpoint.

    If Lightning itself ends the training early, for example because of ``EarlyStopping``, the trial is stopped::

        trainer = L.Trainer(default_root_dir=trial.directory, enable_checkpointing=False, logger=False)
        ashwood.lightning.fit(trial, trainer, model, train_loader, valid_loader)

    Args:
        trial: the trial.
        trainer: a trainer, whose limits of epochs and steps are replaced by ``max_length``.
        model: the module.
        *data: data loaders or a data module, as for ``trainer.fit``.
        **arguments: other arguments of ``trainer.fit``, except ``ckpt_path``.

    Raises:
        TrainingCodeError: settings of the trainer or the model cannot work.
    """
    trainer.callbacks.append(callback := ReportCallback(trial))
    callback.setup(trainer, model, "")  # before Lightning starts processes
    if "weights_only" in pl.Trainer.fit.__annotations__:
        arguments.setdefault("weights_only", False)  # The hyperparameters of the model can be of any class.
    trainer.fit(model, *data, ckpt_path=callback.ckpt_path, **arguments)
    if callback.ended_early:
        trial.stop()


class ReportCallback(pl.callbacks.Checkpoint):
    """Callback of `fit`, for code that calls ``trainer.fit`` itself.

    Lightning calls callbacks of this type last, after all others have changed their states::

        report = ashwood.lightning.ReportCallback(trial)
        trainer = L.Trainer(callbacks=[report], default_root_dir=trial.directory, logger=False)
        trainer.fit(model, data, ckpt_path=report.ckpt_path)
        if report.ended_early:  # Lightning ended the training before the search did.
            trial.stop()
    """

    def __init__(self, trial: Trial) -> None:
        check_unit(trial, "Lightning", "epochs", "batches", "steps")
        self.trial = trial
        self.ckpt_path = str(trial.checkpoint / "lightning.ckpt") if trial.checkpoint else None
        self._length = trial.length
        self.ended_early = self._is_due = self._stops = False
        self._resumed: Any = None
        self._epoch_start: Any = None  # the random state

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        trial, loop, size = self.trial, trainer.fit_loop, trainer.world_size
        if size != trial.world_size:
            raise TrainingCodeError(
                f"the trainer has {size} processes, but the trial {trial.world_size}: use Trainer(devices=1), or write "
                'entrypoint: torchrun --standalone --nproc-per-node N train.py, and Trainer(devices=N, strategy="ddp")'
            )
        if trial.unit == "batches" and (trainer.accumulate_grad_batches > 1 or not pl_module.automatic_optimization):
            raise TrainingCodeError(
                "with accumulate_grad_batches or manual optimization, Lightning counts optimizer steps, not batches: "
                f"write max_length: {trial.max_length}, without a unit"
            )
        if stage == "fit" and not trainer.enable_validation:
            raise TrainingCodeError(
                "Lightning would not validate: it needs a validation_step, validation data, and limit_val_batches > 0"
            )
        loop.max_epochs = trial.max_length if trial.unit == "epochs" else -1
        loop.epoch_loop.max_steps = -1 if trial.unit == "epochs" else trial.max_length
        loop.min_epochs, loop.epoch_loop.min_steps = 0, None
        pl.seed_everything(trial.seed, workers=True, verbose=False)
        self._save = lambda directory: trainer.save_checkpoint(directory / "lightning.ckpt")

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        states = [(random_state(), self._epoch_start)] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, states[0])
        checkpoint["ashwood"] = (states, dict(trainer.callback_metrics), trainer.is_last_batch)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._resumed = checkpoint.get("ashwood")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._resumed is None:
            return
        (states, metrics, is_epoch_end), loop = self._resumed, trainer.fit_loop
        now, self._epoch_start = states[trainer.global_rank]
        trainer.callback_metrics.update(metrics)
        # If not, Lightning would use an iterator from before this hook, and skip ReduceLROnPlateau after this epoch.
        loop._restarting = loop._resuming_from_checkpoint = False
        if is_epoch_end:
            loop.epoch_loop.restarting = False
            loop.reset_restart_stage()
            epoch = loop.epoch_progress
            epoch.current.completed = epoch.current.processed - 1  # ReduceLROnPlateau steps after the checkpoint.
            loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
            epoch.total.completed, epoch.current.completed = epoch.total.processed, epoch.current.processed
        elif not any(hasattr(loader, "load_state_dict") for loader in loop._data_fetcher.combined_loader.flattened):
            loop.on_advance_start()  # sets the epoch of samplers
            restore_random_state(self._epoch_start)
            if trainer.current_epoch > 0:  # The first iterator has been made from the seed already.
                iter(loop._data_fetcher)
            for _ in range(count := loop.epoch_loop.batch_progress.current.completed):  # Skip the trained ones.
                next(loop._data_fetcher)
            loop._data_fetcher.fetched -= count  # The epoch loop adds them.
        restore_random_state(now)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._epoch_start = random_state()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        by_epochs = self.trial.unit == "epochs"
        self._length = trainer.current_epoch + trainer.is_last_batch if by_epochs else trainer.global_step
        if self._length >= self.trial.max_length:  # This makes Lightning validate, even if it is not due.
            trainer.should_stop, trainer.check_val_every_n_epoch = True, 1

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            is_step = (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0  # no gradients are kept
            self._is_due = trainer.is_last_batch or self.trial.unit == "epochs" or not is_step
            if not self._is_due:
                self._report(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._is_due and trainer.is_last_batch:
            self._report(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.ended_early = not self._stops and self._length < self.trial.max_length
        if self.ended_early:
            self.trial.save(self._save, length=self._length)

    def _report(self, trainer: Any) -> None:
        self._is_due = False
        self.trial.report(dict(trainer.callback_metrics), length=self._length, checkpoint=self._save)
        self._stops = self.trial.should_stop
        trainer.should_stop = trainer.should_stop or self._stops
