"""Draws views as Plotly figures, for notebooks, reports and the dashboard, and as animations.

Figures show data of views only.  Drawing libraries are optional extras, so they are imported
when a figure is drawn and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.spec import ExperimentSpec
from ashwood.figures.axes import Against, Scale, Summary
from ashwood.figures.theme import DARK, LIGHT, Theme
from ashwood.views.curves import By
from ashwood.views.history import History

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Figures:
    """The figures of one experiment.

    Each method reads the event log and draws its current state.  Each raises `AshwoodError` if plotly is not
    installed or if an argument is not valid for the experiment.

    Example::

        experiment = ashwood.open_experiment(1)
        experiment.figures.ladder().show()
    """

    def __init__(self, spec: ExperimentSpec, read: Callable[[], Iterable[Entry]], theme: Theme = LIGHT) -> None:
        """Set what to draw.

        Args:
            spec: the experiment.
            read: reads the entries of its event log from the beginning.
            theme: the colours.
        """
        self._spec = spec
        self._read = read
        self._theme = theme

    @property
    def dark(self) -> Figures:
        """The same figures in colours for a dark background."""
        return Figures(self._spec, self._read, DARK)

    def ladder(self, *, counts: bool = False) -> Figure:
        """Return a figure of the rungs of each bracket, with every trial at its rung and the trials to promote.

        With ``counts``, it shows only the number of trials at each rung, which is readable on a phone.
        """
        return self._draw("ladder", counts=counts)

    def best_so_far(self, against: Against = "time", *, log_y: bool | None = None, zoom: bool = False) -> Figure:
        """Return a figure of the best metric so far against run ``time``, ``trials`` created or ``units`` trained.

        The axis of metrics is logarithmic with ``log_y``, and by default if they are positive and spread over 10:1.
        With ``zoom``, only the best tenth of the results is shown.  Other figures have these options, too.
        """
        return self._draw("best_so_far", against=against, log_y=log_y, zoom=zoom)

    def learning_curves(
        self,
        top: int = 10,
        by: By = "metric",
        *,
        log_x: bool = False,
        log_y: bool | None = None,
        zoom: bool = False,
        metric: str | None = None,
        smooth: int = 0,
        group: str | None = None,
        stopped: bool = True,
    ) -> Figure:
        """Return a figure of the reports of trials by training length.

        Args:
            top: number of trials to emphasize, from 1 to 100; others are faint.
            by: what these trials are chosen by: ``metric``, the searcher's, or ``length``, the longest trained.
            log_x: whether the axis of lengths is logarithmic.
            log_y: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
            zoom: whether to show only the best tenth of the values.
            metric: name of the metric to show, by default the searcher's.
            smooth: weight of the earlier values in a moving average, in percent from 0 to 99.
            group: name of a hyperparameter; the figure then shows the mean of the trials for each of its values.
            stopped: whether to include trials that the search has stopped.
        """
        return self._draw(
            "learning_curves",
            top=top,
            by=by,
            log_x=log_x,
            log_y=log_y,
            zoom=zoom,
            metric=metric,
            smooth=smooth,
            group=group,
            stopped=stopped,
        )

    def parallel_coordinates(self, *, log_metric: bool | None = None) -> Figure:
        """Return a figure with each trial as a line through its hyperparameters to its metric."""
        return self._draw("parallel_coordinates", log_metric=log_metric)

    def scatter(self, hparam: str | None = None, *, log_y: bool | None = None, zoom: bool = False) -> Figure:
        """Return a scatter plot of the metric against the hyperparameter named, by default the most important."""
        return self._draw("scatter", hparam=hparam, log_y=log_y, zoom=zoom)

    def heatmap(
        self, x: str | None = None, y: str | None = None, *, summary: Summary = "best", log_metric: bool | None = None
    ) -> Figure:
        """Return a heat map of the metric over two hyperparameters, by default the most important.

        A cell shows the ``best`` or the ``mean`` of its results.  With ``log_metric``, its colours are logarithmic.
        """
        return self._draw("heatmap", x=x, y=y, summary=summary, log_metric=log_metric)

    def importance(self) -> Figure:
        """Return a figure of how much each hyperparameter decides whether a trial is among the best (PED-ANOVA)."""
        return self._draw("importance")

    def timeline(self) -> Figure:
        """Return a figure of which trial each worker trained when, and when workers were idle."""
        return self._draw("timeline")

    def trust(self, pair: str | None = None, by: Scale = "rank") -> Figure:
        """Return a scatter plot of trials that were compared at two rungs: does the lower one predict the higher one?

        Args:
            pair: the rungs, such as ``0-1``, or ``1:0-1`` for those of bracket 1; by default the first two.
            by: what is shown: the ``rank`` of each trial at the two rungs, or its ``metric``.
        """
        return self._draw("trust", pair=pair, by=by)

    def spending(self) -> Figure:
        """Return a figure of the training spent and expected per bracket and rung, and the share of idle time."""
        return self._draw("spending")

    def history(self) -> History:
        """Return the views of the experiment, folded from the current event log."""
        return fold(History(self._spec), self._read())

    def _draw(self, name: str, **options: str | float | None) -> Figure:
        from ashwood.figures.registry import draw

        return draw(name, self.history(), options, theme=self._theme)


def compare(
    several: Mapping[str, Figures | History],
    *,
    against: Against = "units",
    log_y: bool | None = None,
    zoom: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Return one figure of the best metric so far of several experiments.

    Args:
        several: the experiments by the names that they get in the legend.
        against: the x-axis: run ``time``, ``trials`` created or ``units`` of training.
        log_y: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
        zoom: whether to show only the best tenth of the improvements.
        theme: the colours.

    Raises:
        AshwoodError: ``against`` is not valid for these experiments, or plotly is not installed.
    """
    from ashwood.figures.progress import draw_comparison

    histories = {name: each.history() if isinstance(each, Figures) else each for name, each in several.items()}
    return draw_comparison(histories, against=against, log_y=log_y, zoom=zoom, theme=theme)
