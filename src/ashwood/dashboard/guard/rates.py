"""Rate and concurrency limits for each client, with bounded memory."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

Clock = Callable[[], float]

_MOST_CLIENTS = 4096


class TokenBuckets:
    """A token bucket for each client: its permits are refilled at a steady rate."""

    def __init__(self, permits: float, seconds: float, clock: Clock) -> None:
        """Give each client ``permits`` at once, which are refilled completely within ``seconds``."""
        self._permits = permits
        self._per_second = permits / seconds
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Return the seconds until the client has a permit, or 0 if it has one now."""
        return max(0.0, (1.0 - self._now(client)) / self._per_second)

    def take(self, client: str) -> float:
        """Take a permit and return 0, or return the seconds until the client has one."""
        seconds = self.wait(client)
        if not seconds:
            self._left[client] = (self._now(client) - 1.0, self._clock())
            self._left.move_to_end(client)
            if len(self._left) > _MOST_CLIENTS:
                self._left.popitem(last=False)
        return seconds

    def _now(self, client: str) -> float:
        left, since = self._left.get(client, (self._permits, 0.0))
        return min(self._permits, left + (self._clock() - since) * self._per_second)


class StreamSlots:
    """A limited number of slots for concurrent streams, in all and for each client."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._taken: Counter[str] = Counter()

    def take(self, client: str) -> bool:
        """Take a slot for a client; return False if all slots, or all slots of this client, are taken."""
        if self._taken.total() >= self._most or self._taken[client] >= self._most_each:
            return False
        self._taken[client] += 1
        return True

    def release(self, client: str) -> None:
        """Free a slot of a client."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
