"""Trial classes of Determined 0.12, which build one model and one optimizer in methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def wrap_what_methods_build(user: Any, context: Any) -> None:
    """Let a `PyTorchTrial` with the methods of Determined 0.12 train like one that wraps its model in ``__init__``.

    Such a class has ``build_model(self)``, ``optimizer(self, model)`` and, if it likes, ``create_lr_scheduler(self,
    optimizer)``.  Its other methods get the model as their second argument, and ``train_batch`` returns a loss, or
    metrics with a ``loss``, of which the gradients are still to be computed.
    """
    if context.models or not callable(getattr(user, "build_model", None)):
        return
    model = context.wrap_model(user.build_model())
    optimizer = context.wrap_optimizer(user.optimizer(model))
    if (scheduler := getattr(user, "create_lr_scheduler", lambda _: None)(optimizer)) is not None:
        context.wrap_lr_scheduler(scheduler, step_mode=None)
    train_batch, evaluate_batch, evaluate_all = user.train_batch, user.evaluate_batch, user.evaluate_full_dataset

    def train(batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        metrics = train_batch(batch, model, epoch_idx, batch_idx)
        context.backward(metrics["loss"] if isinstance(metrics, Mapping) else metrics)
        context.step_optimizer(optimizer)
        return metrics

    user.train_batch = train
    user.evaluate_batch = lambda batch: evaluate_batch(batch, model)
    user.evaluate_full_dataset = lambda data_loader: evaluate_all(data_loader, model)


def reset_parameters(model: Any) -> None:
    """Draw the parameters of a model again, in all of its modules that have a method ``reset_parameters``."""
    for module in model.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
