"""The classes of ``determined.pytorch``: `PyTorchTrial`, what it needs, and `Trainer` for scripts."""

from __future__ import annotations

from ashwood.integrations.common import require

require("torch", "torch")
require("numpy", "torch")

from ashwood.integrations.determined.pytorch import samplers  # noqa: E402
from ashwood.integrations.determined.pytorch._callback import (  # noqa: E402
    ClipGradsL2Norm,
    ClipGradsL2Value,
    PyTorchCallback,
)
from ashwood.integrations.determined.pytorch._context import (  # noqa: E402
    PyTorchExperimentalContext,
    PyTorchTrialContext,
)
from ashwood.integrations.determined.pytorch._data import (  # noqa: E402
    DataLoader,
    TorchData,
    adapt_batch_sampler,
    data_length,
    to_device,
)
from ashwood.integrations.determined.pytorch._load import (  # noqa: E402
    CheckpointLoadContext,
    load_trial_from_checkpoint_path,
)
from ashwood.integrations.determined.pytorch._lr_scheduler import LRScheduler  # noqa: E402
from ashwood.integrations.determined.pytorch._methods import reset_parameters  # noqa: E402
from ashwood.integrations.determined.pytorch._reducer import MetricReducer, Reducer  # noqa: E402
from ashwood.integrations.determined.pytorch._trainer import Trainer, init  # noqa: E402
from ashwood.integrations.determined.pytorch._trial import PyTorchTrial  # noqa: E402
from ashwood.integrations.determined.pytorch._units import Batch, Epoch, Record, TrainUnit  # noqa: E402
from ashwood.integrations.determined.pytorch.samplers import (  # noqa: E402
    DistributedBatchSampler,
    RepeatBatchSampler,
    SkipBatchSampler,
)

__all__ = [
    "Batch",
    "CheckpointLoadContext",
    "ClipGradsL2Norm",
    "ClipGradsL2Value",
    "DataLoader",
    "DistributedBatchSampler",
    "Epoch",
    "LRScheduler",
    "MetricReducer",
    "PyTorchCallback",
    "PyTorchExperimentalContext",
    "PyTorchTrial",
    "PyTorchTrialContext",
    "Record",
    "Reducer",
    "RepeatBatchSampler",
    "SkipBatchSampler",
    "TorchData",
    "TrainUnit",
    "Trainer",
    "adapt_batch_sampler",
    "data_length",
    "init",
    "load_trial_from_checkpoint_path",
    "reset_parameters",
    "samplers",
    "to_device",
]
