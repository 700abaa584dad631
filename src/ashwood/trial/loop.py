"""A loop over training steps that costs nothing a step.

Steps are handed out in chunks, each a plain iterator over a range.  How far training is
follows from how much of the chunk is left, which the iterator itself knows.  A chunk ends
where something is due, and after a moment at the latest, so that a request to suspend is
noticed soon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import length_hint
from time import perf_counter

from ashwood.trial.lengths import Scale

_MOMENT = 0.02
"""Seconds that a chunk should take."""


class Loop:
    """Where one loop of the training code stands.

    Attributes:
        unit: what its positions count.
        step: how many units one step takes.
        scale: relates its positions to the experiment's lengths.
        due: whether something is due on the last step of the present chunk.
        left: what is left of the present chunk; `operator.length_hint` counts it.
        active: whether the training code is inside the loop.
    """

    def __init__(self, unit: str, step: int, scale: Scale, position: int) -> None:
        self.unit = unit
        self.step = step
        self.scale = scale
        self.due = False
        self.active = True
        self._size = 1
        self._start = self._stop = position
        self._steps = 0
        self.left: Iterator[int] = iter(())
        self._began = perf_counter()

    @property
    def position(self) -> int:
        """How many units are trained, counting the step that the training code is in."""
        return min(self._stop, self._start + self.step * (self._steps - length_hint(self.left)))

    def chunk(self, due: int, goal: int) -> Iterator[int]:
        """The next steps: up to position ``due``, or fewer.  The last step of all ends at ``goal``."""
        start = self._stop
        steps = -(-(due - start) // self.step)
        self.due = steps <= self._size
        self._steps = min(steps, self._size)
        self._start, self._stop = start, min(start + self._steps * self.step, goal)
        self.left = iter(range(start, self._stop, self.step))
        self._began = perf_counter()
        return self.left

    def follow(self, stop: int, due: bool) -> Iterator[int]:
        """Return the steps up to position ``stop``, on the last of which something is due if ``due``."""
        start = self._stop
        self.due = due
        self._steps = max(0, -(-(stop - start) // self.step))
        self._start, self._stop = start, max(start, stop)
        self.left = iter(range(start, self._stop, self.step))
        return self.left

    @property
    def stop(self) -> int:
        """Position at which the present chunk ends."""
        return self._stop

    def cut(self) -> None:
        """End the chunk with the step in work."""
        self._start = self._stop = self.position
        self._steps = 0
        deque(self.left, maxlen=0)  # uses the rest up

    def adapt(self) -> None:
        """After a chunk: fit the size of the next to the time this one took."""
        took = perf_counter() - self._began
        if took < _MOMENT / 2 and self._steps == self._size:
            self._size *= 2
        elif took > _MOMENT * 2:
            self._size = max(1, self._size // 2)
