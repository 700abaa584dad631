"""A log that keeps nothing: for simulations that nobody will resume or look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ashwood.eventlog.port import Answer, Entry, RequestId, Seq


class Oblivion:
    """Counts entries and forgets them; see `ashwood.eventlog.port.EventLog`."""

    def __init__(self) -> None:
        self._seq = 0

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,  # noqa: ARG002
        answers: Mapping[RequestId, Answer] | None = None,  # noqa: ARG002
    ) -> Seq:
        """Forget all of it."""
        self._seq += len(entries)
        return self._seq

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:  # noqa: ARG002
        """Nothing is left to read."""
        return iter(())

    def last(self) -> Seq:
        """How many were forgotten."""
        return self._seq
