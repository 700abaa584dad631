"""Train a `PyTorchTrial` in a script: `init` and `Trainer`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from ashwood.errors import TrainingCodeError
from ashwood.integrations.determined.info import current_trial
from ashwood.integrations.determined.pytorch import _state
from ashwood.integrations.determined.pytorch._context import PyTorchTrialContext
from ashwood.integrations.determined.pytorch._group import joined
from ashwood.integrations.determined.pytorch._loop import Periods, TrainingLoop
from ashwood.integrations.determined.pytorch._trial import invalid_hparams_end
from ashwood.integrations.determined.pytorch._units import Batch, Epoch, Record, TrainUnit
from ashwood.integrations.torch import seed_all
from ashwood.trial import Trial, get_trial

logger = logging.getLogger("determined.pytorch")


@contextmanager
def init(
    *,
    hparams: Mapping[str, Any] | None = None,
    exp_conf: Mapping[str, Any] | None = None,
    distributed: Any = None,
    aggregation_frequency: int = 1,
    enable_tensorboard_logging: bool = True,  # noqa: ARG001
    **_: Any,
) -> Iterator[PyTorchTrialContext]:
    """Yield a context for a `PyTorchTrial`; train it with a `Trainer` inside.

    In a trial of an experiment, the random numbers are seeded with the seed of the trial.

    Args:
        hparams: the hyperparameters, by default those of the experiment's trial.
        exp_conf: settings for ``context.get_experiment_config()`` outside an experiment.
        distributed: the processes that train the trial, by default those of the launcher.
        aggregation_frequency: number of batches from one step of the optimizers to the next.
        enable_tensorboard_logging: ignored: Ashwood stores no TensorBoard files.
    """
    trial = current_trial()
    with ExitStack() as stack:
        processes = stack.enter_context(joined(trial)) if distributed is None else distributed
        saved = _state.Saved()
        if trial is not None:
            stack.enter_context(invalid_hparams_end(trial))
            seed_all(trial.seed)
            saved = _state.read_saved(trial)
        context = PyTorchTrialContext(
            trial,
            processes,
            hparams=hparams,
            config=exp_conf if trial is None else None,
            aggregation_frequency=aggregation_frequency,
            managed=True,
        )
        context._saved = saved  # type: ignore[attr-defined]
        context._initial_batch = saved.batches
        yield context


class Trainer:
    """Trains a `PyTorchTrial` in a script.

    Example::

        with det.pytorch.init() as context:
            trial = MyTrial(context)
            trainer = det.pytorch.Trainer(trial, context)
            trainer.fit(max_length=Epoch(3), latest_checkpoint=det.get_cluster_info().latest_checkpoint)

    Args:
        trial: the trial.
        context: the context of `init` with which it was created.
    """

    def __init__(self, trial: Any, context: PyTorchTrialContext) -> None:
        self._trial, self._context = trial, context

    def configure_profiler(self, *_: Any, **__: Any) -> None:
        """Do nothing, except to log that Ashwood does not profile."""
        logger.warning("configure_profiler() has no effect: Ashwood does not profile")

    def fit(
        self,
        checkpoint_period: TrainUnit | None = None,
        validation_period: TrainUnit | None = None,
        max_length: TrainUnit | None = None,
        reporting_period: TrainUnit | None = None,
        checkpoint_policy: str | None = "best",
        latest_checkpoint: str | None = None,
        step_zero_validation: bool = False,
        test_mode: bool = False,
        profiling_enabled: bool = False,
        *,
        aggregation_frequency: int | None = None,
        average_aggregated_gradients: bool | None = None,
    ) -> None:
        """Train until the search ends the trial, or up to ``max_length`` outside a search.

        Args:
            checkpoint_period: when to save checkpoints, besides those that the search needs.
            validation_period: when to validate, besides the lengths at which the search compares trials.
            max_length: total length.  In a search with a ``max_length`` of its own, that one applies.
            reporting_period: when to report training metrics, by default every 100 batches.
            checkpoint_policy: which validations are saved: ``best``, ``all`` or ``none``.
            latest_checkpoint: checkpoint to continue from.  In an experiment, it is ``info.latest_checkpoint``; if it
                is None although the trial has a checkpoint, the trial starts from the beginning.
            step_zero_validation: whether to validate before the first batch.
            test_mode: whether to train and validate only one batch, outside an experiment.
            profiling_enabled: ignored: Ashwood does not profile.
            aggregation_frequency: number of batches from one step of the optimizers to the next; a parameter of `init`
                in later versions.
            average_aggregated_gradients: whether aggregated gradients are averaged.

        Raises:
            TrainingCodeError: an argument is wrong, or the class lacks a part that the training needs.
        """
        context, trial = self._context, self._context._trial
        if profiling_enabled:
            logger.warning("profiling_enabled has no effect: Ashwood does not profile")
        if aggregation_frequency is not None:
            context._aggregation_frequency = aggregation_frequency
        if average_aggregated_gradients is not None:
            context._average_aggregated_gradients = average_aggregated_gradients
        if checkpoint_policy not in ("best", "all", "none", None):
            raise TrainingCodeError(f"checkpoint_policy must be best, all or none, not {checkpoint_policy!r}")
        periods = Periods(
            validation=_checked("validation_period", validation_period),
            checkpoint=_checked("checkpoint_period", checkpoint_period),
            report=_checked("reporting_period", reporting_period) or Batch(100),
            at_start=step_zero_validation,
            saves_all=checkpoint_policy == "all",
            length=_checked("max_length", max_length) if _is_open_ended(trial) else None,
            is_test=test_mode,
        )
        if trial is None:
            trial, saved = self._alone(max_length, latest_checkpoint, test_mode=test_mode)
            context._trial = trial
        else:
            saved = self._in_search(trial, max_length, latest_checkpoint, test_mode=test_mode)
            if checkpoint_policy != "best":
                trial._attempt.job = trial._attempt.job._replace(save_on=checkpoint_policy or "best")
        TrainingLoop(self._trial, context, trial, periods, saved).run()

    def _in_search(
        self, trial: Trial, max_length: TrainUnit | None, latest_checkpoint: str | None, *, test_mode: bool
    ) -> _state.Saved:
        if test_mode:
            raise TrainingCodeError("test_mode=True is for training outside an experiment only")
        if max_length is not None and not _is_open_ended(trial):
            logger.info(
                "max_length=%s is not used: the search trains up to %s %s", max_length, trial.max_length, trial.unit
            )
        if latest_checkpoint is None and trial.checkpoint is not None:
            logger.warning(
                "the trial has a checkpoint, but latest_checkpoint is None: it is continued all the same; pass "
                "latest_checkpoint=det.get_cluster_info().latest_checkpoint"
            )
        return self._context._saved  # type: ignore[attr-defined]

    def _alone(
        self, max_length: TrainUnit | None, latest_checkpoint: str | None, *, test_mode: bool
    ) -> tuple[Trial, _state.Saved]:
        """Return a trial without an experiment."""
        length: Any = max_length.value if max_length is not None else 1 if test_mode else None
        if not isinstance(length, int) or length < 1:
            raise TrainingCodeError(
                f"outside an experiment, fit() needs a length such as max_length=pytorch.Epoch(3), not {max_length!r}"
            )
        saved = _state.Saved()
        if latest_checkpoint is not None:
            saved = _state.Saved(_state.read(Path(latest_checkpoint)))
        units = {Epoch: "epochs", Record: "records"}
        unit = next((name for cls, name in units.items() if isinstance(max_length, cls)), "batches")
        seed = torch.initial_seed() % 2**31  # If the script has set a seed, it determines the order of the data.
        data = (self._context._config or {}).get("data")
        total: dict[str, Any] = {unit: length}
        return get_trial(self._context.get_hparams(), data, seed=seed, **total), saved


def _is_open_ended(trial: Trial | None) -> bool:
    """Return whether the search has no length, so the training code decides how long it trains."""
    return trial is not None and not trial.has_length


def _checked(name: str, unit: TrainUnit | None) -> TrainUnit | None:
    if unit is not None and not isinstance(unit, TrainUnit):
        raise TrainingCodeError(f"{name} must be such as pytorch.Batch(100) or pytorch.Epoch(1), not {unit!r}")
    return unit
