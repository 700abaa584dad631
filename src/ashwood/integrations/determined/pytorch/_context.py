"""What a `PyTorchTrial` uses to train: its models and optimizers, the device, the batch sizes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from ashwood.errors import TrainingCodeError
from ashwood.integrations.determined._context import TrialContext
from ashwood.integrations.determined.pytorch import _data
from ashwood.integrations.determined.pytorch._callback import PyTorchCallback
from ashwood.integrations.determined.pytorch._lr_scheduler import LRScheduler
from ashwood.integrations.determined.pytorch._reducer import ReducerContext
from ashwood.integrations.determined.tensorboard import open_writer
from ashwood.trial import Trial

logger = logging.getLogger("determined.pytorch")


class _Parallel(DistributedDataParallel):
    """A model whose gradients are averaged over all processes.  Attributes of the model are available as before."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


class PyTorchExperimentalContext:
    """Less common settings of a `PyTorchTrialContext`: ``context.experimental``."""

    def __init__(self, parent: PyTorchTrialContext) -> None:
        self._parent = parent
        self._auto_amp = False
        self._data_repro_checks_disabled = False
        self._auto_to_device = True

    def use_amp(self) -> None:
        """Train with mixed precision; call it before ``wrap_model``.

        Forward passes are computed in half precision, and losses are scaled.  On a machine without a GPU, nothing
        changes.
        """
        self._parent.wrap_scaler(torch.amp.GradScaler("cuda", enabled=torch.cuda.is_available()))
        self._auto_amp = torch.cuda.is_available()

    def disable_dataset_reproducibility_checks(self) -> None:
        """Let the methods that build data loaders return any data loader, instead of a `DataLoader` of this package."""
        self._data_repro_checks_disabled = True

    def disable_auto_to_device(self) -> None:
        """Pass batches to ``train_batch`` and ``evaluate_batch`` as the data loader yields them."""
        self._auto_to_device = False

    def wrap_reducer(self, reducer: Any, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Register a reducer; `PyTorchTrialContext.wrap_reducer` is the later name."""
        return self._parent.wrap_reducer(reducer, name, *args, **kwargs)

    def reset_reducers(self) -> None:
        """Reset all reducers."""
        self._parent.reset_reducers()

    def reduce_metrics(self, for_training: bool) -> dict[str, Any]:
        """Return the metrics of all reducers for training, or of all for validation."""
        return self._parent.reduce_metrics(for_training)


class PyTorchTrialContext(TrialContext, ReducerContext):
    """What a `PyTorchTrial` uses to train.

    Wrap models, optimizers and schedulers in the trial's ``__init__``, so that checkpoints contain them.  In
    ``train_batch``, call `backward` and `step_optimizer`.

    Attributes:
        device: device of the models and the batches.
        models: the wrapped models.
        optimizers: the wrapped optimizers.
        lr_schedulers: the wrapped schedulers.
        experimental: less common settings.
    """

    def __init__(
        self,
        trial: Trial | None,
        distributed: Any,
        *,
        hparams: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        aggregation_frequency: int | None = None,
        managed: bool = False,
    ) -> None:
        """Create a context.

        Args:
            trial: the trial, or None if there is none yet.
            distributed: the processes that train it.
            hparams: the hyperparameters, by default those of the trial.
            config: the experiment's settings, by default those of the trial.
            aggregation_frequency: number of batches from one optimizer step to the next, by default that of the
                experiment's ``optimizations``.
            managed: whether a training loop of this package calls the trial; otherwise, each batch steps the optimizers
                and models are not moved to a device.
        """
        TrialContext.__init__(self, trial, distributed, hparams=hparams, config=config)
        ReducerContext.__init__(self, distributed.allgather)
        optimizations = (self._config or {}).get("optimizations") or {}
        if aggregation_frequency is None:
            aggregation_frequency = int(optimizations.get("aggregation_frequency") or 1)
        self._aggregation_frequency = aggregation_frequency
        self._average_aggregated_gradients = optimizations.get("average_aggregated_gradients", True)
        self._average_training_metrics = optimizations.get("average_training_metrics", True)
        self._managed = managed
        self.device = _device(distributed.get_local_rank()) if managed else torch.device("cpu")
        self.models: list[Any] = []
        self.optimizers: list[Any] = []
        self.lr_schedulers: list[LRScheduler] = []
        self.experimental = PyTorchExperimentalContext(self)
        self.callbacks: Mapping[str, Any] = {}
        self._scaler: Any = None
        self._epoch_len: int | None = None
        self._current_batch_idx: int | None = None
        self._warned_types: set[type] = set()
        self._writer: Any = None
        self._tensorboard_path: Path | None = None

    # -- wrapping -----------------------------------------------------------------------------

    def wrap_model(self, model: Any) -> Any:
        """Register a model and return it on the device; if there are several processes, gradients are averaged."""
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"wrap_model() needs a torch.nn.Module, not {model!r}")
        if self._managed:
            model = model.to(self.device)
            if self.experimental._auto_amp:
                _cast_forward(model)
            if self.distributed.get_size() > 1 and any(each.requires_grad for each in model.parameters()):
                model = _Parallel(model)
        self.models.append(model)
        return model

    def wrap_optimizer(
        self,
        optimizer: Any,
        backward_passes_per_step: int = 1,
        fp16_compression: bool | None = None,
        average_aggregated_gradients: bool | None = None,
    ) -> Any:
        """Register an optimizer and return it.

        Args:
            optimizer: the optimizer.
            backward_passes_per_step: number of calls of `backward` before a step; it has no effect.
            fp16_compression: whether processes exchange gradients in half precision; it has no effect.
            average_aggregated_gradients: whether aggregated gradients are averaged, for all optimizers; by default the
                experiment's ``optimizations`` decide.
        """
        if backward_passes_per_step < 1:
            raise ValueError(f"backward_passes_per_step must be at least 1, not {backward_passes_per_step}")
        if average_aggregated_gradients is not None:
            self._average_aggregated_gradients = average_aggregated_gradients
        self.optimizers.append(optimizer)
        return optimizer

    def wrap_lr_scheduler(self, lr_scheduler: Any, step_mode: LRScheduler.StepMode, frequency: int = 1) -> Any:
        """Register a learning rate scheduler and return it.

        Args:
            lr_scheduler: the scheduler, of a wrapped optimizer.
            step_mode: when the training loop steps it.
            frequency: number of batches, epochs or optimizer steps from one step to the next.
        """
        if isinstance(lr_scheduler, LRScheduler):
            self.lr_schedulers.append(lr_scheduler)
            return lr_scheduler
        manual = LRScheduler.StepMode.MANUAL_STEP
        if isinstance(lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) and step_mode is not manual:
            raise TrainingCodeError(
                "ReduceLROnPlateau needs a metric in each step: pass step_mode=LRScheduler.StepMode.MANUAL_STEP, and "
                "call step(metric) in on_validation_end of a PyTorchCallback"
            )
        optimizer = getattr(lr_scheduler, "optimizer", None)
        if optimizer is not None and all(optimizer is not each for each in self.optimizers):
            raise TrainingCodeError(
                "the optimizer of the learning rate scheduler is not wrapped: pass it to context.wrap_optimizer() first"
            )
        self.lr_schedulers.append(LRScheduler(lr_scheduler, step_mode, frequency))
        return lr_scheduler

    def wrap_scaler(self, scaler: Any) -> Any:
        """Register a `torch.amp.GradScaler` and return it; pass it to `step_optimizer`.

        Call it before `wrap_model`.
        """
        if self._scaler is not None:
            raise TrainingCodeError("call wrap_scaler() or experimental.use_amp() only once")
        if self.models:
            raise TrainingCodeError("call wrap_scaler() or experimental.use_amp() before wrap_model()")
        if not torch.cuda.is_available():
            logger.warning("there is no GPU, so the trial trains without mixed precision")
        self._scaler = scaler
        return scaler

    def configure_apex_amp(self, *_: Any, **__: Any) -> Any:
        """Raise an error: NVIDIA's Apex is not supported."""
        raise TrainingCodeError(
            "configure_apex_amp() is not supported, because Ashwood does not use NVIDIA's Apex. Remove it, and call "
            "context.experimental.use_amp() before wrap_model(), which trains with the mixed precision of PyTorch"
        )

    # -- training -----------------------------------------------------------------------------

    def backward(self, loss: Any, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Compute the gradients of a loss.  The arguments are those of `torch.Tensor.backward`."""
        if self._scaler is not None and self.experimental._auto_amp:
            loss = self._scaler.scale(loss)
        loss.backward(gradient=gradient, retain_graph=retain_graph, create_graph=create_graph)

    def step_optimizer(
        self,
        optimizer: Any,
        clip_grads: Callable[[Iterator[Any]], Any] | None = None,
        auto_zero_grads: bool = True,
        scaler: Any = None,
    ) -> None:
        """Step an optimizer, unless gradients of more batches are aggregated first.

        Args:
            optimizer: a wrapped optimizer.
            clip_grads: function of the parameters that clips their gradients.
            auto_zero_grads: whether to set the gradients to zero after the step.
            scaler: the scaler that was passed to `wrap_scaler`.
        """
        if not auto_zero_grads and self._aggregation_frequency > 1:
            raise TrainingCodeError(
                "auto_zero_grads=False needs an aggregation_frequency of 1, because gradients of several batches are "
                f"aggregated (optimizations.aggregation_frequency is {self._aggregation_frequency})"
            )
        if not self.steps_now():
            return
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        if self._average_aggregated_gradients and self._aggregation_frequency > 1:
            for each in parameters:
                if each.grad is not None:
                    each.grad.div_(float(self._aggregation_frequency))
        amp = self._scaler if self.experimental._auto_amp else None
        clipping = [
            callback.on_before_optimizer_step
            for callback in self.callbacks.values()
            if type(callback).on_before_optimizer_step is not PyTorchCallback.on_before_optimizer_step
        ]
        if amp is not None and (clip_grads is not None or clipping):
            amp.unscale_(optimizer)
        for callback in clipping:
            callback(parameters)
        if clip_grads is not None:
            clip_grads(parameters)  # type: ignore[arg-type]  # functions may iterate more than once
        scaler = scaler or amp
        if scaler is not None:
            scaler.step(optimizer)
        else:
            optimizer.step()
        if auto_zero_grads:
            optimizer.zero_grad()

    def steps_now(self) -> bool:
        """Return whether optimizers step in the present batch."""
        if not self._managed:
            return True
        return (self.current_train_batch() + 1) % self._aggregation_frequency == 0

    def to_device(self, data: Any) -> Any:
        """Return data with its tensors and arrays on the device of the trial."""
        return _data.to_device(data, self.device, self._warned_types)

    @contextmanager
    def batch(self, batch_idx: int) -> Iterator[None]:
        """Set the number of the present batch, and average gradients over the processes only if optimizers step."""
        self._current_batch_idx = batch_idx
        parallel = [model for model in self.models if isinstance(model, DistributedDataParallel)]
        for model in parallel:
            model.require_backward_grad_sync = self.steps_now()
        yield
        if self._scaler is not None and self.experimental._auto_amp and self.steps_now():
            self._scaler.update()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Set models to evaluate: without gradients, and without messages between processes in forward passes."""
        parallel = [model for model in self.models if isinstance(model, DistributedDataParallel)]
        for model in self.models:
            model.eval()
        for model in parallel:
            model.require_forward_param_sync = False
        try:
            with torch.no_grad():
                yield
        finally:
            for model in parallel:
                model.require_forward_param_sync = True

    # -- where the training is ----------------------------------------------------------------

    def current_train_batch(self) -> int:
        """Return the number of the present batch, from 0."""
        if self._current_batch_idx is None:
            raise TrainingCodeError("the training has not started, so there is no present batch")
        return self._current_batch_idx

    def current_train_epoch(self) -> int:
        """Return the number of the present epoch, from 0."""
        return self.current_train_batch() // self._known_epoch_len()

    def is_epoch_start(self) -> bool:
        """Return whether the present batch is the first one of its epoch."""
        return self.current_train_batch() % self._known_epoch_len() == 0

    def is_epoch_end(self) -> bool:
        """Return whether the present batch is the last one of its epoch."""
        return (self.current_train_batch() + 1) % self._known_epoch_len() == 0

    def _known_epoch_len(self) -> int:
        if self._epoch_len is None:
            raise TrainingCodeError("the length of an epoch is unknown until the training starts")
        return self._epoch_len

    # -- TensorBoard and profilers ------------------------------------------------------------

    def get_tensorboard_path(self) -> Path:
        """Return the directory for TensorBoard files, in the directory of the trial."""
        if self._tensorboard_path is None:
            top = mkdtemp(prefix="ashwood-") if self._trial is None else str(self._trial.directory)
            self._tensorboard_path = Path(top, "tensorboard")
            self._tensorboard_path.mkdir(exist_ok=True)
        return self._tensorboard_path

    def get_tensorboard_writer(self) -> Any:
        """Return a TensorBoard writer, or one that writes nothing if TensorBoard is not installed."""
        if self._writer is None:
            self._writer = open_writer(self.get_tensorboard_path)
        return self._writer

    def set_profiler(self, *_: Any, **__: Any) -> None:
        """Do nothing, except to log that Ashwood does not profile."""
        logger.warning("set_profiler() has no effect: Ashwood does not profile; use torch.profiler in train_batch()")


def _device(number: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", number % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _cast_forward(model: Any) -> None:
    """Compute forward passes of a model in half precision, and return their results in single precision."""
    forward = model.forward

    def cast(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cuda"):
            output = forward(*args, **kwargs)
        return _single(output)

    model.forward = cast


def _single(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
    if isinstance(output, dict):
        return type(output)((name, _single(value)) for name, value in output.items())
    if isinstance(output, list | tuple):
        values = [_single(value) for value in output]
        return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)
    return output
