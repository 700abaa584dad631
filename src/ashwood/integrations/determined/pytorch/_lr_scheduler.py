"""When learning rate schedulers step."""

from __future__ import annotations

import enum
from typing import Any


class LRScheduler:
    """A learning rate scheduler of PyTorch, and when the training loop steps it.

    Args:
        scheduler: the scheduler.
        step_mode: when it steps.
        frequency: number of batches, epochs or optimizer steps from one step of the scheduler to the next.
    """

    class StepMode(enum.Enum):
        """When a scheduler steps.

        ``STEP_EVERY_BATCH`` counts batches, also those whose gradients are only aggregated.
        ``STEP_EVERY_OPTIMIZER_STEP`` steps together with the optimizer.  With ``MANUAL_STEP`` the training code itself
        steps the scheduler.
        """

        STEP_EVERY_EPOCH = 1
        STEP_EVERY_BATCH = 2
        MANUAL_STEP = 3
        STEP_EVERY_OPTIMIZER_STEP = 4

    def __init__(self, scheduler: Any, step_mode: StepMode, frequency: int = 1) -> None:
        if not isinstance(step_mode, LRScheduler.StepMode):
            raise TypeError(f"step_mode must be one of LRScheduler.StepMode, not {step_mode!r}")
        self._scheduler = scheduler
        self._step_mode = step_mode
        self._frequency = frequency

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Step the scheduler."""
        self._scheduler.step(*args, **kwargs)

    def get_last_lr(self) -> list[float]:
        """Return the learning rates of the last step."""
        return self._scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the scheduler."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._scheduler.load_state_dict(state_dict)

    def after_batch(self, batch_idx: int, aggregation: int, epoch_len: int) -> None:
        """Step as often as is due after a batch in which the optimizers stepped.

        Args:
            batch_idx: number of the batch.
            aggregation: number of batches from one step of the optimizers to the next.
            epoch_len: number of batches in an epoch.
        """
        mode, every = self._step_mode, self._frequency
        if mode is self.StepMode.STEP_EVERY_BATCH:
            due = sum((batch + 1) % every == 0 for batch in range(batch_idx - aggregation + 1, batch_idx + 1))
        elif mode is self.StepMode.STEP_EVERY_OPTIMIZER_STEP:
            # As in Determined, the frequency counts batches: optimizers step at multiples of ``aggregation`` only.
            due = int((batch_idx + 1) % every == 0)
        elif mode is self.StepMode.STEP_EVERY_EPOCH:
            # Epochs that end before the next step of the optimizers.
            epochs = range(batch_idx // epoch_len, (batch_idx + aggregation) // epoch_len)
            due = sum((epoch + 1) % every == 0 for epoch in epochs)
        else:
            due = 0
        for _ in range(due):
            self.step()
