"""The context of a trial, which combines all parts of the Core API."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from ashwood.integrations.determined.core._checkpoint import CheckpointContext, DummyCheckpointContext
from ashwood.integrations.determined.core._distributed import DistributedContext, DummyDistributedContext
from ashwood.integrations.determined.core._preempt import DummyPreemptContext, PreemptContext, PreemptMode
from ashwood.integrations.determined.core._profiler import ProfilerContext
from ashwood.integrations.determined.core._searcher import DummySearcherContext, SearcherContext, Unit
from ashwood.integrations.determined.core._tensorboard_mode import TensorboardMode
from ashwood.integrations.determined.core._train import DummyTrainContext, TrainContext
from ashwood.integrations.determined.errors import InvalidHP
from ashwood.integrations.determined.info import ClusterInfo, current_trial, get_cluster_info
from ashwood.integrations.determined.recorder import Recorder, logger
from ashwood.trial.lengths import STEPS


class Context:
    """All parts of the Core API.  Use `init` to create one.

    Attributes:
        checkpoint: checkpoints.
        distributed: the processes of the trial.
        preempt: whether the trial must end.
        train: reports.
        searcher: how long to train.
        profiler: accepts calls and does nothing.
        info: what is known about the trial, or None outside an experiment.
    """

    def __init__(
        self,
        checkpoint: CheckpointContext,
        distributed: DistributedContext,
        preempt: PreemptContext,
        train: TrainContext,
        searcher: SearcherContext,
        info: ClusterInfo | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.distributed = distributed
        self.preempt = preempt
        self.train = train
        self.searcher = searcher
        self.profiler = ProfilerContext()
        self.info = info
        self._recorder = recorder
        self._process = os.getpid()

    def start(self) -> None:
        """Begin; the ``with`` statement does this."""
        self.preempt.start()
        if self._recorder is not None and "ASHWOOD_TRIAL" in os.environ:
            # Code that never closes its context ends with its process.
            atexit.register(self._finish_at_exit)

    def __enter__(self) -> Context:
        self.start()
        return self

    def close(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """End; the ``with`` statement does this."""
        if isinstance(exc_val, InvalidHP) and self._recorder is not None:
            self._recorder.exit_early(invalid=True, why=str(exc_val))
        self._finish(exc_val)
        self.preempt.close()
        self.distributed.close()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close(exc_type, exc_val, exc_tb)
        if isinstance(exc_val, InvalidHP):
            logger.info(f"invalid hyperparameters: {exc_val}")
            raise SystemExit(0) from None

    def alert(self, title: str | None = None, description: str | None = None, level: str | None = None) -> None:
        """Write a message into the log; Ashwood has no webhooks."""
        print(f"alert ({level or 'info'}): {title or ''} {description or ''}", flush=True)

    def _finish(self, error: BaseException | None) -> None:
        if self._recorder is not None and os.getpid() == self._process:
            self._recorder.finish(error)

    def _finish_at_exit(self) -> None:
        self._finish(getattr(sys, "last_value", None))  # The exception that ended this process, or None.


def init(
    *,
    distributed: DistributedContext | None = None,
    storage_manager: Any = None,  # noqa: ARG001
    checkpoint_storage: str | dict[str, Any] | None = None,
    preempt_mode: PreemptMode = PreemptMode.WorkersAskChief,
    tensorboard_mode: TensorboardMode = TensorboardMode.AUTO,  # noqa: ARG001
) -> Context:
    """Return the context of this process, to be used in a ``with`` statement.

    Example::

        with det.core.init() as core_context:
            ...

    Outside an experiment, reports are written to the log, and the searcher has one operation of length 1.

    Args:
        distributed: the processes of the trial; required if a launcher has started several.
        storage_manager: accepted without effect; older versions have it.
        checkpoint_storage: directory for checkpoints outside an experiment.  In an experiment, its file says where
            checkpoints are stored.
        preempt_mode: which processes call ``should_preempt``.
        tensorboard_mode: accepted without effect.

    Raises:
        ValueError: a launcher has started several processes, but ``distributed`` is missing.
    """
    if distributed is None and int(os.environ.get("WORLD_SIZE") or 1) > 1 and "LOCAL_RANK" in os.environ:
        raise ValueError(
            "you must provide a valid DistributedContext for a multi-slot task: "
            "det.core.init(distributed=det.core.DistributedContext.from_torch_distributed())"
        )
    dist = distributed or DummyDistributedContext()
    trial = current_trial()
    if trial is None:
        return Context(
            DummyCheckpointContext(dist, _directory(checkpoint_storage)),
            dist,
            DummyPreemptContext(dist, preempt_mode),
            DummyTrainContext(dist),
            DummySearcherContext(dist),
        )
    if checkpoint_storage is not None:
        logger.info("checkpoint_storage of core.init() has no effect: the experiment file says where checkpoints are")
    recorder = Recorder(trial) if dist.rank == 0 else None
    units = None if trial.unit == STEPS else Unit(trial.unit.upper())
    return Context(
        CheckpointContext(trial, recorder, dist),
        dist,
        PreemptContext(recorder, dist, preempt_mode),
        TrainContext(recorder, dist),
        SearcherContext(recorder, dist, units),
        get_cluster_info(),
        recorder,
    )


def _directory(checkpoint_storage: str | dict[str, Any] | None) -> Path:
    if isinstance(checkpoint_storage, dict):
        checkpoint_storage = next(
            (checkpoint_storage[key] for key in ("container_path", "host_path") if key in checkpoint_storage), None
        )
    if checkpoint_storage is not None and "://" not in checkpoint_storage:
        return Path(checkpoint_storage).absolute()
    directory = Path(tempfile.mkdtemp(prefix="determined-checkpoints-"))
    logger.info(f"checkpoints are stored in {directory}")
    return directory
