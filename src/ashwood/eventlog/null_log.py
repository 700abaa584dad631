"""An event log that stores nothing, for simulations whose log is never read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ashwood.eventlog.port import Answer, RequestId, Seq
from ashwood.experiment.entry import Entry


class NullLog:
    """An event log that counts entries and discards them; see `ashwood.eventlog.port.EventLog`."""

    def __init__(self) -> None:
        self._seq = 0

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,  # noqa: ARG002
        answers: Mapping[RequestId, Answer] | None = None,  # noqa: ARG002
    ) -> Seq:
        """Discard entries, and return the number of the last one."""
        self._seq += len(entries)
        return self._seq

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:  # noqa: ARG002
        """Return an empty iterator."""
        return iter(())

    def last(self) -> Seq:
        """Return the number of the last entry that was appended, or 0 if there is none."""
        return self._seq
