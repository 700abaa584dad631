"""The rungs of all brackets as a text table: how many trials reached each rung and how many were promoted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from rich.table import Table
from rich.text import Text

from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.ladder import BracketView, Ladder, RungView

_MOST_COLUMNS = 6
_WIDE_GAP, _CLOSE_GAP = 3, 2

Promotions: TypeAlias = Mapping[tuple[int, int], int]
"""Number of promoted trials, by the number of their bracket and the length of the rung that they left."""


def promotions(ladder: Ladder) -> Promotions:
    """Return how many trials of each rung have been promoted so far."""
    return {(bracket.number, rung.length): rung.promoted for bracket in ladder.brackets for rung in bracket.rungs}


def render_ladder(
    spec: ExperimentSpec, ladder: Ladder, *, width: int | None = None, moved: Promotions | None = None
) -> Table:
    """Return a table with one row per length, the longest first, and one column per bracket.

    Args:
        spec: spec of the experiment.
        ladder: trials at each rung.
        width: width of the table at most, or None for no limit. If it is too small, signs replace words, and if that
            is not enough, brackets are left out.
        moved: recent promotions to highlight, or None to leave no space for them.
    """
    for wide, most in _ways(min(_MOST_COLUMNS, len(ladder.brackets))):
        table, needed = _lay_out(spec, ladder, ladder.brackets[:most], moved, wide=wide)
        if width is None or needed <= width:
            break
    return table


def _ways(most: int) -> Iterable[tuple[bool, int]]:
    """Return the possible layouts, the widest first: whether with words, and the number of brackets."""
    return [(True, most), *((False, count) for count in range(most, 0, -1))]


def _lay_out(
    spec: ExperimentSpec, ladder: Ladder, shown: Sequence[BracketView], moved: Promotions | None, *, wide: bool
) -> tuple[Table, int]:
    """Return the table and its width."""
    gap = _WIDE_GAP if wide else _CLOSE_GAP
    lengths = sorted({length for bracket in shown for length in bracket.lengths}, reverse=True)
    open_ended = spec.search.open_ended
    labels = ("" if open_ended else str(spec.unit), *("the end" if open_ended else str(length) for length in lengths))
    columns = [[Text(label, "" if place else "bold") for place, label in enumerate(labels)]]
    for bracket in shown:
        title = f"bracket {bracket.number}: " if wide else f"#{bracket.number} "
        created = f"{bracket.created}/{bracket.planned}{' trials' if wide else ''}"
        columns.append([Text(title + created, "bold"), *(_cell(bracket, at, moved, wide=wide) for at in lengths)])
    if more := len(ladder.brackets) - len(shown):
        columns.append([Text(f"… and {more} more" if wide else f"… {more} more", "bold"), *(Text() for _ in lengths)])
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column[0], justify="left" if place else "right", no_wrap=True)
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*row)
    widths = [max(text.cell_len for text in column) for column in columns]
    return table, sum(widths) + gap * (len(columns) - 1)


def _cell(bracket: BracketView, length: int, moved: Promotions | None, *, wide: bool) -> Text:
    rung = next((rung for rung in bracket.rungs if rung.length == length), None)
    if rung is None:
        return Text("·", style="dim")
    just = None if moved is None else moved.get((bracket.number, length), 0)
    return _step(rung, just, last=rung is bracket.rungs[-1], wide=wide)


def _step(rung: RungView, just: int | None, *, last: bool, wide: bool) -> Text:
    text = Text()
    if not (rung.arrived or rung.failed or rung.training):
        return Text("   –", style="dim")
    text.append(f"{rung.arrived:>4}", style="green bold" if last and rung.arrived else "")
    if last:
        text.append(" finished" if wide else " ✓", style="green" if rung.arrived else "dim")
    else:
        promoted = f"{rung.promoted} ↑{just}" if just else str(rung.promoted)
        text.append(" → " if wide else "→", style="dim")
        text.append(f"{promoted:<{3 if just is None else 6}}", style="yellow bold" if just else "dim")
    if rung.audits:
        text.append(f" {rung.audits}{' audited' if wide else '◇'}", style="magenta")
    if rung.training:
        text.append(f" {len(rung.training)}{' training' if wide else '▸'}", style="cyan")
    if failed := rung.failed - rung.killed:
        text.append(f" {failed}{' failed' if wide else '✗'}", style="red")
    if rung.killed:
        text.append(f" {rung.killed}{' killed' if wide else '◆'}", style="red")
    return text
