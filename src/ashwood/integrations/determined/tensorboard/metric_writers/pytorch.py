"""The TensorBoard writer for PyTorch."""

from __future__ import annotations

from typing import Any

from ashwood.integrations.determined.tensorboard import get_base_path, open_writer


class TorchWriter:
    """A writer of TensorBoard files in the directory of the trial.

    Attributes:
        writer: a `torch.utils.tensorboard.SummaryWriter`, or an object whose methods do nothing if TensorBoard is not
            installed.
    """

    def __init__(self) -> None:
        self.writer = open_writer(get_base_path)

    def add_scalar(self, name: str, value: Any, step: int) -> None:
        """Write a number."""
        self.writer.add_scalar(name, value, step)

    def reset(self) -> None:
        """Write what was not written yet."""
        self.writer.flush()
