"""The one thread that reads the store, and holds what it has read.

A connection to a store belongs to a thread, and so does a fold: work on them is done here, one piece after the other,
so no answer mixes two moments.  A long log is folded in pieces, between which others get their turn.  What takes longer
to look at is looked at in a second thread, while the fold is kept as it is and everything else is answered.
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
"""Seconds that an answer waits for a record to be read to its end; then it tells what is known so far."""
_READ_AT_ONCE = 4
"""Records: of more than the library holds, each would be dropped before its next turn, and none read to its end."""
_READ_AHEAD = 3
"""Records that are read before anybody asks, at most."""
_FIRST_LOOK = 1.0
"""Seconds that the first page has before that."""


class Desk:
    """Work on the experiments of a home, for coroutines.

    Attributes:
        leaving: whether the server is about to end; whoever would tell things for ever stops then.
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
        """Have a short piece of work done; what it raises is raised here."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        finally:
            self._looked.set()

    async def prepare(self) -> None:
        """Read what will most likely be looked at, once the first page is there: what runs, and the latest."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), _FIRST_LOOK)
        with suppress(AshwoodError):  # whoever asks is told
            for experiment in await self.do(_most_wanted):
                await asyncio.wait({self._read_on(experiment)})

    async def ask(self, experiment: ExperimentId, question: Callable[[Followed], T], *, whole: bool = False) -> T:
        """An answer from an experiment's record: from all of it, or from what of it is read within a second.

        ``whole``: whether the answer needs the history of trials, not only the progress.

        Raises:
            NotFound: there is no such experiment.
            EventLogError: its record is damaged.
        """
        return await self.consult(experiment, lambda _, followed: question(followed), whole=whole)

    async def consult(
        self, experiment: ExperimentId, question: Callable[[Library, Followed], T], *, whole: bool = False
    ) -> T:
        """As ``ask``, of an experiment and its home at one moment."""

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
        """Read a record to where it ends now, also while it is being drawn, for some seconds at most."""
        end = await self.do(lambda library: library.follow(experiment).end)

        def has_caught_up(library: Library) -> bool:
            followed = library.follow(experiment)
            followed.advance()
            return followed.seq >= end

        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while not await self.do(has_caught_up) and time.monotonic() < deadline:
            await asyncio.sleep(_MOMENT)

    async def draw(self, experiments: Sequence[Followed], work: Callable[[], T]) -> T:
        """Have a longer look at experiments, which are read no further meanwhile; nothing may be changed by it."""
        return await asyncio.get_running_loop().run_in_executor(self._easel, _hold_still, experiments, work)

    async def close(self) -> None:
        """Keep what was read for the next time, and let go of the store."""
        for reading in self._reading.values():
            reading.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()
        self._easel.shutdown(cancel_futures=True)

    def _do(self, work: Callable[[Library], T]) -> T:
        if self._library is not None and self._library.home.is_gone():
            # What is known of it says nothing of a home that may be there instead.
            self._library.home.close()
            self._library = None
        if self._library is None:
            self._library = Library(self._open_home())
        return work(self._library)

    def _close(self) -> None:
        if self._library is not None:
            self._library.close()

    def _read_on(self, experiment: ExperimentId) -> asyncio.Task[None]:
        """Read a record to its end, also when nobody waits for it any more."""
        reading = self._reading.get(experiment)
        if reading is None:
            reading = self._reading[experiment] = asyncio.create_task(self._read(experiment))
            reading.add_done_callback(lambda ended: self._ended(experiment, ended))
        return reading

    def _ended(self, experiment: ExperimentId, reading: asyncio.Task[None]) -> None:
        del self._reading[experiment]
        if not reading.cancelled():
            reading.exception()  # whoever asks next is told, too

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
                if seq == before:  # somebody looks at it
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
