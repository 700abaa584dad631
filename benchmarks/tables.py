"""What a benchmark found, as data that can be kept and as Markdown."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

FIGURES = Path(__file__).parent / "figures"
"""Where pictures of the numbers are kept."""


class Options(NamedTuple):
    """What to measure.

    Attributes:
        peers: other systems too.
        quick: small sizes, to see that it works.
        lcbench: the directory of the LCBench surrogate; None: there is none.
        confirm: on the tasks that nobody tunes to.
    """

    peers: bool
    quick: bool
    lcbench: Path | None = None
    confirm: bool = False


class Table(NamedTuple):
    """Numbers side by side, measured in one run.

    Attributes:
        title: what was measured.
        note: how, and what was aimed at.
        columns: their headings; the first column names the system.
        rows: a text for each system, and numbers or None (not measured).
    """

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """The table under its title."""
        lines = [self.columns, ["---"] + ["--:"] * (len(self.columns) - 1), *(map(_cell, row) for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.title}\n\n{self.note}\n\n{table}\n"


def machine() -> str:
    """What the numbers depend on: the processor, how busy it is, and the disk."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} before the first measurement, {_sync_ms():.1f} ms to sync a file to disk."
    )


def _sync_ms() -> float:
    """What it costs to make a small write durable: the floor of every durable report."""
    with tempfile.NamedTemporaryFile() as file:
        begin = time.perf_counter()
        for _ in range(50):
            file.write(b"x" * 200)
            file.flush()
            os.fsync(file.fileno())
        return (time.perf_counter() - begin) / 50 * 1000


def _cell(value: Any) -> str:
    match value:
        case None:
            return "–"
        case float() if abs(value) < 100:
            return f"{value:.3g}"
        case int() | float():
            return f"{value:,.0f}"
        case _:
            return str(value)
