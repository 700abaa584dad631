"""Printed output of the command line: tables for people, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markdown import Markdown
from rich.segment import Segment

from ashwood.errors import AshwoodError
from ashwood.terminal.text import brief, on_one_line, printable, say
from ashwood.terminal.text import cut as shortened
from ashwood.views.table import to_json
from ashwood.views.wording import format_duration, format_value

# If the output is a file or a pipe, tables are this wide, so that nothing is cut.
_PIPE_WIDTH = 400
_LONGEST_CELL = 1_000
_LONGEST_HEADER = 60
_NARROWEST = 4
_CUT = 20
"""Width to which cells are cut rather than that columns are left out."""
_GAP = "  "
_CHUNK = 1_000
"""Lines that are written in one call."""


class _Console(Console):
    """A console that replaces control characters in texts; its own escape sequences stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object to segments of text without control characters."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def make_console() -> Console:
    """Return a console on standard output that doesn't fold lines unless it is a terminal."""
    console = _Console(highlight=False)
    return console if console.is_terminal else _Console(highlight=False, width=_PIPE_WIDTH)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Raise an AshwoodError if the body cannot write the file or directory ``out``."""
    try:
        yield
    except OSError as error:
        raise AshwoodError(f"cannot write {out}: {error.strerror or error}") from error


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Iterable[str] = (),
    cut: Iterable[str] = (),
    least: int | None = None,
) -> int:
    """Print a plain table with a line for each row, fast enough for 100,000 rows.

    Args:
        columns: the headers.
        rows: the cells.
        right: columns that are aligned to the right.
        cut: columns whose cells are cut if the table is wider than the terminal; all other cells stay whole.
        least: number of first columns that stay if the table is wider than the terminal; others that do not fit are
            left out.  None: all stay.

    Returns:
        The number of columns that were left out.
    """
    lines = [[brief(column, _LONGEST_HEADER) for column in columns]]
    lines += (list(map(_cell, row)) for row in rows)
    widths = [max(map(_width, cells)) for cells in zip(*lines, strict=True)]
    cuttable, numeric = set(cut), set(right)
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - make_console().width
    kept = len(widths)
    # Columns whose cells can be cut need little room before other columns are left out.
    spare = sum(max(0, width - _CUT) for width, column in zip(widths, columns, strict=True) if column in cuttable)
    while least is not None and excess > spare and kept > least:
        kept -= 1
        excess -= widths[kept] + len(_GAP)
    for place, column in enumerate(columns[:kept]):
        if column in cuttable and excess > 0:
            narrowed = max(_NARROWEST, widths[place] - excess)
            excess -= widths[place] - narrowed
            widths[place] = narrowed
    layout = [(width, column in numeric) for width, column in zip(widths, columns, strict=True)][:kept]
    for begin, end in pairwise([0, *range(1, len(lines), _CHUNK), len(lines)]):
        texts = (_GAP.join(map(_aligned, line[:kept], layout)).rstrip() for line in lines[begin:end])
        say("\n".join(texts), bold=begin == 0)
    return len(widths) - kept


def _cell(value: Any) -> str:
    text = format_value(value)
    return text if isinstance(value, int | float) else on_one_line(text[:_LONGEST_CELL])


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _aligned(text: str, layout: tuple[int, bool]) -> str:
    """Pad a text to the width of its column; ``layout`` is the width, and whether to align to the right."""
    width, right = layout
    missing = width - _width(text)
    if missing < 0:
        return _aligned(shortened(text, width), layout)
    return " " * missing + text if right else text + " " * missing


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print comma-separated values with a line of column names; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    say(text.getvalue(), nl=False)


def print_json(data: Any) -> None:
    """Print strict JSON: NaN and infinities become null, and unprintable characters are escaped."""
    utf = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(to_json(data), indent=2, ensure_ascii=not utf)
    print("".join(f"\\u{ord(each):04x}" if printable(each) != each else each for each in text) if utf else text)


def print_markdown(text: str) -> None:
    """Print a Markdown text, rendered on a terminal and unchanged otherwise."""
    console = make_console()
    if console.is_terminal:
        console.print(Markdown(text, hyperlinks=False))
    else:
        say(text)


def wrote_or_replaced(out: Path) -> str:
    """Return the first word of the line about a file that will be written: whether it replaces one."""
    return "Replaced" if out.exists() else "Wrote"


def tell(text: str, *, json: bool, **data: Any) -> None:
    """Print what a command did: as a sentence, or its data as a JSON object."""
    if json:
        print_json(data)
    else:
        say(text, wrap=True)


def format_moment(seconds: float) -> str:
    """Return a duration that may be very short: ``0``, ``12 ms``, ``5 s``."""
    if not seconds:
        return "0"
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else format_duration(seconds).replace(".0 s", " s")


def near(place: str) -> str:
    """Return a path from the current directory if that is shorter; a URL stays."""
    return place if "://" in place else min(place, os.path.relpath(place), key=len)


def format_ago(at: float, now: float) -> str:
    """Return how long ago a time is, such as ``17 min ago``."""
    seconds = max(now - at, 0.0)
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit} ago"
    return "just now"


def format_time(at: float | None) -> str:
    """Return a time in the local time zone, or – if it is None."""
    return "–" if at is None else datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
