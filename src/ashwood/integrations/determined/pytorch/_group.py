"""The process group of a trial."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

from ashwood.errors import TrainingCodeError
from ashwood.integrations.determined.core import DistributedContext, DummyDistributedContext
from ashwood.integrations.determined.info import slots_of_trial
from ashwood.trial import Trial

logger = logging.getLogger("determined.pytorch")


@contextmanager
def joined(trial: Trial | None) -> Iterator[Any]:
    """Join the process group of a launcher such as torchrun if there is one, and yield the processes.

    Args:
        trial: the trial, or None if the process trains without an experiment.

    Raises:
        TrainingCodeError: the trial has several processes, but no launcher has set how they connect.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if trial is None else trial.world_size
    if trial is not None and size == 1 and (slots := slots_of_trial()) > 1:
        logger.warning(
            f"the trial has {slots} slots, but one process trains it: to start one for each slot, write entrypoint: "
            "python3 -m determined.launch.torch_distributed python3 train.py, or name a trial class as module:Class"
        )
    begins = size > 1 and not distributed.is_initialized()
    if begins:
        if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT", "RANK") if name not in os.environ]:
            raise TrainingCodeError(
                f"the trial has {size} processes, but {', '.join(missing)} is not set: start them with entrypoint: "
                f"python3 -m determined.launch.torch_distributed python3 train.py, or with torchrun"
            )
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    processes = DistributedContext.from_torch_distributed() if size > 1 else DummyDistributedContext()
    try:
        yield processes
    finally:
        processes.close()
        if begins and distributed.is_initialized():
            distributed.destroy_process_group()
