"""Whom to kill when: drawn from a seed, so that what went wrong once can be done again."""

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class Victim(StrEnum):
    """Who suffers."""

    DRIVER = "driver"
    WORKER = "worker"
    BOTH = "both"
    """The driver and all its workers."""
    REAPER_TOO = "driver and reaper"
    FROZEN = "frozen driver"
    """Stopped for a moment, then continued: nobody dies."""
    INTERRUPTED = "interrupted driver"
    """Ctrl-C: it pauses in good order."""

    POWER = "power of the disk"
    """Everybody dies, and what isn't safely on the disk is lost."""

    # On a cluster:
    NODE = "node"
    """With all that is on it."""
    ACTOR = "worker's actor"
    """The process between the driver and one that trains."""
    NOBODY = "nobody, a node joins"


HARMLESS = (Victim.FROZEN, Victim.INTERRUPTED, Victim.NOBODY)


class Blow(NamedTuple):
    """One disturbance.

    Attributes:
        victim: who suffers; of a crash point: driver, worker or both.
        lines: not before the driver has acknowledged so many entries in this session; of a crash point: the driver
            goes after so many entries if it isn't reached before.
        seconds: and then so much later.
        point: the crash point at which it happens instead, armed when the driver starts; None: none.
        hit: at which time the point is reached.
        haste: the next driver starts at once, while processes of this one may still be about.
    """

    victim: Victim
    lines: int
    seconds: float
    point: str | None = None
    hit: int = 0
    haste: bool = False

    def __str__(self) -> str:
        when = (
            f"at {self.point}, time {self.hit}" if self.point else f"after {self.lines} entries + {self.seconds:.3f} s"
        )
        return f"{self.victim} {when}{', next at once' if self.haste else ''}"


POINTS = tuple(
    f"{place}.{side}"
    for place in (
        *(f"driver.{what}" for what in ("append", "append", "append", "dispatch", "send", "receive", "spawn", "close")),
        *(f"worker.{what}" for what in ("send", "receive", "mkdir", "fsync", "rename", "rename")),
    )
    for side in ("before", "after")
)
"""Where blows fall, in a random schedule; what matters most is there more than once."""

_VICTIMS = {
    Victim.DRIVER: 40,
    Victim.BOTH: 15,
    Victim.REAPER_TOO: 15,
    Victim.WORKER: 20,
    Victim.FROZEN: 5,
    Victim.INTERRUPTED: 5,
}


def blows(seed: int, *, entries: int, worker_kills: int) -> Iterator[Blow]:
    """An endless schedule.

    Args:
        seed: all follows from it.
        entries: how many entries the undisturbed experiment has.
        worker_kills: no more blows at workers than this, as each costs a trial one of its restarts.
    """
    draw = random.Random(seed)
    while True:
        blow = _at_a_point(draw) if draw.random() < 0.35 else _at_a_time(draw, entries)
        if blow.victim is Victim.WORKER or (blow.victim is Victim.BOTH and blow.point is not None):
            if worker_kills == 0:
                continue
            worker_kills -= 1
        yield blow


def _at_a_point(draw: random.Random) -> Blow:
    victim = draw.choices((Victim.DRIVER, Victim.BOTH, Victim.WORKER), (60, 20, 20))[0]
    # Few hits: right after start-up and resume.  Many: anywhere.
    hit = draw.choice((1, 1, 2, 3, draw.randint(1, 40)))
    return Blow(victim, 40, 0.0, draw.choice(POINTS), hit, haste=draw.random() < 0.5)


def _at_a_time(draw: random.Random, entries: int) -> Blow:
    (victim,) = draw.choices(tuple(_VICTIMS), tuple(_VICTIMS.values()))
    match draw.choices(("starting", "soon", "late"), (25, 55, 20))[0]:
        case "starting":
            lines, seconds = 0, draw.uniform(0.0, 0.6)
        case "soon":
            lines, seconds = 1 + int(draw.expovariate(1 / 15)), draw.choice((0.0, draw.uniform(0.0, 0.01)))
        case _:
            lines, seconds = draw.randint(1, entries), draw.choice((0.0, draw.uniform(0.0, 0.02)))
    return Blow(victim, lines, seconds, haste=draw.random() < 0.5)
