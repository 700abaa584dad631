"""Whether a trial must end."""

from __future__ import annotations

import enum
import os
from pathlib import Path

from ashwood.integrations.determined.core._distributed import DistributedContext
from ashwood.integrations.determined.hub import address
from ashwood.integrations.determined.recorder import Recorder


class PreemptMode(enum.Enum):
    """Which processes call ``should_preempt``.

    ``WorkersAskChief``: all, in step; they get the answer of rank 0.  ``ChiefOnly``: only rank 0.
    ``WorkersAskMaster``: any, whenever they like; their answers can differ for a moment.
    """

    WorkersAskChief = "WORKERS_ASK_CHIEF"
    ChiefOnly = "CHIEF_ONLY"
    WorkersAskMaster = "WORKERS_ASK_MASTER"


class PreemptContext:
    """Says whether the trial must end: it is paused or stopped, or the experiment pauses or ends."""

    def __init__(
        self,
        recorder: Recorder | None,
        dist: DistributedContext,
        preempt_mode: PreemptMode = PreemptMode.WorkersAskChief,
    ) -> None:
        self._recorder = recorder
        self._dist = dist
        self._preempt_mode = PreemptMode(preempt_mode)
        self._started = False

    def start(self) -> PreemptContext:
        """Begin to watch for requests."""
        if self._started:
            raise RuntimeError("you cannot call PreemptContext.start() multiple times")
        self._started = True
        return self

    def close(self) -> None:
        """Stop watching for requests."""
        if self._preempt_mode is PreemptMode.WorkersAskMaster and self._dist.rank == 0:
            self._mark().unlink(missing_ok=True)

    def __enter__(self) -> PreemptContext:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def should_preempt(self, auto_ack: bool = True) -> bool:
        """Return whether the training code must save and end now.

        The trial continues later, from its latest checkpoint, if the search promotes it or the experiment is resumed.
        """
        if not self._started:
            raise RuntimeError(
                "you cannot call PreemptContext.should_preempt() before PreemptContext.start(): use core.init() as a "
                "context manager"
            )
        mode = self._preempt_mode
        if self._dist.rank == 0:
            answer = self._recorder is not None and self._recorder.should_preempt()
            if mode is PreemptMode.WorkersAskChief:
                self._dist.broadcast(answer)
            elif answer and mode is PreemptMode.WorkersAskMaster and self._dist.size > 1:
                self._mark().touch()
            return answer
        if mode is PreemptMode.ChiefOnly:
            raise RuntimeError(
                "PreemptContext was configured with preempt_mode=ChiefOnly but .should_preempt() was called from "
                f"non-chief worker of rank={self._dist.rank}"
            )
        if mode is PreemptMode.WorkersAskMaster:
            return self._mark().exists()
        return bool(self._dist.broadcast(None))

    def acknowledge_preemption_signal(self) -> None:
        """Do nothing: Ashwood knows that a trial that was asked to end has not completed."""

    def _mark(self) -> Path:
        return Path(f"{address(0)}.{os.environ.get('MASTER_PORT', '')}.preempt")


class DummyPreemptContext(PreemptContext):
    """A context outside an experiment, where no training must end."""

    def __init__(self, dist: DistributedContext, preempt_mode: PreemptMode = PreemptMode.WorkersAskChief) -> None:
        super().__init__(None, dist, preempt_mode)
