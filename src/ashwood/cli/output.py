"""How the command line prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from ashwood.views.table import flatten as flatten
from ashwood.views.table import to_json as to_json
from ashwood.views.wording import format_capacity as format_capacity
from ashwood.views.wording import format_duration as format_duration
from ashwood.views.wording import format_length as format_length
from ashwood.views.wording import format_size as format_size
from ashwood.views.wording import format_value as format_value

# Wide enough that nothing is cut when the reader is a file or a pipe.
_PIPE_WIDTH = 400


def make_console(*, stderr: bool = False, wide: bool = False) -> Console:
    """A console on standard output, which doesn't fold lines where the reader is no terminal, or if ``wide``."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal and not wide else Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> Table:
    """A plain table; the columns named in ``right`` are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numeric = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(format_value(value) for value in row))
    return table


def print_json(data: Any) -> None:
    """Strict JSON: NaN and infinities, which JSON has not, become null."""
    print(json.dumps(to_json(data), indent=2, ensure_ascii=False))


def format_moment(seconds: float) -> str:
    """The same for what may be over in a moment: 0, 12 ms, 5 s."""
    if not seconds:
        return "0"
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else format_duration(seconds).replace(".0 s", " s")


def format_time(at: float | None) -> str:
    """A time in the zone of the reader."""
    return "–" if at is None else datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def on_one_line(text: str) -> str:
    """Text without line breaks and without control characters, which could do anything to a terminal."""
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))
