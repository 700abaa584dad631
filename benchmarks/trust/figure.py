"""The figure of ``benchmarks.trust``: each method against random search, and the verdicts about each problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from ashwood.search.trust import Level
from benchmarks.plots import new_figure, save_figure

PLAIN = "random search, best last result"
RAY = "Ray Tune ASHA, best last result"

_COLORS = {Level.TRUSTWORTHY: "C2", Level.FROM_RUNG: "C1", Level.NOT_TRUSTWORTHY: "C3", Level.TOO_EARLY: "lightgrey"}


class Judgement(NamedTuple):
    """The verdicts about a problem.

    Attributes:
        problem: its name.
        truth: the right verdicts, or none if the problem is near a border.
        levels: the verdict of the search with each seed.
    """

    problem: str
    truth: frozenset[Level]
    levels: Sequence[Level]

    @property
    def right(self) -> int:
        """Number of right verdicts."""
        return sum(level in self.truth for level in self.levels)

    @property
    def alarms(self) -> int:
        """Number of verdicts that early stopping is not trustworthy."""
        return self.levels.count(Level.NOT_TRUSTWORTHY)


def difference(regrets: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the mean paired difference of two methods, and half the width of its 95 % interval."""
    differences = np.subtract(regrets, others)
    return float(differences.mean()), float(1.96 * differences.std(ddof=1) / np.sqrt(len(differences)))


def draw(
    compared: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], judgements: Sequence[Judgement], path: Path
) -> None:
    """Draw the regrets by source, method and problem, and the verdicts."""
    figure = new_figure(14, 9)
    panels = figure.subplots(1, 2)
    _draw_methods(panels[0], compared)
    _draw_verdicts(panels[1], judgements)
    for panel in panels:
        panel.invert_yaxis()
        panel.tick_params(axis="y", labelsize=8)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1.04), ncols=3)
    save_figure(figure, path)


def _draw_methods(panel: Axes, compared: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> None:
    names = [name for some in compared.values() for name in some[PLAIN]]
    methods = list(dict.fromkeys(method for some in compared.values() for method in some if method != PLAIN))
    for nth, method in enumerate(methods):
        pairs = [
            (names.index(name), *difference(regrets, some[PLAIN][name]))
            for some in compared.values()
            for name, regrets in some.get(method, {}).items()
        ]
        at, means, errors = np.transpose(pairs)
        places = at + 0.7 * ((nth + 0.5) / len(methods) - 0.5)
        color, mark = ("black", "x") if method == RAY else (f"C{nth}", "o")
        panel.errorbar(means, places, xerr=errors, fmt=mark, color=color, label=method, markersize=4, elinewidth=0.8)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set(yticks=range(len(names)), yticklabels=names, title="Regret of the recommended setting")
    panel.set_xlabel(f"difference to {PLAIN} (95 % interval)")
    panel.grid(axis="x", linewidth=0.3)


def _draw_verdicts(panel: Axes, judgements: Sequence[Judgement]) -> None:
    before = np.zeros(len(judgements))
    for level, color in _COLORS.items():
        shares = np.array([100 * each.levels.count(level) / len(each.levels) for each in judgements])
        panel.barh(range(len(judgements)), shares, left=before, color=color, label=_words(level))
        before += shares
    truths = [" or ".join(sorted(map(_words, each.truth))) or "near a border" for each in judgements]
    labels = [f"{each.problem} ({truth})" for each, truth in zip(judgements, truths, strict=True)]
    panel.set(yticks=range(len(judgements)), yticklabels=labels, xlim=(0, 100), xlabel="% of searches")
    panel.set_title("Verdicts after 30 % of the budget (in brackets: the truth)")


def _words(level: Level) -> str:
    return level.replace("_", " ")
