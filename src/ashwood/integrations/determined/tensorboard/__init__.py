"""Writers of TensorBoard files.  Ashwood does not store these files: they are in the directory of the trial."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ashwood.checkpoints.directory import VARIABLE

logger = logging.getLogger("determined")


class NoWriter:
    """A writer whose methods do nothing, for machines without TensorBoard."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None


def open_writer(directory: Callable[[], Path]) -> Any:
    """Return a `torch.utils.tensorboard.SummaryWriter`, or a `NoWriter` if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("TensorBoard is not installed (pip install tensorboard), so its files are not written")
        return NoWriter()
    return SummaryWriter(str(directory()))


def get_base_path(*_: Any, **__: Any) -> Path:
    """Return the directory for TensorBoard files of this trial."""
    path = Path(os.environ.get(VARIABLE) or ".", "tensorboard")
    path.mkdir(parents=True, exist_ok=True)
    return path
