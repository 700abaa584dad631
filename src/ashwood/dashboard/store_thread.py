"""The thread that reads the store and holds the views of its experiments.

A connection to a store belongs to one thread, and so do the views.  All work on them runs in this thread, one piece at
a time, so each answer shows one consistent state.  A long event log is folded in pieces, and other requests are
answered between them.  Drawing a figure takes longer, so it runs in a second thread.  Meanwhile the views of its
experiments are not updated, and all other requests are answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TypeVar

from ashwood.dashboard.experiment_cache import CachedExperiment, ExperimentCache
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId, Seq

T = TypeVar("T")

_MOMENT = 0.01
_PATIENCE = 1.0
_CATCH_UP_SECONDS = 10.0
"""Seconds that an answer waits for an event log to be read to its end; then it shows what is known so far."""
_READ_AT_ONCE = 4
"""Number of event logs that are read at once.

If it were more than the cache holds, each would be dropped before its next turn, and none would be read to its end.
"""
_READ_AHEAD = 3
"""Number of event logs, at most, that are read before a request needs them."""
_FIRST_REQUEST_SECONDS = 1.0
"""Seconds that reading ahead waits for the first request."""


class StoreThread:
    """Runs work on the experiments of a home in one thread, for coroutines.

    Attributes:
        leaving: whether the server is shutting down; endless streams must end then.
    """

    def __init__(self, open_home: Callable[[], Home]) -> None:
        self._open_home = open_home
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._render_pool = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._cache: ExperimentCache | None = None
        self._reading: dict[ExperimentId, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_READ_AT_ONCE)
        self._first_request_done = asyncio.Event()
        self.leaving = False

    async def do(self, work: Callable[[ExperimentCache], T]) -> T:
        """Run a short function in the reading thread, and return or raise what it does."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        finally:
            self._first_request_done.set()

    async def read_ahead(self) -> None:
        """Read the running experiments and the latest one ahead, after the first request has been answered."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first_request_done.wait(), _FIRST_REQUEST_SECONDS)
        with suppress(AshwoodError):  # The first request for the experiment gets the error.
            for experiment in await self.do(_to_read_ahead):
                await asyncio.wait({self._read_on(experiment)})

    async def ask(
        self, experiment: ExperimentId, question: Callable[[CachedExperiment], T], *, with_history: bool = False
    ) -> T:
        """Return an answer about an experiment, from as much of its event log as can be read within a second.

        ``with_history``: whether the answer needs the history of trials, not only the progress.

        Raises:
            NotFound: there is no such experiment.
            EventLogError: its event log is damaged.
        """

        def if_read(cache: ExperimentCache) -> tuple[tuple[T] | None, bool]:
            cached = cache.get(experiment)
            answer = (question(cached),) if cached.read_entries(with_history=with_history) else None
            return answer, cached.has_history

        answer, has_history = await self.do(if_read)
        if answer is not None:
            if not has_history:
                self._read_on(experiment)
            return answer[0]
        read, _ = await asyncio.wait({self._read_on(experiment)}, timeout=_PATIENCE)
        for reading in read:
            reading.result()
        return await self.do(lambda cache: question(cache.get(experiment)))

    async def catch_up(self, experiment: ExperimentId) -> None:
        """Read an event log to its current end, waiting up to 10 seconds for a figure that is being drawn."""
        end = await self.do(lambda cache: cache.get(experiment).end)

        def has_caught_up(cache: ExperimentCache) -> bool:
            cached = cache.get(experiment)
            cached.read_entries()
            return cached.seq >= end

        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while not await self.do(has_caught_up) and time.monotonic() < deadline:
            await asyncio.sleep(_MOMENT)

    async def draw(self, experiments: Sequence[CachedExperiment], work: Callable[[], T]) -> T:
        """Run a slow function that only reads experiments, in the second thread; they are not updated meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._render_pool, _while_locked, experiments, work)

    async def close(self) -> None:
        """Save snapshots for the next dashboard, and close the store."""
        for reading in self._reading.values():
            reading.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()
        self._render_pool.shutdown(cancel_futures=True)

    def _do(self, work: Callable[[ExperimentCache], T]) -> T:
        if self._cache is not None and self._cache.home.is_gone():
            # The home was deleted.  A new one may be at the same path, and these views do not describe it.
            self._cache.home.close()
            self._cache = None
        if self._cache is None:
            self._cache = ExperimentCache(self._open_home())
        return work(self._cache)

    def _close(self) -> None:
        if self._cache is not None:
            self._cache.close()

    def _read_on(self, experiment: ExperimentId) -> asyncio.Task[None]:
        """Start a task that reads an event log to its end, even if the request that needs it is canceled."""
        reading = self._reading.get(experiment)
        if reading is None:
            reading = self._reading[experiment] = asyncio.create_task(self._read(experiment))
            reading.add_done_callback(lambda ended: self._ended(experiment, ended))
        return reading

    def _ended(self, experiment: ExperimentId, reading: asyncio.Task[None]) -> None:
        del self._reading[experiment]
        if not reading.cancelled():
            # Mark the exception as retrieved, or asyncio logs it.  The next request reads again and gets it too.
            reading.exception()

    async def _read(self, experiment: ExperimentId) -> None:
        def advance(cache: ExperimentCache) -> tuple[bool, Seq]:
            cached = cache.get(experiment)
            return cached.read_entries(), cached.seq

        before = -1
        async with self._turns:
            while True:
                is_all, seq = await self.do(advance)
                if is_all:
                    return
                if seq == before:  # A figure of the experiment is being drawn, so its log cannot be read now.
                    await asyncio.sleep(_MOMENT)
                before = seq


def _to_read_ahead(cache: ExperimentCache) -> list[ExperimentId]:
    """Return the running experiments, the latest first, and the latest one of all."""
    shown = [listed for listed in cache.list_experiments() if not listed.record.archived]
    running = [listed.record.id for listed in shown if listed.driven]
    return list(dict.fromkeys([*running[::-1], *(listed.record.id for listed in shown[-1:])]))[:_READ_AHEAD]


def _while_locked(experiments: Sequence[CachedExperiment], work: Callable[[], T]) -> T:
    with ExitStack() as stack:
        for cached in experiments:
            stack.enter_context(cached.lock)
        return work()
