"""Views as pictures: Plotly figures for notebooks, reports and pages alike, and films.

Rules of this room: what is drawn comes from views and from nothing else; drawing libraries
are optional extras and imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ashwood.experiment.decisions import Decision
from ashwood.experiment.events import Event
from ashwood.experiment.spec import ExperimentSpec
from ashwood.figures.axes import Against, Summary
from ashwood.figures.theme import DARK, LIGHT, Theme
from ashwood.views.chronicle import Chronicle, chronicle
from ashwood.views.curves import By
from ashwood.views.timeline import Timeline

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Record: TypeAlias = Iterable[tuple[float, Event, Sequence[Decision]]]
"""The entries of a log, in order."""


class Figures:
    """The figures of an experiment, each drawn from its record as that is when it is asked for.

    Each raises `AshwoodError` where plotly is not installed, or where it can't be drawn as it is asked for.
    """

    def __init__(self, spec: ExperimentSpec, read: Callable[[], Record], theme: Theme = LIGHT) -> None:
        """The figures of the experiment ``spec``, whose record ``read`` reads, in the colours of ``theme``."""
        self._spec = spec
        self._read = read
        self._theme = theme

    @property
    def dark(self) -> Figures:
        """The same on dark paper."""
        return Figures(self._spec, self._read, DARK)

    def ladder(self) -> Figure:
        """Brackets side by side, rungs as steps, every trial at its place, and who deserves to go on."""
        from ashwood.figures.ladder import draw_ladder

        return draw_ladder(self.told(), theme=self._theme)

    def best_so_far(self, against: Against = "time") -> Figure:
        """The best metric so far against the ``time`` it ran, ``trials`` created, or ``units`` of training."""
        from ashwood.figures.progress import draw_best_so_far

        return draw_best_so_far(self.told(), against=against, theme=self._theme)

    def learning_curves(
        self,
        top: int = 10,
        by: By = "metric",
        *,
        log_x: bool = False,
        log_y: bool = False,
        metric: str | None = None,
    ) -> Figure:
        """What trials reported, by training length.

        The first ``top`` of them by the searcher's ``metric`` or by ``length`` stand out; ``metric`` names another
        one to show.
        """
        from ashwood.figures.curves import draw_learning_curves

        return draw_learning_curves(
            self.told(), top=top, by=by, log_x=log_x, log_y=log_y, metric=metric, theme=self._theme
        )

    def parallel_coordinates(self) -> Figure:
        """Every trial as a line through all its hyperparameters to its metric."""
        from ashwood.figures.parallel import draw_parallel_coordinates

        return draw_parallel_coordinates(self.told(), theme=self._theme)

    def scatter(self, hparam: str | None = None) -> Figure:
        """One hyperparameter (the first, if none is named) against the metric."""
        from ashwood.figures.hparams import draw_scatter

        return draw_scatter(self.told(), hparam, theme=self._theme)

    def heatmap(self, x: str | None = None, y: str | None = None, *, summary: Summary = "best") -> Figure:
        """Two hyperparameters against the metric: the ``best`` or the ``mean`` of the results in each bin."""
        from ashwood.figures.hparams import draw_heatmap

        return draw_heatmap(self.told(), x, y, summary=summary, theme=self._theme)

    def importance(self) -> Figure:
        """Which hyperparameters decide whether a trial is among the best (PED-ANOVA)."""
        from ashwood.figures.importance import draw_importance

        return draw_importance(self.told(), theme=self._theme)

    def timeline(self) -> Figure:
        """Which worker worked on which trial and when, coloured by bracket and rung, and when it was idle."""
        from ashwood.figures.timeline import draw_timeline

        return draw_timeline(fold_timeline(self._spec, self._read()), theme=self._theme)

    def spending(self) -> Figure:
        """Where the budget went, by bracket and rung, beside what was to be expected; and the share of idle time."""
        from ashwood.figures.spending import draw_spending

        return draw_spending(self.told(), theme=self._theme)

    def told(self) -> Chronicle:
        """All that is drawn, as the record tells it now."""
        return chronicle(self._spec, self._read())


def compare(several: Mapping[str, Figures | Chronicle], *, against: Against = "time", theme: Theme = LIGHT) -> Figure:
    """The best so far of several experiments in one figure, by the names that they are to have.

    Raises:
        AshwoodError: they can't be drawn against that, or plotly is not installed.
    """
    from ashwood.figures.progress import draw_comparison

    known = {name: each.told() if isinstance(each, Figures) else each for name, each in several.items()}
    return draw_comparison(known, against=against, theme=theme)


def fold_timeline(spec: ExperimentSpec, record: Record) -> Timeline:
    """Who worked where and when, by a record."""
    timeline = Timeline(spec)
    for at, event, decisions in record:
        timeline.apply(at, event, decisions)
    return timeline
