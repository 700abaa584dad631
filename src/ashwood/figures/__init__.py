"""Views as pictures: Plotly figures for notebooks, reports and pages alike, and films.

Rules of this room: what is drawn comes from views and from nothing else; drawing libraries
are optional extras and imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ashwood.experiment.decisions import Decision
from ashwood.experiment.events import Event
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.timeline import Timeline

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Record: TypeAlias = Iterable[tuple[float, Event, Sequence[Decision]]]
"""The entries of a log, in order."""


class Figures:
    """The figures of an experiment, each drawn from its record as that is when it is asked for."""

    def __init__(self, spec: ExperimentSpec, read: Callable[[], Record]) -> None:
        """The figures of the experiment ``spec``, whose record ``read`` reads."""
        self._spec = spec
        self._read = read

    def timeline(self) -> Figure:
        """Which worker worked on which trial and when, coloured by bracket and rung, and when it was idle.

        Raises:
            AshwoodError: plotly is not installed.
        """
        from ashwood.figures.timeline import draw_timeline

        return draw_timeline(fold_timeline(self._spec, self._read()))


def fold_timeline(spec: ExperimentSpec, record: Record) -> Timeline:
    """Who worked where and when, by a record."""
    timeline = Timeline(spec)
    for at, event, decisions in record:
        timeline.apply(at, event, decisions)
    return timeline
