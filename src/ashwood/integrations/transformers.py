"""Training with the `Trainer` of Hugging Face Transformers, which writes its own complete checkpoints."""

from __future__ import annotations

from copy import copy
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_unit, require
from ashwood.integrations.hp_space import hyperparameter_search as hyperparameter_search
from ashwood.trial import Trial

hf: Any = require("transformers", "transformers")
accelerate: Any = require("accelerate", "transformers")


def train(trial: Trial, trainer: Any, /, **options: Any) -> Any:
    """Train from the checkpoint of the trial until the search stops it, and return the `TrainOutput`.

    If a callback such as `EarlyStoppingCallback` ends the training, this calls `Trial.stop`.  Example::

        def train(trial):
            args = TrainingArguments(eval_strategy="epoch", learning_rate=trial.hparams.lr)
            trainer = Trainer(model_init=build, args=args, train_dataset=train_set, eval_dataset=valid_set)
            ashwood.transformers.train(trial, trainer)

    Args:
        trial: the trial, which counts epochs or optimizer steps.
        trainer: a `transformers.Trainer`; see `Callback` for the settings that are changed.
        **options: options of `Trainer.train`.

    Raises:
        TrainingCodeError: the trainer has settings with which a search cannot work.
    """
    trainer.add_callback(Callback(trial, trainer))
    return trainer.train(resume_from_checkpoint=trial.checkpoint and str(trial.checkpoint), **options)


class Callback(hf.TrainerCallback):
    """Callback that reports each evaluation, saves checkpoints, and ends the training when the search asks for it.

    Create it before the training: it sets the length, ``seed``, ``output_dir`` and ``save_strategy`` of the trainer::

        trainer.add_callback(ashwood.transformers.Callback(trial, trainer))
        trainer.train(resume_from_checkpoint=trial.checkpoint)
    """

    def __init__(self, trial: Trial, trainer: Any) -> None:
        check(trial, trainer)
        self._trial, self._trainer, args = trial, trainer, trainer.args
        self._logged: dict[str, Any] = {}
        args.num_train_epochs = float(trial.max_length)
        args.max_steps = -1 if trial.unit == "epochs" else trial.max_length  # Steps take precedence over epochs.
        if args.seed == type(args).seed:
            args.seed = trial.seed % 2**32
        hf.set_seed(args.seed)
        if trial.directory not in (output := Path(args.output_dir).absolute(), *output.parents):
            args.output_dir = str(trial.directory)
        if not args.load_best_model_at_end:
            args.save_strategy = hf.trainer_utils.SaveStrategy.NO
        args.restore_callback_states_from_checkpoint = True
        # After `on_evaluate` the trainer steps a ReduceLROnPlateau and records its best metric.  A checkpoint of that
        # event lacks both, and no other event follows before the next step.
        trainer._maybe_log_save_evaluate = self._log_save_evaluate
        trainer._issue_warnings_after_load = self._check_loaded

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._logged = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy == "steps":
            control.should_evaluate = True

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        self._logged |= logs

    def on_train_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if not self._trial.should_stop and state.global_step < state.max_steps:
            self._trial.stop()

    def _log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Log, evaluate and save as the trainer does, then report."""
        trainer, trial = self._trainer, self._trial
        if evaluates := trainer.control.should_evaluate:
            # The mean of the training loss since the last log is in no checkpoint, so a log precedes each checkpoint.
            trainer.control.should_log = True
        type(trainer)._maybe_log_save_evaluate(trainer, *args, **kwargs)
        length = trainer.state.epoch if trial.unit == "epochs" else trainer.state.global_step
        if not evaluates or length != int(length):
            return
        metrics = {name: value for name, value in self._logged.items() if isinstance(value, Real)}
        if objective := getattr(trainer, "compute_objective", None):
            metrics["objective"] = objective({name: metrics[name] for name in metrics if name.startswith("eval_")})
        trial.report(metrics, length=int(length), checkpoint=self._save)
        if trial.should_stop:
            trainer.control.should_training_stop = True
        elif trainer.control.should_training_stop:
            trial.save(self._save)

    def _check_loaded(self, result: Any) -> None:
        """Raise an error if weights are missing when a trial continues.  The trainer only logs a warning."""
        type(self._trainer)._issue_warnings_after_load(self._trainer, result)
        lost = sorted(result.missing_keys & dict(self._trainer.model.named_parameters()).keys())
        if lost and not self._trainer.state.global_step:
            raise TrainingCodeError(f"the checkpoint lacks {len(lost)} weights of the model, such as {lost[0]}")

    def _save(self, directory: Path) -> None:
        """Let the trainer write its checkpoint.  All processes write into the directory of rank 0."""
        trainer, args = self._trainer, self._trainer.args
        target = Path(accelerate.utils.broadcast_object_list([str(directory)])[0])
        trainer.args = copy(args)
        trainer.args.output_dir, trainer.args.save_strategy = str(target), hf.trainer_utils.SaveStrategy.NO
        trainer.args.save_only_model, trainer.args.save_total_limit, trainer.args.push_to_hub = False, None, False
        if isinstance(model := trainer.accelerator.unwrap_model(trainer.model), hf.PreTrainedModel):
            # Otherwise some models get the names of weights of older versions, which the trainer cannot load.
            model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
        try:
            trainer._save_checkpoint(trainer.model_wrapped, None)
        finally:
            trainer.args = args
            vars(model).pop("save_pretrained", None)
        trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():
            for file in (inner := target / f"checkpoint-{trainer.state.global_step}").iterdir():
                file.rename(target / file.name)
            inner.rmdir()


def check(trial: Any, trainer: Any) -> None:
    """Raise a `TrainingCodeError` if the settings of the trainer cannot work with the unit and processes of a trial."""
    check_unit(trial, "Transformers", "epochs", "batches", "steps")
    args, epochs, batches = trainer.args, trial.unit == "epochs", f"max_length: {{batches: {trial.max_length}}}"
    if args.eval_strategy == "no":
        error = 'eval_strategy is "no", so there is nothing to report: pass eval_dataset and eval_strategy="epoch"'
    elif epochs and args.eval_strategy == "steps":
        error = f'eval_strategy is "steps": set eval_strategy="epoch", or count optimizer steps with {batches}'
    elif epochs and not hf.trainer_utils.has_length(trainer.train_dataset):
        error = f"the training data has no length, so epochs cannot be counted: count optimizer steps with {batches}"
    elif args.ignore_data_skip:
        error = "ignore_data_skip=True would train on the wrong data after a pause: remove it"
    elif trainer.state.global_step > 0:
        error = "this trainer has trained before: create a new one for each call of the training function"
    elif args.world_size != trial.world_size:
        error = f"the trainer has {args.world_size} processes, the trial {trial.world_size}: start them as one command"
    else:
        return
    raise TrainingCodeError(error)
