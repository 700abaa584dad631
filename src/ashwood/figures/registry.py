"""The list of all figures and their options, for the dashboard and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ashwood.errors import AshwoodError, did_you_mean
from ashwood.figures.axes import AGAINST, SCALES, SUMMARIES
from ashwood.figures.curves import MOST, draw_learning_curves
from ashwood.figures.hparams import draw_heatmap, draw_scatter
from ashwood.figures.importance import draw_importance
from ashwood.figures.ladder import draw_ladder
from ashwood.figures.parallel import draw_parallel_coordinates
from ashwood.figures.progress import draw_best_so_far
from ashwood.figures.spending import draw_spending
from ashwood.figures.theme import LIGHT, Theme
from ashwood.figures.timeline import draw_timeline
from ashwood.figures.trust import draw_trust
from ashwood.views.curves import BY
from ashwood.views.history import History
from ashwood.views.hparams import varied

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


# Words of the options that several figures have.
_LOG, _ZOOM = "Log y", "Zoom to best 10%"


class OptionKind(StrEnum):
    """The kind of value that an option takes."""

    CHOICE = "choice"
    FLAG = "flag"
    NUMBER = "number"
    METRIC = "metric"
    """One of the metrics that trials have reported."""
    HPARAM = "hparam"
    """One of the hyperparameters that the search varies."""
    RUNGS = "rungs"
    """Two rungs of a bracket."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a figure.

    Attributes:
        name: name in the Python API and in addresses.
        title: label in the dashboard.
        kind: kind of its values.
        default: value if none is given; None lets the figure choose.
        choices: allowed values of a choice; values that a page offers for a number.
        least: smallest allowed number.
        most: largest allowed number.
    """

    name: str
    title: str
    kind: OptionKind
    default: str | int | bool | None = None
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int = 1

    def allowed(self, history: History) -> Sequence[str] | None:
        """Return the allowed values for an experiment, or None for a number or a flag."""
        match self.kind:
            case OptionKind.CHOICE:
                return self.choices
            case OptionKind.HPARAM:
                return [each.name for each in varied(history.spec.space)]
            case OptionKind.METRIC:
                return metrics_of(history)
            case OptionKind.RUNGS:
                return [str(pair) for pair in history.progress.trust.pairs()]
        return None

    def read(self, value: str | float | None, history: History) -> str | int | bool | None:
        """Return a value as the figure's function takes it; an empty one gives the default.

        Args:
            value: the value as written in an address or passed by a program.
            history: the views of the experiment.

        Raises:
            AshwoodError: the value is not allowed.
        """
        if value is None or value == "":
            return self.default
        match self.kind:
            case OptionKind.FLAG:
                return self._flag(value)
            case OptionKind.NUMBER:
                return self._number(value)
        allowed = self.allowed(history) or ()
        if value not in allowed:
            hint = did_you_mean(str(value), allowed)
            raise AshwoodError(f"{self.name}: there is no {value!r}{hint}; there are: {', '.join(allowed) or 'none'}")
        return str(value)

    def _flag(self, value: str | float) -> bool:
        found = _FLAGS.get(str(value).lower())
        if found is None:
            raise AshwoodError(f"{self.name}: expected true or false, not {value!r}")
        return found

    def _number(self, value: str | float) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = self.least - 1
        if not self.least <= number <= self.most:
            raise AshwoodError(f"{self.name}: expected a number from {self.least} to {self.most}, not {value!r}")
        return number


_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class RegisteredFigure:
    """A kind of figure that can be drawn for any experiment.

    Attributes:
        name: name in the Python API and in addresses.
        title: label in the dashboard.
        about: what it shows, in one line.
        function: returns the figure for the views of an experiment, with options and a theme as keyword arguments.
        options: its options.
        needs_history: whether it needs the reports of each trial, and not only the progress.
    """

    name: str
    title: str
    about: str
    function: Callable[..., Figure]
    options: tuple[Option, ...] = ()
    needs_history: bool = False


FIGURES: Mapping[str, RegisteredFigure] = {
    kind.name: kind
    for kind in (
        RegisteredFigure(
            "ladder",
            "Ladder",
            "every trial at its rung, and the trials that may be promoted",
            draw_ladder,
            (Option("counts", "Counts only", OptionKind.FLAG, False),),
        ),
        RegisteredFigure(
            "best_so_far",
            "Best so far",
            "the best metric by time, trials or training",
            draw_best_so_far,
            (
                Option("against", "x-axis", OptionKind.CHOICE, "time", AGAINST),
                Option("log_y", _LOG, OptionKind.FLAG),
                Option("zoom", _ZOOM, OptionKind.FLAG, False),
            ),
        ),
        RegisteredFigure(
            "learning_curves",
            "Learning curves",
            "reports of the top trials by training length",
            draw_learning_curves,
            (
                Option("top", "Trials", OptionKind.NUMBER, 10, least=1, most=MOST),
                Option("by", "Top trials by", OptionKind.CHOICE, "metric", BY),
                Option("metric", "Metric", OptionKind.METRIC),
                Option("group", "Group by", OptionKind.HPARAM),
                Option("smooth", "Smoothing %", OptionKind.NUMBER, 0, ("0", "50", "80", "90", "95"), least=0, most=99),
                Option("stopped", "Stopped trials", OptionKind.FLAG, True),
                Option("log_x", "Log x", OptionKind.FLAG, False),
                Option("log_y", _LOG, OptionKind.FLAG),
                Option("zoom", _ZOOM, OptionKind.FLAG, False),
            ),
            needs_history=True,
        ),
        RegisteredFigure(
            "parallel_coordinates",
            "Parallel coordinates",
            "all hyperparameters of each trial and its metric",
            draw_parallel_coordinates,
            (Option("log_metric", "Log metric", OptionKind.FLAG),),
        ),
        RegisteredFigure(
            "scatter",
            "Metric by hyperparameter",
            "each trial's result by one hyperparameter",
            draw_scatter,
            (
                Option("hparam", "Hyperparameter", OptionKind.HPARAM),
                Option("log_y", _LOG, OptionKind.FLAG),
                Option("zoom", _ZOOM, OptionKind.FLAG, False),
            ),
        ),
        RegisteredFigure(
            "heatmap",
            "Metric by two hyperparameters",
            "best or mean result by two hyperparameters",
            draw_heatmap,
            (
                Option("x", "x", OptionKind.HPARAM),
                Option("y", "y", OptionKind.HPARAM),
                Option("summary", "Each cell shows", OptionKind.CHOICE, "best", SUMMARIES),
                Option("log_metric", "Log metric", OptionKind.FLAG),
            ),
        ),
        RegisteredFigure(
            "importance",
            "Importance",
            "how much each hyperparameter decides whether a trial is among the best",
            draw_importance,
        ),
        RegisteredFigure(
            "timeline", "Workers", "which trial each worker trained when, and when workers were idle", draw_timeline
        ),
        RegisteredFigure(
            "trust",
            "Trust in early stopping",
            "results at one rung against results at a later one",
            draw_trust,
            (
                Option("pair", "Rungs", OptionKind.RUNGS),
                Option("by", "Show", OptionKind.CHOICE, "rank", SCALES),
            ),
        ),
        RegisteredFigure("spending", "Budget", "training spent and expected per rung, and worker time", draw_spending),
    )
}
"""All figures by name, in the order of the dashboard."""


def draw(name: str, history: History, options: Mapping[str, Any] | None = None, *, theme: Theme = LIGHT) -> Figure:
    """Return a figure by its name.

    Args:
        name: one of `FIGURES`.
        history: the views of the experiment.
        options: values by the names of options, as written in an address or passed by a program.
        theme: the colours.

    Raises:
        AshwoodError: there is no such figure, option or value, or a library is not installed.
    """
    kind = FIGURES.get(name)
    if kind is None:
        raise AshwoodError(f"there is no figure {name!r}{did_you_mean(name, FIGURES)}; there are: {', '.join(FIGURES)}")
    unread = dict(options or {})
    values = {option.name: option.read(unread.pop(option.name, None), history) for option in kind.options}
    if unread:
        known = ", ".join(option.name for option in kind.options) or "none"
        raise AshwoodError(f"figure {name}: there is no option {next(iter(unread))!r}; there are: {known}")
    return kind.function(history, **values, theme=theme)


def describe(history: History) -> list[dict[str, Any]]:
    """Return all figures and their options, with the allowed values for an experiment, as JSON-able data."""
    return [
        {
            "name": kind.name,
            "title": kind.title,
            "about": kind.about,
            "options": [
                {
                    "name": option.name,
                    "title": option.title,
                    "kind": str(option.kind),
                    "default": option.default,
                    "allowed": None if (allowed := option.allowed(history)) is None else list(allowed),
                    **(
                        {"least": option.least, "most": option.most, "offered": [int(each) for each in option.choices]}
                        if option.kind is OptionKind.NUMBER
                        else {}
                    ),
                }
                for option in kind.options
            ],
        }
        for kind in FIGURES.values()
    ]


def metrics_of(history: History) -> list[str]:
    """Return the names of all reported metrics, the searcher's first."""
    rows = history.progress.trials.rows.values()
    found = dict.fromkeys([history.spec.metric, *(name for row in rows for name in row.metrics)])
    return list(found)
