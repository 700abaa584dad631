"""Threads that move checkpoints: those of one trial one after the other, those of several side by side."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor

Job = Callable[[], object]


class Movers:
    """Threads with lanes: jobs of one lane are done in order, each after the one before it."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "ashwood-mover")
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, deque[Job]] = {}

    def submit(self, lane: Hashable, job: Job) -> None:
        """Have a job done, which raises nothing."""
        with self._lock:
            waiting = self._lanes.get(lane)
            if waiting is not None:
                waiting.append(job)
                return
            self._lanes[lane] = deque([job])
        self._pool.submit(self._work, lane)

    def _work(self, lane: Hashable) -> None:
        while True:
            with self._lock:
                waiting = self._lanes[lane]
                if not waiting:
                    del self._lanes[lane]
                    return
                job = waiting.popleft()
            job()

    def close(self) -> None:
        """Begin nothing more."""
        with self._lock:
            for waiting in self._lanes.values():
                waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)


class Haul:
    """A checkpoint on its way to the driver: dropped with its worker, or kept whatever happens to that.

    Attributes:
        dropped: whether nobody wants it any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = False
        self.dropped = False

    def keep(self) -> bool:
        """All of it is here; returns whether it may be kept."""
        with self._lock:
            self._kept = not self.dropped
            return self._kept

    def drop(self) -> bool:
        """Its worker is gone; returns whether it will not be kept."""
        with self._lock:
            self.dropped = not self._kept
            return self.dropped
