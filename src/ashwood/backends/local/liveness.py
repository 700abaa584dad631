"""When an attempt is taken to hang, and how long it has trained.

Pure: it is told the time and how much a checkpoint has grown.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from ashwood.trial.channel import Phase

STEP_SECONDS = 10.0
"""Seconds that a step gets at least."""
WRITING_SECONDS = 15.0
"""Seconds that training code which writes a checkpoint gets at least, from the last growth of the checkpoint on."""
STORING_SECONDS = 60.0
"""Seconds without progress after which storing a checkpoint is given up.

Transfers have shorter limits of their own, see `ashwood.trial.storage.patience`.
"""
_LOOKS = 4
"""How often the size of a checkpoint is looked at within the time that writing gets."""


class Liveness:
    """The signs of life of one attempt.

    Finished steps, saves and progress of saves are signs of life.  From the request to stop on, the attempt may be
    without any for `limit` seconds.  Before, it may train for ``max_silence`` seconds without any.
    """

    def __init__(
        self, now: float, *, grace: float | None = None, max_silence: float | None = None, pulse: float = 0.0
    ) -> None:
        """Begin at ``now``, in seconds, steadily rising.

        Args:
            now: the time.
            grace: the limit while the attempt trains or writes a checkpoint; by default it depends on how long
                steps and saves take.
            max_silence: the limit before the request to stop, which neither saves nor waiting count towards, or None.
            pulse: seconds by which the news of a finished step may be late.
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
        """Take note of a sign of life; ``longest``: seconds of the longest step so far."""
        self._count(now)
        self._sign = now
        self._waits = False
        self._longest_step = max(self._longest_step, longest)

    def enter(self, now: float, phase: Phase, directory: str = "") -> None:
        """Take note of what the attempt does from now on, which is a sign of life."""
        self._count(now)
        self._sign = now
        self._waits = False
        if self._phase is Phase.WRITING:
            self._longest_save = max(self._longest_save, now - self._phase_began)
        self._phase, self._directory, self._phase_began = phase, directory, now
        self._size, self._look_at = None, now

    def begin(self, now: float) -> None:
        """Take note that the training code was imported and begins, which is a sign of life."""
        self.enter(now, Phase.TRAINING)
        self._has_begun = True

    def wait(self, now: float) -> None:
        """Take note that the attempt has reported at its target and waits for the search."""
        self._count(now)
        self._waits = True

    @property
    def waits(self) -> bool:
        """Whether the attempt waits for the search."""
        return self._waits

    def _count(self, now: float) -> None:
        if self._trains and self._has_begun:
            self._trained += now - self._counted_at
        self._counted_at = now

    @property
    def _trains(self) -> bool:
        return self._phase is Phase.TRAINING and not self._waits

    def trained(self, now: float) -> float:
        """Return for how many seconds the attempt has trained since it began, without waiting and saving."""
        self._count(now)
        return self._trained

    def trained_for(self, seconds: float) -> float:
        """Return when the attempt will have trained for ``seconds``; infinite if it does not train now."""
        return self._counted_at + seconds - self._trained if self._trains and self._has_begun else inf

    def ask_to_stop(self, now: float) -> None:
        """Take note of the request to stop; the first one counts."""
        if self._asked is None:
            self._asked = now

    @property
    def limit(self) -> float:
        """Seconds for which the attempt may show no progress."""
        if self._phase is Phase.STORING:
            return max(STORING_SECONDS, self._grace or 0.0)
        if self._grace is not None:
            return self._grace
        if self._phase is Phase.WRITING:
            return max(WRITING_SECONDS, 2 * self._longest_step, 2 * self._longest_save)
        return max(STEP_SECONDS, 2 * self._longest_step)

    @property
    def due(self) -> float:
        """When `is_hung` must be called next; infinite if it need not be."""
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
        """Return whether the attempt was without a sign of life for too long.

        ``size_of`` returns how large a directory is, in a form that can be compared.
        """
        if self._phase is Phase.WRITING and self._asked is not None and now >= self._look_at:
            size = size_of(self._directory)
            if size != self._size and self._size is not None:
                self._sign = now
            self._size, self._look_at = size, now + self.limit / _LOOKS
        return now >= self._end
