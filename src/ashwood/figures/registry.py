"""The one list of figures: for pages, reports and whoever else shows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ashwood.errors import AshwoodError
from ashwood.figures.axes import AGAINST, SUMMARIES
from ashwood.figures.curves import MOST, draw_learning_curves
from ashwood.figures.hparams import draw_heatmap, draw_scatter
from ashwood.figures.importance import draw_importance
from ashwood.figures.ladder import draw_ladder
from ashwood.figures.parallel import draw_parallel_coordinates
from ashwood.figures.progress import draw_best_so_far
from ashwood.figures.spending import draw_spending
from ashwood.figures.theme import LIGHT, Theme
from ashwood.figures.timeline import draw_timeline
from ashwood.views.chronicle import Chronicle
from ashwood.views.curves import BY
from ashwood.views.hparams import varied

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class OptionKind(StrEnum):
    """What an option is."""

    CHOICE = "choice"
    FLAG = "flag"
    NUMBER = "number"
    METRIC = "metric"
    """One of the metrics that trials have reported."""
    HPARAM = "hparam"
    """One of the hyperparameters that the search varies."""


@dataclass(frozen=True, slots=True)
class Option:
    """How a figure can be drawn otherwise.

    Attributes:
        name: as programs write it.
        title: as people read it.
        kind: what its values are.
        default: what holds if nothing is said; None: the figure chooses.
        choices: of a choice.
        least: of a number.
        most: of a number.
    """

    name: str
    title: str
    kind: OptionKind
    default: str | int | bool | None = None
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int = 1

    def allowed(self, told: Chronicle) -> Sequence[str] | None:
        """The values that there are, for this experiment; None: any number from ``least`` to ``most``, or a flag."""
        match self.kind:
            case OptionKind.CHOICE:
                return self.choices
            case OptionKind.HPARAM:
                return [each.name for each in varied(told.spec.space)]
            case OptionKind.METRIC:
                return metrics_of(told)
        return None

    def read(self, value: str | float | None, told: Chronicle) -> str | int | bool | None:
        """A value as the figure takes it, from what was written in an address or a file.

        Raises:
            AshwoodError: there is no such value.
        """
        if value is None or value == "":
            return self.default
        match self.kind:
            case OptionKind.FLAG:
                return self._flag(value)
            case OptionKind.NUMBER:
                return self._number(value)
        allowed = self.allowed(told) or ()
        if value not in allowed:
            near = get_close_matches(str(value), allowed, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
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
class Kind:
    """A figure that can be drawn of any experiment.

    Attributes:
        name: as programs write it.
        title: as people read it.
        about: what it shows, in a line.
        function: draws it: of a chronicle, with options and a theme by name.
        options: how it can be drawn otherwise.
        needs_history: whether it shows the history of trials, and not only the progress.
    """

    name: str
    title: str
    about: str
    function: Callable[..., Figure]
    options: tuple[Option, ...] = ()
    needs_history: bool = False


def _timeline(told: Chronicle, *, theme: Theme = LIGHT) -> Figure:
    return draw_timeline(told.timeline, theme=theme)


FIGURES: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("ladder", "Ladder", "every trial at its rung, and who deserves to go on", draw_ladder),
        Kind(
            "best_so_far",
            "Best so far",
            "the best metric against time, trials or training",
            draw_best_so_far,
            (Option("against", "against", OptionKind.CHOICE, "time", AGAINST),),
        ),
        Kind(
            "learning_curves",
            "Learning curves",
            "what the first trials reported while they trained",
            draw_learning_curves,
            (
                Option("top", "trials", OptionKind.NUMBER, 10, least=1, most=MOST),
                Option("by", "first by", OptionKind.CHOICE, "metric", BY),
                Option("metric", "shown", OptionKind.METRIC),
                Option("log_x", "logarithmic lengths", OptionKind.FLAG, False),
                Option("log_y", "logarithmic values", OptionKind.FLAG, False),
            ),
            needs_history=True,
        ),
        Kind(
            "parallel_coordinates",
            "Parallel coordinates",
            "all hyperparameters of each trial and what came of them",
            draw_parallel_coordinates,
        ),
        Kind(
            "scatter",
            "One hyperparameter",
            "a hyperparameter against the metric",
            draw_scatter,
            (Option("hparam", "hyperparameter", OptionKind.HPARAM),),
        ),
        Kind(
            "heatmap",
            "Two hyperparameters",
            "two hyperparameters against the metric",
            draw_heatmap,
            (
                Option("x", "across", OptionKind.HPARAM),
                Option("y", "up", OptionKind.HPARAM),
                Option("summary", "of each bin", OptionKind.CHOICE, "best", SUMMARIES),
            ),
        ),
        Kind("importance", "Importance", "which hyperparameters decide who is among the best", draw_importance),
        Kind("timeline", "Workers", "who trained what and when, and who was idle", _timeline),
        Kind("spending", "Budget", "where training and time went, beside what was expected", draw_spending),
    )
}
"""By their names, in the order in which they are shown."""


def kind_of(name: str) -> Kind:
    """The figure of a name.

    Raises:
        AshwoodError: there is none.
    """
    if name in FIGURES:
        return FIGURES[name]
    near = get_close_matches(name, FIGURES, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise AshwoodError(f"there is no figure {name!r}{hint}; there are: {', '.join(FIGURES)}")


def draw(name: str, told: Chronicle, options: Mapping[str, Any] | None = None, *, theme: Theme = LIGHT) -> Figure:
    """A figure by its name, with options as somebody wrote them.

    Raises:
        AshwoodError: there is no such figure, option or value, or a library that it takes is not installed.
    """
    kind = kind_of(name)
    given = dict(options or {})
    values = {option.name: option.read(given.pop(option.name, None), told) for option in kind.options}
    if given:
        known = ", ".join(option.name for option in kind.options) or "none"
        raise AshwoodError(f"figure {name}: there is no option {next(iter(given))!r}; there are: {known}")
    return kind.function(told, **values, theme=theme)


def describe(told: Chronicle) -> list[dict[str, Any]]:
    """All figures and their options, with the values that there are for this experiment, as JSON-able data."""
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
                    "allowed": None if (allowed := option.allowed(told)) is None else list(allowed),
                    **({"least": option.least, "most": option.most} if option.kind is OptionKind.NUMBER else {}),
                }
                for option in kind.options
            ],
        }
        for kind in FIGURES.values()
    ]


def metrics_of(told: Chronicle) -> list[str]:
    """What trials have reported, the searcher's metric first."""
    rows = told.progress.trials.rows.values()
    found = dict.fromkeys([told.spec.metric, *(name for row in rows for name in row.metrics)])
    return list(found)
