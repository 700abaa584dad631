"""The ladder in text: brackets side by side, rungs as steps, how many arrived and how many went on."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.ladder import BracketView, Ladder, RungView

_MOST_COLUMNS = 6


def render_ladder(spec: ExperimentSpec, ladder: Ladder) -> Table:
    """A table with a row a length, the longest on top, and a column a bracket."""
    shown = ladder.brackets[:_MOST_COLUMNS]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column(str(spec.unit), justify="right")
    for bracket in shown:
        table.add_column(f"bracket {bracket.number}: {bracket.created}/{bracket.planned} trials")
    if len(shown) < len(ladder.brackets):
        table.add_column(f"… and {len(ladder.brackets) - len(shown)} more")
    for length in sorted({length for bracket in shown for length in bracket.lengths}, reverse=True):
        table.add_row(str(length), *(_cell(bracket, length) for bracket in shown))
    return table


def _cell(bracket: BracketView, length: int) -> Text:
    rung = next((rung for rung in bracket.rungs if rung.length == length), None)
    if rung is None:
        return Text("·", style="dim")
    return _step(rung, last=rung is bracket.rungs[-1])


def _step(rung: RungView, *, last: bool) -> Text:
    text = Text()
    if rung.arrived or rung.failed or rung.training:
        text.append(f"{rung.arrived:>4}", style="green bold" if last and rung.arrived else "")
        text.append(
            " finished" if last else f" → {rung.promoted:<3}", style="green" if last and rung.arrived else "dim"
        )
    else:
        text.append("   –", style="dim")
    if rung.training:
        text.append(f" {len(rung.training)} training", style="cyan")
    if rung.failed:
        text.append(f" {rung.failed} dropped out", style="red")
    return text
