"""Pictures of what scales and what is robust."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.robustness import DEVIATIONS, DROPS, MAX_LENGTH, METHODS, TIME, Case, Outcome

if TYPE_CHECKING:
    from benchmarks import scaling


def draw_scaling(found: Mapping[scaling.Case, scaling.Scale], sizes: Sequence[int], path: Path) -> None:
    """Speed-up of whole searches against the number of workers, a panel for each number of trials."""
    figure = new_figure(11, 4.2)
    panels = figure.subplots(1, len(sizes), sharex=True, sharey=True)
    colors = {search: f"C{n}" for n, search in enumerate(dict.fromkeys(case.search for case in found))}
    for panel, trials in zip(panels, sizes, strict=True):
        for search, color in colors.items():
            for straggling in (False, True):
                line = _line(found, search, straggling, trials)
                if not line:
                    continue
                alone = line[0].wall
                style = {"color": color, "linestyle": "--" if straggling else "-"}
                workers = [scale.workers for scale in line]
                panel.plot(workers, [alone / scale.wall for scale in line], **style, marker=".", linewidth=1.3)
                panel.plot(workers, [alone / scale.bound for scale in line], color=color, linewidth=0.5, alpha=0.6)
        panel.plot([1, 10_000], [1, 10_000], color="black", linestyle=":", linewidth=1)
        panel.set(xscale="log", yscale="log", title=f"{trials:,} trials", xlabel="workers")
        panel.grid(linewidth=0.3)
    panels[0].set_ylabel("speed-up of the whole search")
    entries = [Line2D([], [], color=color, label=search) for search, color in colors.items()]
    entries += [
        Line2D([], [], color="grey", label="no stragglers"),
        Line2D([], [], color="grey", linestyle="--", label="stragglers"),
        Line2D([], [], color="grey", linewidth=0.5, label="any schedule's bound"),
        Line2D([], [], color="black", linestyle=":", label="ideal"),
    ]
    figure.legend(handles=entries, loc="outside right center", frameon=False)
    save_figure(figure, path)


def _line(
    found: Mapping[scaling.Case, scaling.Scale], search: str, straggling: bool, trials: int
) -> list[scaling.Scale]:
    return [
        scale
        for case, scale in found.items()
        if (case.search, case.straggling, case.trials) == (search, straggling, trials)
    ]


def draw_robustness(found: Mapping[Case, Outcome], path: Path) -> None:
    """Trials trained to the end, and when the first was, against the probability of drops, as in the paper."""
    figure = new_figure(9.5, 3.8)
    panels = figure.subplots(1, 2)
    for color, deviation in enumerate(DEVIATIONS):
        for method in METHODS:
            outcomes = [found[Case(method, deviation, drop)] for drop in DROPS]
            style = {"color": f"C{color}", "linestyle": "-" if method == METHODS[0] else "--", "marker": "."}
            panels[0].plot(DROPS, [outcome.completed for outcome in outcomes], **style)
            panels[1].plot(DROPS, [outcome.first for outcome in outcomes], **style)
    panels[0].set_ylabel(f"configurations trained to R = {MAX_LENGTH} within {TIME:,.0f} time units")
    panels[1].set_ylabel("time until the first configuration is trained to R")
    for panel in panels:
        panel.set(xlabel="drop probability per time unit", ylim=0)
        panel.grid(linewidth=0.3)
    entries = [
        Line2D([], [], color="grey", linestyle="--" if number else "-", label=method)
        for number, method in enumerate(METHODS)
    ]
    entries += [
        Line2D([], [], color=f"C{color}", label=f"train std: {deviation:.2f}")
        for color, deviation in enumerate(DEVIATIONS)
    ]
    figure.legend(handles=entries, loc="outside right center", frameon=False)
    save_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    # The same numbers give the same file.
    mpl.rcParams.update({"svg.hashsalt": "ashwood", "svg.fonttype": "none", "font.size": 9})
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    print(f"  drawn: {path}", file=sys.stderr)
