"""What a person hears of workers and nodes that come and go."""

from __future__ import annotations

from collections.abc import Mapping

from ashwood.cli.output import format_capacity
from ashwood.experiment.events import CapacityChanged

_PATIENCE = 2.0
"""Seconds in which more workers may join those that came."""

_MOST_REASONS = 3


class CapacityNews:
    """Gathers changes of capacity into lines: a node that joins brings its workers one by one.

    That a node is gone, or that no worker is left, is said at once; it may be long before anything else happens.
    """

    def __init__(self) -> None:
        self._said: tuple[int, Mapping[str, int]] = (0, {})
        self._latest: CapacityChanged | None = None
        self._reasons: dict[str, None] = {}
        self._due = 0.0

    def began(self, slots: int) -> None:
        """So many workers were told of when the run began."""
        self._said = (slots, {})

    def note(self, at: float, event: CapacityChanged) -> None:
        """The capacity changed."""
        known = self._said[1] if self._latest is None else self._latest.nodes
        if not event.slots or not known.keys() <= event.nodes.keys():
            self._due = at
        elif self._latest is None:
            self._due = at + _PATIENCE
        self._latest = event
        if event.why:
            self._reasons[event.why] = None

    def news(self, at: float) -> str | None:
        """What is to be said by now; None: nothing."""
        if self._latest is None or at < self._due:
            return None
        slots, nodes, _ = self._latest
        changed = (slots, nodes) != self._said
        reasons = list(self._reasons)
        more = len(reasons) - _MOST_REASONS
        why = "; ".join([*reasons[:_MOST_REASONS], *([f"and {more} more changes"] if more > 0 else [])])
        self._said, self._latest, self._reasons = (slots, nodes), None, {}
        # A worker that was replaced within the time is no news.
        return format_capacity(slots, len(nodes), why) if changed else None
