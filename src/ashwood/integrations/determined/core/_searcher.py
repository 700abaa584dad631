"""Operations of the searcher: how long to train until the search compares the trial."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterator
from typing import Any

from ashwood.integrations.determined.core._distributed import DistributedContext
from ashwood.integrations.determined.recorder import Recorder

logger = logging.getLogger("determined.core")


class Unit(enum.Enum):
    """Unit of the lengths of a search."""

    EPOCHS = "EPOCHS"
    RECORDS = "RECORDS"
    BATCHES = "BATCHES"


class SearcherMode(enum.Enum):
    """Which processes call ``operations``: all in step (the default), or only rank 0."""

    WorkersAskChief = "WORKERS_ASK_CHIEF"
    ChiefOnly = "CHEIF_ONLY"  # Determined spells the value like this.


class SearcherOperation:
    """A part of the training, after which the search compares the trial."""

    def __init__(self, recorder: Recorder | None, length: int, is_chief: bool) -> None:
        self._recorder = recorder
        self._length = length
        self._is_chief = is_chief
        self._completed = False

    @property
    def length(self) -> int:
        """Total length to which to train, in the unit of ``max_length``."""
        return self._length

    def report_progress(self, length: float) -> None:
        """Do nothing but check the call: Ashwood knows the progress from reports.

        Raises:
            RuntimeError: this is not the process of rank 0, or the operation is completed.
        """
        if not self._is_chief:
            raise RuntimeError("you must only call op.report_progress() from the chief worker")
        if self._completed and length != self._length:
            raise RuntimeError("you must not call op.report_progress() after op.report_completed()")
        logger.debug(f"op.report_progress({length})")

    def report_completed(self, searcher_metric: Any) -> None:
        """Report the metric of the search at the length of the operation, and wait for the decision of the search.

        Raises:
            RuntimeError: this is not the process of rank 0, or the operation is completed already.
            TypeError: the metric is not a number.
        """
        if not self._is_chief:
            raise RuntimeError("you must only call op.report_completed() from the chief worker")
        if self._completed:
            raise RuntimeError("you may only call op.report_completed() once")
        self._completed = True
        logger.debug(f"op.report_completed({searcher_metric})")
        if self._recorder is not None:
            self._recorder.complete(searcher_metric)


class SearcherContext:
    """Gives operations to the training code, as long as the search lets the trial train."""

    def __init__(self, recorder: Recorder | None, dist: DistributedContext, units: Unit | None) -> None:
        self._recorder = recorder
        self._dist = dist
        self._units = units

    def operations(
        self,
        searcher_mode: SearcherMode = SearcherMode.WorkersAskChief,
        auto_ack: bool = True,
    ) -> Iterator[SearcherOperation]:
        """Yield operations.  Each ends at a greater total length than the one before.

        The search decides after each one.  If it promotes the trial, the next operation follows; otherwise the loop
        ends.  If the trial is promoted later, it continues in another process, from its latest checkpoint.

        Raises:
            RuntimeError: the training code did not complete an operation, or rank 0 alone calls this.
        """
        mode = SearcherMode(searcher_mode)
        if self._dist.rank == 0:
            for op in self._next():
                if mode is SearcherMode.WorkersAskChief:
                    self._dist.broadcast(op.length)
                yield op
                if not op._completed:
                    raise RuntimeError("you must call op.report_completed() on each operation")
            if mode is SearcherMode.WorkersAskChief:
                self._dist.broadcast(None)
            return
        if mode is not SearcherMode.WorkersAskChief:
            raise RuntimeError("you cannot call searcher.operations(searcher_mode=ChiefOnly) from a non-chief worker.")
        while (length := self._dist.broadcast(None)) is not None:
            yield SearcherOperation(None, length, False)

    def _next(self) -> Iterator[SearcherOperation]:
        if self._recorder is None:
            yield SearcherOperation(None, 1, True)
            return
        while (length := self._recorder.next_target()) is not None:
            yield SearcherOperation(self._recorder, length, True)

    def acknowledge_out_of_ops(self) -> None:
        """Do nothing: Ashwood knows when a trial has no more operations."""

    def get_configured_units(self) -> Unit | None:
        """Return the unit of ``max_length``, or None if it is a number without a unit."""
        return self._units


DummySearcherOperation = SearcherOperation


class DummySearcherContext(SearcherContext):
    """A context outside an experiment, with one operation of length 1."""

    def __init__(self, dist: DistributedContext) -> None:
        super().__init__(None, dist, None)
