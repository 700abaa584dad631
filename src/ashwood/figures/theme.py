"""The look of figures on light and dark backgrounds.

Readers with a common colour blindness can distinguish the colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from ashwood.figures.extras import graph_objects
from ashwood.views.wording import format_setting

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trace: TypeAlias = Mapping[str, Any]
"""A trace as a dictionary in Plotly's JSON format.  Creating Plotly's own objects takes longer than drawing them."""

_NARROW = 46
"""Number of characters of a line that fits the narrowest figure."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of figures, each as ``#rrggbb``.

    Attributes:
        name: name of the theme, as users write it.
        paper: background.
        ink: main text.
        muted: secondary text.
        grid: grid lines.
        faint: data in the background.
        idle: an idle worker.
        band: background of trials that may be promoted.
        edge: the promotion line at the end of that background.
        accent: the main data of a figure.
        training: a training trial.
        waiting: a paused trial that waits for promotion.
        out: a stopped trial.
        completed: a trial that trained to full length.
        trouble: failed and killed trials and attempts.
        series: lines to compare, one colour for each.
        qualities: colours from the worst to the best trial; the best has most contrast.
        ramps: colours of each bracket from its first rung to its last, which has most contrast.
    """

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    faint: str
    idle: str
    band: str
    edge: str
    accent: str
    training: str
    waiting: str
    out: str
    completed: str
    trouble: str
    series: tuple[str, ...]
    qualities: tuple[str, ...]
    ramps: tuple[tuple[str, ...], ...]

    def quality_colour(self, quality: float) -> str:
        """Return the colour of a trial by its final quality, from 0 (worst) to 1 (best)."""
        return _blend(self.qualities, quality)

    def rung_colour(self, bracket: int, rung: int, rungs: int) -> str:
        """Return the colour of a rung, in the hue of its bracket."""
        return _blend(self.ramps[bracket % len(self.ramps)], rung / (rungs - 1) if rungs > 1 else 1.0)

    def scale(self) -> list[list[Any]]:
        """Return the colours from the worst to the best trial as a Plotly colour scale."""
        return [[place / (len(self.qualities) - 1), colour] for place, colour in enumerate(self.qualities)]


# After Okabe and Ito 2008, in an order in which neighbours differ most.
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b38600", "#56b4e9", "#7a5c2e", "#5b4fa3")

LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1b2733",
    muted="#66717d",
    grid="#e8ebee",
    faint="#b9c1ca",
    idle="#d9dee4",
    band="#fff3c9",
    edge="#c48a00",
    accent="#0b6fb8",
    training="#0b6fb8",
    waiting="#d98200",
    out="#9aa4ae",
    completed="#00795a",
    trouble="#c1121f",
    series=_SERIES,
    qualities=("#f2dcb8", "#ef9d54", "#cc3d55", "#5b1049"),
    # From light to dark, after ColorBrewer (Harrower and Brewer 2003).
    ramps=(
        ("#9ecae1", "#4292c6", "#2171b5", "#08306b"),
        ("#fdbe85", "#f98b3a", "#d94801", "#7f2704"),
        ("#99d8c9", "#41ae76", "#1b7f4b", "#00441b"),
        ("#fbb4c4", "#f768a1", "#ae017e", "#49006a"),
        ("#d9c8a9", "#b08d57", "#7a5c2e", "#3f2d12"),
    ),
)
DARK = Theme(
    name="dark",
    paper="#14191f",
    ink="#e6ebf0",
    muted="#98a4b0",
    grid="#262d35",
    faint="#4b5661",
    idle="#2d353e",
    band="#3a3214",
    edge="#e0b030",
    accent="#5ab4f5",
    training="#5ab4f5",
    waiting="#f0a43c",
    out="#6f7b87",
    completed="#3ecf9d",
    trouble="#ff6b6f",
    series=("#56b4e9", "#f0883e", "#2fc799", "#e39ac4", "#e0b030", "#8fa8ff", "#c9a77a", "#b39ddb"),
    qualities=("#4a3f55", "#99386b", "#f0754f", "#ffe29a"),
    ramps=(
        ("#2c5f8f", "#2f74ad", "#5aa9e6", "#c3e2fb"),
        ("#8a4818", "#b85a1c", "#f0914a", "#ffd9b3"),
        ("#176b50", "#1c8563", "#46c79b", "#c3f2df"),
        ("#84225a", "#a8326f", "#ef74ab", "#ffd0e2"),
        ("#66522f", "#85693a", "#c2a06a", "#efdfc4"),
    ),
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def _blend(ramp: Sequence[str], position: float) -> str:
    """Return the colour at a position from 0 to 1 of a colour ramp."""
    place = min(max(position, 0.0), 1.0) * (len(ramp) - 1)
    below = min(int(place), len(ramp) - 2)
    share = place - below
    mixed = (
        round(a + (b - a) * share) for a, b in zip(_channels(ramp[below]), _channels(ramp[below + 1]), strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def compose(
    traces: Iterable[Trace],
    theme: Theme,
    title: str,
    subtitle: str = "",
    *,
    xaxis: Mapping[str, Any] = MappingProxyType({}),
    yaxis: Mapping[str, Any] = MappingProxyType({}),
    **layout: Any,
) -> Figure:
    """Return a figure in the common look.

    The caller must escape names that users chose, also in the titles.  All settings are passed to Plotly at once,
    because changing an existing figure is slow.

    Args:
        traces: the data, from back to front.
        theme: the colours.
        title: title of the figure.
        subtitle: a line below the title.
        xaxis: settings of the x-axis, added to the common ones.
        yaxis: settings of the y-axis, added to the common ones.
        layout: settings of Plotly's layout, added to the common ones.

    Raises:
        AshwoodError: plotly is not installed.
    """
    return graph_objects().Figure(
        list(traces),
        _merged(
            {
                "title": {
                    "text": f"<b>{title}</b>{_small(subtitle, theme)}",
                    "font": {"size": 15, "color": theme.ink},
                    "x": 0,
                    "xref": "container",
                    "xanchor": "left",
                    "y": 1,
                    "yref": "container",
                    "yanchor": "top",
                    "pad": {"t": 20, "l": 14},
                },
                "paper_bgcolor": theme.paper,
                "plot_bgcolor": theme.paper,
                "font": {"family": FONT, "size": 12, "color": theme.ink},
                "hoverlabel": {
                    "align": "left",
                    "bgcolor": theme.paper,
                    "bordercolor": theme.faint,
                    "font": {"color": theme.ink, "family": FONT, "size": 12},
                },
                "hovermode": "closest",
                "height": 420,
                "margin": {"l": 64, "r": 16, "t": 66, "b": 48},
                "legend": {
                    "orientation": "h",
                    "x": 0,
                    "y": 0,
                    "yref": "container",
                    "yanchor": "bottom",
                    "itemsizing": "constant",
                    "font": {"size": 11, "color": theme.muted},
                },
                "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.faint, "activecolor": theme.ink},
                "uirevision": title,
                "xaxis": _axis(theme, xaxis),
                "yaxis": _axis(theme, yaxis),
                # Plotly's default template would be stored in every figure and make it larger.
                "template": "none",
            },
            layout,
        ),
    )


def _axis(theme: Theme, own: Mapping[str, Any]) -> dict[str, Any]:
    return _merged(
        {
            "gridcolor": theme.grid,
            "zeroline": False,
            "linecolor": theme.faint,
            "tickcolor": theme.faint,
            "ticks": "outside",
            "ticklen": 4,
            "automargin": True,
            "title": {"standoff": 8},
        },
        own,
    )


def _merged(these: Mapping[str, Any], those: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings merged; values of the second one take precedence."""
    both = dict(these)
    for name, value in those.items():
        known = both.get(name)
        both[name] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return both


def _small(subtitle: str, theme: Theme) -> str:
    return f"<br><span style='font-size:12px;color:{theme.muted}'>{subtitle}</span>" if subtitle else ""


def blank(theme: Theme, title: str, words: str, subtitle: str = "") -> Figure:
    """Return a figure without axes that shows a message, for example that there is no data yet."""
    return compose(
        [],
        theme,
        title,
        subtitle,
        height=260,
        xaxis={"visible": False},
        yaxis={"visible": False},
        annotations=[
            {
                "text": "<br>".join(wrap(words, _NARROW, break_long_words=False, break_on_hyphens=False)),
                "x": 0.5,
                "y": 0.5,
                "xref": "paper",
                "yref": "paper",
                "showarrow": False,
                "font": {"size": 14, "color": theme.muted},
            }
        ],
    )


def text_of(value: Any, most: int = 40) -> str:
    """Return any value as text for a figure: escaped, on one line, and with at most ``most`` characters."""
    text = one_line(value if isinstance(value, str) else format_setting(value))
    # Quotes stay: Plotly would show the entity of a quote as it is written.
    return escape(text if len(text) <= most else text[: most - 1] + "…", quote=False)


def one_line(text: str) -> str:
    """Return a text on one line, with a question mark for each lone surrogate, which file names can contain."""
    return " ".join(text.split()).encode(errors="replace").decode()
