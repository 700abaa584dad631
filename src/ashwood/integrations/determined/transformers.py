"""The callback for the `Trainer` of Hugging Face Transformers: `DetCallback`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from ashwood.checkpoints.trees import remove_tree
from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import require
from ashwood.integrations.determined.info import get_cluster_info
from ashwood.integrations.determined.lengths import time_metric

hf: Any = require("transformers", "transformers")

logger = logging.getLogger("determined.transformers")

__all__ = ["EVAL", "TEST", "TRAIN", "TRAIN_AVG", "DetCallback", "get_ds_config_path_from_args", "get_metric_type"]

EVAL, TEST, TRAIN_AVG, TRAIN = "eval_", "test_", "train_", "train_progress"


class DetCallback(hf.TrainerCallback):
    """Callback that reports metrics, saves checkpoints, and ends the training when the search asks for it.

    Example::

        with det.core.init() as core_context:
            trainer = Trainer(model=model, args=args, train_dataset=train_set, eval_dataset=valid_set)
            trainer.add_callback(DetCallback(core_context, args))
            trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)

    ``max_steps`` or ``num_train_epochs`` must be the ``max_length`` of the search.  The trainer writes into the
    directory of the trial instead of ``output_dir``, because trials run at the same time.

    Args:
        core_context: the context of ``det.core.init()``.
        args: the arguments of the trainer; ``output_dir`` and ``resume_from_checkpoint`` are changed.
        filter_metrics: parts of the names of metrics that are reported, by default all.
        user_data: data that is written into each checkpoint as ``my_data.json``.

    Raises:
        TrainingCodeError: the process belongs to no experiment, or the lengths differ.
    """

    def __init__(
        self,
        core_context: Any,
        args: Any,
        filter_metrics: list[str] | None = None,
        user_data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        info = get_cluster_info()
        if info is None:
            raise TrainingCodeError("DetCallback needs a trial of an experiment: run the script with ashwood run")
        self.core_context = core_context
        self.filter_metrics = filter_metrics
        self.user_data = user_data
        self.current_op: Any = None
        self.last_metrics: dict[str, Any] = {"train_step": -1, "eval_step": -1}
        self._info, self._job = info, info._trial._attempt.job
        self.searcher_metric = self._job.metric or "eval_loss"
        # The trainer itself logs epochs as the metric epoch.
        self.searcher_unit = "epochs" if time_metric(self._job) in ("epoch", "epochs") else "batches"
        self.searcher_max_length = self._job.max_length
        self._completes = self._preempts = self._is_over = False
        self._is_open_ended = self._job.open_ended
        if not self._is_open_ended:
            self._check(args)
        self._output = info._trial.directory / "output"
        self.load_last_checkpoint(args)
        self.searcher_ops: Any = iter(()) if self._is_open_ended else core_context.searcher.operations()
        self.current_op = next(self.searcher_ops, None)

    def load_last_checkpoint(self, args: Any) -> None:
        """Let the trainer continue from the checkpoint of the trial, if it has one."""
        distributed = self.core_context.distributed
        if distributed.rank == 0 and self._output.exists():  # A killed process may have left newer checkpoints.
            remove_tree(self._output.parent, self._output.name, ignore_errors=True)
        distributed.broadcast(None)
        args.output_dir = str(self._output)
        self._output.mkdir(parents=True, exist_ok=True)
        latest = self._info.latest_checkpoint
        if latest is None:
            return
        self.core_context.checkpoint.download(latest, args.output_dir)
        found = hf.trainer_utils.get_last_checkpoint(args.output_dir)
        if found is None:
            raise TrainingCodeError(f"checkpoint {latest} has no directory checkpoint-N of the trainer")
        args.resume_from_checkpoint = found
        logger.info(f"The trial continues from {found}.")

    def _check(self, args: Any) -> None:
        """Check that the trainer has the length of the search."""
        of_epochs, steps = self.searcher_unit == "epochs", args.max_steps
        length: float = steps if steps > 0 else args.num_train_epochs
        wants = "num_train_epochs" if of_epochs else "max_steps"
        if of_epochs == (steps > 0) or length != self.searcher_max_length:
            given = f"max_steps={steps}" if steps > 0 else f"num_train_epochs={args.num_train_epochs}"
            raise TrainingCodeError(
                f"the search trains up to {self.searcher_max_length} {self.searcher_unit}, but the trainer has "
                f"{given}: set {wants} to {self.searcher_max_length}, or change max_length in the experiment file"
            )

    # -- events of the trainer ------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        recorder = self.core_context._recorder
        if recorder is not None and self.searcher_unit == "epochs" and not self._is_open_ended:
            recorder._lengths.learn(self.searcher_max_length, state.max_steps)  # steps of the trainer in an epoch

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or self._is_over:
            return
        kind = get_metric_type(logs)
        wanted = self.filter_metrics
        metrics = {name: value for name, value in logs.items() if not wanted or any(part in name for part in wanted)}
        step, train = state.global_step, self.core_context.train
        for name, of_kind, report in (
            ("train_step", TRAIN, train.report_training_metrics),
            ("eval_step", EVAL, train.report_validation_metrics),
        ):
            # After the training, the trainer logs its last step again.
            if kind == of_kind and self.last_metrics[name] != step:
                if state.is_world_process_zero:
                    report(steps_completed=step, metrics=metrics)
                self.last_metrics |= metrics | {name: step}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.searcher_unit == "batches":
            self._advance(state.global_step, control)
        if not self._completes and not self._is_over and self.core_context.preempt.should_preempt():
            control.should_log = control.should_save = self._preempts = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.searcher_unit == "epochs":
            self._advance(round(state.epoch, 6), control)

    def _advance(self, length: float, control: Any) -> None:
        """Let the trainer log, evaluate and save if the search compares the trial here."""
        if self.current_op is not None and length >= self.current_op.length and not self._is_over:
            control.should_log = control.should_evaluate = control.should_save = self._completes = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._is_over:
            return
        name = f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and self.user_data is not None:
            Path(args.output_dir, name, "my_data.json").write_text(json.dumps(self.user_data))
        self.core_context.checkpoint.upload(
            args.output_dir,
            metadata={"steps_completed": state.global_step, "trial_id": self._info.trial.trial_id},
            shard=True,
            selector=lambda path: path.startswith((f"{name}/", "runs/")),
        )
        if self._completes:
            self._completes = False
            self._complete(state, control)
        elif self._preempts:
            raise SystemExit(0)  # The code after the training must not report a model that is not trained yet.

    def _complete(self, state: Any, control: Any) -> None:
        """Report the metric of the search, and continue or end as it decides."""
        metric = self.last_metrics.get(self.searcher_metric, state.best_metric)
        if self.searcher_metric not in self.last_metrics:
            known = ", ".join(name for name in self.last_metrics if name not in ("train_step", "eval_step"))
            if metric is None:
                raise TrainingCodeError(
                    f"the search compares the metric {self.searcher_metric!r}, but the trainer logged {known or 'none'}"
                )
            logger.warning(f"the trainer logged no {self.searcher_metric}, so its best metric is reported")
        if state.is_world_process_zero:
            self.current_op.report_completed(metric)
        self.current_op = next(self.searcher_ops, None)
        if self.current_op is None:
            self._is_over = control.should_training_stop = True


def get_metric_type(d: dict[str, Any]) -> str:
    """Return the kind of logged metrics: `EVAL`, `TEST`, `TRAIN_AVG` or `TRAIN`."""
    first = next(iter(d), "")
    return next((kind for kind in (EVAL, TEST, TRAIN_AVG) if first.startswith(kind)), TRAIN)


def get_ds_config_path_from_args(args: list[str]) -> str | None:
    """Return the value of ``--deepspeed`` in a command line, or None if it has none."""
    return args[args.index("--deepspeed") + 1] if "--deepspeed" in args[:-1] else None
