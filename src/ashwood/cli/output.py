"""How the command line prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ashwood.cli.text import brief, on_one_line, printable
from ashwood.views.table import flatten as flatten
from ashwood.views.table import to_json as to_json
from ashwood.views.wording import format_capacity as format_capacity
from ashwood.views.wording import format_duration as format_duration
from ashwood.views.wording import format_length as format_length
from ashwood.views.wording import format_size as format_size
from ashwood.views.wording import format_value as format_value

# Wide enough that nothing is cut when the reader is a file or a pipe.
_PIPE_WIDTH = 400
_LONGEST_CELL = 1_000
_LONGEST_HEADER = 60


class _Console(Console):
    """A console that prints no control characters but its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to segments, whose texts are without control characters."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def make_console(*, stderr: bool = False, wide: bool = False) -> Console:
    """A console on standard output, which doesn't fold lines where the reader is no terminal, or if ``wide``."""
    console = _Console(stderr=stderr, highlight=False)
    return console if console.is_terminal and not wide else _Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = (), cut: Iterable[str] = ()
) -> Table:
    """A plain table.

    Args:
        columns: the headers.
        rows: the cells, of which each is one line.
        right: columns that are aligned to the right.
        cut: columns whose cells are cut where the table is too wide; if there are any, no other cell is folded.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numeric, cuttable = set(right), set(cut)
    for column in columns:
        table.add_column(
            Text(brief(column, _LONGEST_HEADER)),
            justify="right" if column in numeric else "left",
            overflow="fold",
            no_wrap=bool(cuttable) and column not in cuttable,
        )
    for row in rows:
        cells = [Text(on_one_line(format_value(value)[:_LONGEST_CELL])) for value in row]
        for column, cell in zip(columns, cells, strict=True):
            if column in cuttable:
                cell.no_wrap, cell.overflow = True, "ellipsis"
        table.add_row(*cells)
    return table


def print_json(data: Any) -> None:
    """Strict JSON: NaN and infinities, which JSON has not, become null; what can't be printed is escaped."""
    utf = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(to_json(data), indent=2, ensure_ascii=not utf)
    print("".join(f"\\u{ord(each):04x}" if printable(each) != each else each for each in text) if utf else text)


def format_moment(seconds: float) -> str:
    """The same for what may be over in a moment: 0, 12 ms, 5 s."""
    if not seconds:
        return "0"
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else format_duration(seconds).replace(".0 s", " s")


def format_time(at: float | None) -> str:
    """A time in the zone of the reader."""
    return "–" if at is None else datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
