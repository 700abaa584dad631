"""A loop over training steps that adds almost no time to a step.

Steps come in chunks, each a plain iterator over a range.  The position follows from how many
steps of the chunk are left, which the iterator itself knows.  A chunk ends when something is
due, and after about `_MOMENT` seconds, so that a request to suspend is noticed soon.
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
    """The state of a loop of the training code.

    Attributes:
        unit: unit of its positions.
        step: units in a step.
        scale: conversion between its positions and the experiment's lengths.
        due: whether a report or another action is due on the last step of the present chunk.
        left: the steps of the present chunk that are left; `operator.length_hint` counts them.
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
        """Number of units that are trained, including the present step."""
        return min(self._stop, self._start + self.step * (self._steps - length_hint(self.left)))

    def chunk(self, due: int, goal: int) -> Iterator[int]:
        """Return the next steps, at most up to position ``due``.  The last step of the loop ends at ``goal``."""
        start = self._stop
        steps = -(-(due - start) // self.step)
        self.due = steps <= self._size
        self._steps = min(steps, self._size)
        self._start, self._stop = start, min(start + self._steps * self.step, goal)
        self.left = iter(range(start, self._stop, self.step))
        self._began = perf_counter()
        return self.left

    def follow(self, stop: int, due: bool) -> Iterator[int]:
        """Return the steps up to position ``stop``; ``due`` says whether an action is due on the last one."""
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
        """End the chunk with the present step."""
        self._start = self._stop = self.position
        self._steps = 0
        deque(self.left, maxlen=0)  # This skips the remaining steps.

    def adapt(self) -> None:
        """Adapt the size of the next chunk to the time that this one took."""
        took = perf_counter() - self._began
        if took < _MOMENT / 2 and self._steps == self._size:
            self._size *= 2
        elif took > _MOMENT * 2:
            self._size = max(1, self._size // 2)
