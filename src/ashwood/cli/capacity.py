"""User-facing messages about workers and nodes that join or leave."""

from __future__ import annotations

from collections.abc import Mapping

from ashwood.cli.output import format_capacity
from ashwood.experiment.events import CapacityChanged

_PATIENCE = 2.0
"""Seconds to wait for more workers after some have joined."""

_MOST_REASONS = 3


class CapacityMessages:
    """A collector that combines changes of capacity into few messages: the workers of a new node join one by one.

    The loss of a node or of the last worker is reported at once: no other event may follow for a long time.
    """

    def __init__(self) -> None:
        self._reported: tuple[int, Mapping[str, int]] = (0, {})
        self._latest: CapacityChanged | None = None
        self._reasons: dict[str, None] = {}
        self._due = 0.0

    def began(self, slots: int) -> None:
        """Set the number of workers that was shown when the run began."""
        self._reported = (slots, {})

    def note(self, at: float, event: CapacityChanged) -> None:
        """Note a change of the capacity; ``at`` is its time."""
        known = self._reported[1] if self._latest is None else self._latest.nodes
        if not event.slots or not known.keys() <= event.nodes.keys():
            self._due = at
        elif self._latest is None:
            self._due = at + _PATIENCE
        self._latest = event
        if event.why:
            self._reasons[event.why] = None

    def news(self, at: float) -> str | None:
        """Return the message that is due, or None."""
        if self._latest is None or at < self._due:
            return None
        slots, nodes, _ = self._latest
        changed = (slots, nodes) != self._reported
        reasons = list(self._reasons)
        more = len(reasons) - _MOST_REASONS
        why = "; ".join([*reasons[:_MOST_REASONS], *([f"and {more} more changes"] if more > 0 else [])])
        self._reported, self._latest, self._reasons = (slots, nodes), None, {}
        # If a worker was replaced in the meantime, the capacity is the same and there is nothing to report.
        return format_capacity(slots, len(nodes), why) if changed else None
