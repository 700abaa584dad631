"""Decide whether an attempt hangs, and measure how long it has trained.

Pure: callers pass the time and the size of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from ashwood.trial.channel import Phase

STEP_SECONDS = 10.0
"""Least number of seconds that a step may take."""
WRITING_SECONDS = 15.0
"""Least number of seconds for which a checkpoint that is being written may not grow."""
STORING_SECONDS = 60.0
"""Seconds without progress after which the transfer of a checkpoint to its storage counts as hung.

Transfers have shorter limits of their own, see `ashwood.checkpoints.patience`.
"""
_LOOKS = 4
"""How many times the size of a checkpoint is measured within the limit for writing."""


class Liveness:
    """Signs of life of one attempt: finished steps, saves, and progress of saves.

    After the request to stop, the attempt hangs if there is no sign of life for `limit` seconds.  Before, it hangs if
    it trains for ``max_silence`` seconds without one.
    """

    def __init__(
        self, now: float, *, grace: float | None = None, max_silence: float | None = None, pulse: float = 0.0
    ) -> None:
        """Begin to watch an attempt.

        Args:
            now: time in seconds, from a monotonic clock, as for all methods.
            grace: limit in seconds while the attempt trains or writes a checkpoint after the request to stop; by
                default it depends on how long steps and saves have taken.
            max_silence: limit in seconds before the request to stop, or None.  Time in which the attempt saves or waits
                does not count.
            pulse: greatest delay of the message about a finished step, in seconds.
        """
        self._grace = grace
        self._max_silence = inf if max_silence is None else max_silence
        self._pulse = pulse
        self._waits = False
        self._phase = Phase.TRAINING
        self._has_begun = False
        self._trained, self._counted_at = 0.0, now
        self._directory = ""
        self._sign = self._phase_began = now
        self._longest_step = self._longest_save = 0.0
        self._asked: float | None = None
        self._size: object = None
        self._look_at = inf

    def alive(self, now: float, longest: float = 0.0) -> None:
        """Record a sign of life; ``longest`` is the duration in seconds of the longest step so far."""
        self._count(now)
        self._sign = now
        self._waits = False
        self._longest_step = max(self._longest_step, longest)

    def enter(self, now: float, phase: Phase, directory: str = "") -> None:
        """Record that the attempt enters a phase, which is a sign of life; it writes to ``directory``, if any."""
        self._count(now)
        self._sign = now
        self._waits = False
        if self._phase is Phase.WRITING:
            self._longest_save = max(self._longest_save, now - self._phase_began)
        self._phase, self._directory, self._phase_began = phase, directory, now
        self._size, self._look_at = None, now

    def begin(self, now: float) -> None:
        """Record that the training code is imported and begins to train, which is a sign of life."""
        self.enter(now, Phase.TRAINING)
        self._has_begun = True

    def wait(self, now: float) -> None:
        """Record that the attempt has reported at its target and waits for a command."""
        self._count(now)
        self._waits = True

    @property
    def waits(self) -> bool:
        """Whether the attempt waits for a command."""
        return self._waits

    def _count(self, now: float) -> None:
        if self._trains and self._has_begun:
            self._trained += now - self._counted_at
        self._counted_at = now

    @property
    def _trains(self) -> bool:
        return self._phase is Phase.TRAINING and not self._waits

    def trained(self, now: float) -> float:
        """Return the seconds that the attempt has trained since it began, without those in which it waited or saved."""
        self._count(now)
        return self._trained

    def trained_for(self, seconds: float) -> float:
        """Return the time at which the attempt will have trained for ``seconds``, or infinity if it does not train."""
        return self._counted_at + seconds - self._trained if self._trains and self._has_begun else inf

    def ask_to_stop(self, now: float) -> None:
        """Record the request to stop.  Only the first call has an effect."""
        if self._asked is None:
            self._asked = now

    @property
    def limit(self) -> float:
        """Longest time in seconds without a sign of life after the request to stop."""
        if self._phase is Phase.STORING:
            return max(STORING_SECONDS, self._grace or 0.0)
        if self._grace is not None:
            return self._grace
        if self._phase is Phase.WRITING:
            return max(WRITING_SECONDS, 2 * self._longest_step, 2 * self._longest_save)
        return max(STEP_SECONDS, 2 * self._longest_step)

    @property
    def due(self) -> float:
        """Time at which `is_hung` must be called next; infinite if there is no need."""
        if self._asked is None:
            return self._end
        return min(self._end, self._look_at) if self._phase is Phase.WRITING else self._end

    @property
    def _end(self) -> float:
        if self._asked is not None:
            return max(self._asked, self._sign) + self.limit + self._pulse
        return self._sign + self._max_silence + self._pulse if self._trains else inf

    @property
    def must_stop(self) -> bool:
        """Whether the attempt was asked to stop."""
        return self._asked is not None

    def is_hung(self, now: float, size_of: Callable[[str], object]) -> bool:
        """Return whether there was no sign of life for too long.

        ``size_of`` takes a directory and returns any value that changes when its content does.
        """
        if self._phase is Phase.WRITING and self._asked is not None and now >= self._look_at:
            size = size_of(self._directory)
            if size != self._size and self._size is not None:
                self._sign = now
            self._size, self._look_at = size, now + self.limit / _LOOKS
        return now >= self._end
