"""Entries of event logs, and the folds that derive state from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

from ashwood.experiment.decisions import Decision
from ashwood.experiment.events import Event


class Entry(NamedTuple):
    """An entry of an event log: an event with the decisions that it caused.

    Attributes:
        at: when the event was handled, in seconds since 1970.
        event: the event.
        decisions: what the search decided about it.
    """

    at: float
    event: Event
    decisions: tuple[Decision, ...] = ()


class Fold(Protocol):
    """State that is derived from the entries of an event log, applied one by one in their order."""

    def apply(self, entry: Entry) -> object:
        """Apply an entry of the log."""
        ...


FoldT = TypeVar("FoldT", bound=Fold)


def fold(state: FoldT, entries: Iterable[Entry]) -> FoldT:
    """Apply entries to a state, in order, and return it.

    Example::

        table = fold(TrialTable(spec), entries)
    """
    for entry in entries:
        state.apply(entry)
    return state
