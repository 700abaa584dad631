"""The kinds of entries of the event log that lists can show alone; a module without imports, for fast commands."""

from enum import StrEnum


class EventKind(StrEnum):
    """A kind of entries for which users look in the event log."""

    DECISIONS = "decisions"
    FAILURES = "failures"
    BESTS = "bests"
    STEERING = "steering"
