"""Determined's Core API."""

from __future__ import annotations

from ashwood.integrations.determined.core._checkpoint import (
    CheckpointContext,
    DownloadMode,
    DummyCheckpointContext,
)
from ashwood.integrations.determined.core._context import Context, init
from ashwood.integrations.determined.core._distributed import DistributedContext, DummyDistributedContext
from ashwood.integrations.determined.core._preempt import DummyPreemptContext, PreemptContext, PreemptMode
from ashwood.integrations.determined.core._profiler import DummyProfilerContext, ProfilerContext
from ashwood.integrations.determined.core._searcher import (
    DummySearcherContext,
    DummySearcherOperation,
    SearcherContext,
    SearcherMode,
    SearcherOperation,
    Unit,
)
from ashwood.integrations.determined.core._tensorboard_mode import TensorboardMode
from ashwood.integrations.determined.core._train import DummyTrainContext, EarlyExitReason, TrainContext

__all__ = [
    "CheckpointContext",
    "Context",
    "DistributedContext",
    "DownloadMode",
    "DummyCheckpointContext",
    "DummyDistributedContext",
    "DummyPreemptContext",
    "DummyProfilerContext",
    "DummySearcherContext",
    "DummySearcherOperation",
    "DummyTrainContext",
    "EarlyExitReason",
    "PreemptContext",
    "PreemptMode",
    "ProfilerContext",
    "SearcherContext",
    "SearcherMode",
    "SearcherOperation",
    "TensorboardMode",
    "TrainContext",
    "Unit",
    "init",
]
