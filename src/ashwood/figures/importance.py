"""The figure of how much each hyperparameter decides whether a trial is among the best."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ashwood.figures.hparams import NO_HPARAMS, NOTHING
from ashwood.figures.theme import LIGHT, Theme, blank, compose, one_line, text_of
from ashwood.search.settings import Sampler
from ashwood.views.history import History
from ashwood.views.hparams import varied
from ashwood.views.importance import ENOUGH, FEWEST, Importance, describe_best, importance
from ashwood.views.results import comparable
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Importance of hyperparameters"
_SHOWN = 15


def draw_importance(history: History, *, theme: Theme = LIGHT) -> Figure:
    """Return a figure of the importance of each hyperparameter for being among the best trials.

    `ashwood.views.importance` computes the shares, which add up to 1.

    Raises:
        AshwoodError: plotly is not installed.
    """
    shown = varied(history.spec.space)
    if not shown:
        return blank(theme, TITLE, NO_HPARAMS)
    found = importance(history.progress)
    if found is None:
        compared = comparable(history.ladder, ENOUGH)
        if compared is None:
            return blank(theme, TITLE, NOTHING)
        words = f"Too few results yet: {len(compared.results)} of {FEWEST} needed at one length."
        return blank(theme, TITLE, words)
    shares, sample = found.shares, _sample_text(found, history)
    if not shares:
        return blank(theme, TITLE, "The results don't differ, so no hyperparameter matters.", sample)
    order = list(shares)[:_SHOWN][::-1]
    first = f"; top {_SHOWN} of {len(shares)} hyperparameters" if len(shares) > _SHOWN else ""
    return compose(
        [
            {
                "type": "bar",
                "orientation": "h",
                "y": list(range(len(order))),
                "x": [shares[name] for name in order],
                "text": [f"{shares[name]:.0%}" for name in order],
                "textposition": "outside",
                "cliponaxis": False,
                "hovertext": [f"{text_of(name)}: {shares[name]:.1%}" for name in order],
                "hoverinfo": "text",
                "marker": {"color": [theme.accent if name == order[-1] else theme.faint for name in order]},
            }
        ],
        theme,
        TITLE,
        f"How much each decides whether a trial is in the top {found.quantile:.0%} (PED-ANOVA; {sample}{first})",
        height=130 + 30 * max(3, len(order)),
        margin={"r": 56},
        bargap=0.35,
        showlegend=False,
        uirevision="importance",
        meta={"takeaway": escape(one_line(describe_best(history.progress, found) or ""), quote=False)},
        xaxis={"tickformat": ".0%", "range": [0, max(shares.values()) * 1.02], "title": {"text": "share"}},
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(order))),
            "ticktext": [text_of(name, 28) for name in order],
            "showgrid": False,
            "ticks": "",
        },
    )


def _sample_text(found: Importance, history: History) -> str:
    sample, count = len(found.sample), len(found.compared.results)
    of = f"{sample:,} of {count:,} results" if sample < count else format_length(count, "results")
    drawn = ", mostly drawn near good trials" if history.spec.search.sampler is Sampler.DENSITY else ""
    return f"{of} at {format_length(found.compared.length, history.spec.unit)}{drawn}"
