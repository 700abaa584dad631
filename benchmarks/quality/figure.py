"""Regret against time, a panel for each number of workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import NullFormatter

from benchmarks.plots import new_figure, save_figure
from benchmarks.quality import ours, theirs
from benchmarks.quality.measure import GRID, TRAININGS, Score

_POINTS = 125
"""How many points a line has: a file small enough to keep, and more than the eye can tell."""

_TICKS = (1, 2, 5, 10, 20, 50, 100)


def draw(found: Mapping[int, Mapping[str, Score]], path: Path) -> None:
    """Draw the scores by the number of workers."""
    figure = new_figure(13, 4.6)
    panels = figure.subplots(1, len(found))
    at = np.linspace(0, GRID, _POINTS + 1).round().astype(int)
    for panel, (workers, scores) in zip(panels, found.items(), strict=True):
        for name, score in scores.items():
            panel.plot(100 * at / GRID, score.regret[at], label=_label(name), **_style(name))
        panel.set_title(f"{workers} workers, {TRAININGS[workers]} trainings to the end")
        panel.set_xlabel("% of the budget")
        panel.set_xlim(0, 100)
        panel.set_yscale("log")
        panel.set_ylim(top=100)
        panel.set_yticks([ticks for ticks in _TICKS if ticks >= panel.get_ylim()[0]], minor=False)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(which="both", linewidth=0.3)
    panels[0].set_ylabel("mean regret; 100: the median setting")
    names, lines = panels[0].get_legend_handles_labels()[::-1]
    figure.legend(lines, names, loc="outside right center", frameon=False)
    save_figure(figure, path)


def _label(method: str) -> str:
    return f"Ashwood {method}" if method in ours.TOURNAMENTS else method


def _style(name: str) -> dict[str, object]:
    """Ours drawn through, what anybody can do by hand dotted, others' dashed."""
    if name in ours.TOURNAMENTS:
        return {"color": f"C{list(ours.TOURNAMENTS).index(name)}", "linewidth": 1.6}
    for number, peer in enumerate(theirs.PEERS):
        if peer.name == name:
            return {"color": mpl.colormaps["Dark2"](number), "linestyle": "--", "linewidth": 1.1}
    return {"color": "black" if name == "random" else "grey", "linestyle": ":", "linewidth": 1.6}
