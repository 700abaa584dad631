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

from ashwood.dashboard.library import Followed, Library
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

If it were more than the library holds, each would be dropped before its next turn, and none would be read to its end.
"""
_READ_AHEAD = 3
"""Number of event logs, at most, that are read before a request needs them."""
_FIRST_LOOK = 1.0
"""Seconds that reading ahead waits for the first request."""


class Desk:
    """Runs work on the experiments of a home in its thread, on behalf of coroutines.

    Attributes:
        leaving: whether the server is shutting down; endless streams must end then.
    """

    def __init__(self, open_home: Callable[[], Home]) -> None:
        self._open_home = open_home
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self._easel = ThreadPoolExecutor(1, thread_name_prefix="easel")
        self._library: Library | None = None
        self._reading: dict[ExperimentId, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_READ_AT_ONCE)
        self._looked = asyncio.Event()
        self.leaving = False

    async def do(self, work: Callable[[Library], T]) -> T:
        """Run a short function in the reading thread, and return or raise what it does."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        finally:
            self._looked.set()

    async def prepare(self) -> None:
        """Read the running experiments and the latest one ahead, after the first request has been answered."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), _FIRST_LOOK)
        with suppress(AshwoodError):  # The first request for the experiment gets the error.
            for experiment in await self.do(_most_wanted):
                await asyncio.wait({self._read_on(experiment)})

    async def ask(self, experiment: ExperimentId, question: Callable[[Followed], T], *, whole: bool = False) -> T:
        """Return an answer about an experiment, from as much of its event log as can be read within a second.

        ``whole``: whether the answer needs the history of trials, not only the progress.

        Raises:
            NotFound: there is no such experiment.
            EventLogError: its event log is damaged.
        """
        return await self.consult(experiment, lambda _, followed: question(followed), whole=whole)

    async def consult(
        self, experiment: ExperimentId, question: Callable[[Library, Followed], T], *, whole: bool = False
    ) -> T:
        """Return an answer like ``ask``, which also needs the library, both in one consistent state."""

        def if_read(library: Library) -> tuple[tuple[T] | None, bool]:
            followed = library.follow(experiment)
            known = (question(library, followed),) if followed.advance(whole=whole) else None
            return known, followed.is_whole

        known, is_whole = await self.do(if_read)
        if known is not None:
            if not is_whole:
                self._read_on(experiment)
            return known[0]
        read, _ = await asyncio.wait({self._read_on(experiment)}, timeout=_PATIENCE)
        for reading in read:
            reading.result()
        return await self.do(lambda library: question(library, library.follow(experiment)))

    async def catch_up(self, experiment: ExperimentId) -> None:
        """Read an event log to its current end, waiting up to 10 seconds for a figure that is being drawn."""
        end = await self.do(lambda library: library.follow(experiment).end)

        def has_caught_up(library: Library) -> bool:
            followed = library.follow(experiment)
            followed.advance()
            return followed.seq >= end

        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while not await self.do(has_caught_up) and time.monotonic() < deadline:
            await asyncio.sleep(_MOMENT)

    async def draw(self, experiments: Sequence[Followed], work: Callable[[], T]) -> T:
        """Run a slow function that only reads experiments, in the second thread; they are not updated meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._easel, _hold_still, experiments, work)

    async def close(self) -> None:
        """Save snapshots for the next dashboard, and close the store."""
        for reading in self._reading.values():
            reading.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()
        self._easel.shutdown(cancel_futures=True)

    def _do(self, work: Callable[[Library], T]) -> T:
        if self._library is not None and self._library.home.is_gone():
            # The home was deleted.  A new one may be at the same path, and these views do not describe it.
            self._library.home.close()
            self._library = None
        if self._library is None:
            self._library = Library(self._open_home())
        return work(self._library)

    def _close(self) -> None:
        if self._library is not None:
            self._library.close()

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
        def advance(library: Library) -> tuple[bool, Seq]:
            followed = library.follow(experiment)
            return followed.advance(), followed.seq

        before = -1
        async with self._turns:
            while True:
                is_all, seq = await self.do(advance)
                if is_all:
                    return
                if seq == before:  # A figure of it is being drawn, so it cannot be read now.
                    await asyncio.sleep(_MOMENT)
                before = seq


def _most_wanted(library: Library) -> list[ExperimentId]:
    there = [listed for listed in library.glance() if not listed.record.archived]
    running = [listed.record.id for listed in there if listed.driven]
    return list(dict.fromkeys([*running[::-1], *(listed.record.id for listed in there[-1:])]))[:_READ_AHEAD]


def _hold_still(experiments: Sequence[Followed], work: Callable[[], T]) -> T:
    with ExitStack() as stack:
        for followed in experiments:
            stack.enter_context(followed.still)
        return work()
