"""The figure of the trust meter: the results of trials at one rung against their results at a higher rung."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ashwood.errors import AshwoodError
from ashwood.figures.axes import Scale, metric_range
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.views.history import History
from ashwood.views.trust import Comparison, How, PairReading, RungPair
from ashwood.views.wording import format_length, format_value

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Does a rung predict a later one?"
NOT_APPLICABLE = "This search stops no trial early, so there are no rungs to compare."
_MOST = 1_500


def draw_trust(history: History, pair: str | None = None, by: Scale = "rank", *, theme: Theme = LIGHT) -> Figure:
    """Return a scatter plot of the trials with results at two rungs.

    Args:
        history: the views of the experiment.
        pair: the two rungs, such as ``0-1``, or ``1:0-1`` in bracket 1; by default the first two rungs.
        by: what is shown: the ``rank`` of each trial among all results of the rung, or its ``metric``.
        theme: the colours.

    Raises:
        AshwoodError: there is no such pair of rungs, or plotly is not installed.
    """
    meter = history.progress.trust
    pairs = meter.pairs()
    if not pairs:
        return blank(theme, TITLE, NOT_APPLICABLE)
    chosen = next((each for each in pairs if pair in (None, str(each))), None)
    if chosen is None:
        raise AshwoodError(f"there is no pair of rungs {pair!r}; there are: {', '.join(map(str, pairs))}")
    compared = meter.comparisons(chosen)
    lengths = history.ladder.brackets[chosen.bracket].lengths
    unit = history.spec.unit
    here, there = (format_length(lengths[rung], unit) for rung in (chosen.lower, chosen.upper))
    if not compared:
        return blank(theme, TITLE, f"No trial has results at rung {chosen.lower} ({here}) and rung {chosen.upper} yet.")
    shown = _shown(compared)
    reading = meter.reading()
    measured = None if reading is None else next((each for each in reading.pairs if each.rungs == chosen), None)
    axes = [
        _axis(history, f"{what} at rung {rung} ({length})", [getattr(each, name) for each in shown], by)
        for what, rung, length, name in zip(
            (by, by),
            (chosen.lower, chosen.upper),
            (here, there),
            ("rank", "upper_rank") if by == "rank" else ("metric", "upper"),
            strict=True,
        )
    ]
    return compose(
        list(_traces(history, chosen, shown, by, theme)),
        theme,
        TITLE,
        _subtitle(measured, len(compared), len(shown)),
        showlegend=True,
        uirevision=f"trust {chosen} {by}",
        margin={"b": 76},
        xaxis=axes[0],
        yaxis=axes[1],
        **_quota(history, chosen, theme) if by == "rank" else {},
    )


def _shown(compared: Sequence[Comparison]) -> Sequence[Comparison]:
    """Return at most about `_MOST` trials: those that were not promoted by a final rank, and some of the others."""
    if len(compared) <= _MOST:
        return compared
    every = -(-len(compared) // _MOST)
    return [each for nth, each in enumerate(compared) if nth % every == 0 or _kind(each) != "among the best"]


_KINDS = ("among the best", "early", "audit", "last chance")


def _kind(each: Comparison) -> str:
    if each.promotion is not None and each.promotion.how is not How.RANK:
        return str(each.promotion.how)
    return "early" if each.early else "among the best"


def _traces(
    history: History, pair: RungPair, compared: Sequence[Comparison], by: Scale, theme: Theme
) -> Iterator[Trace]:
    looks = {
        "among the best": ("promoted: among the best", "circle", theme.accent),
        "early": ("promoted early, not among the best now", "circle-open", theme.accent),
        "audit": ("audit: drawn at random", "diamond", theme.waiting),
        "last chance": ("last chance", "triangle-up", theme.completed),
    }
    for kind in _KINDS:
        of_kind = [each for each in compared if _kind(each) == kind]
        name, symbol, colour = looks[kind]
        if of_kind:
            yield {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [each.rank if by == "rank" else each.metric for each in of_kind],
                "y": [each.upper_rank if by == "rank" else each.upper for each in of_kind],
                "hovertext": [_hover(history, pair, each) for each in of_kind],
                "hoverinfo": "text",
                "customdata": [each.trial for each in of_kind],
                "ids": [str(each.trial) for each in of_kind],
                "marker": {"symbol": symbol, "color": colour, "size": 8, "line": {"width": 1.5, "color": colour}},
            }


def _hover(history: History, pair: RungPair, each: Comparison) -> str:
    metric = text_of(history.spec.metric)
    lines = [
        f"<b>trial {each.trial}</b>",
        f"rung {pair.lower}: {metric} {format_value(each.metric)}, rank {each.rank}",
        f"rung {pair.upper}: {metric} {format_value(each.upper)}, rank {each.upper_rank}",
    ]
    if each.promotion is not None:
        rank, of, how = each.promotion
        why = {How.RANK: "promoted", How.AUDIT: "audited", How.LAST_CHANCE: "promoted as the last chance"}[how]
        lines.append(f"{why} with rank {rank} of {of}{'; not among the best now' if each.early else ''}")
    return "<br>".join(lines)


def _axis(history: History, title: str, values: Sequence[float], by: Scale) -> dict[str, Any]:
    if by == "rank":
        most = max(values)
        dense = {"dtick": 1} if most <= 8 else {}
        return {"title": {"text": title}, "range": [0, most * 1.05 + 0.5], **dense}
    import numpy as np

    span = metric_range(np.array(values, dtype=float), smaller_is_better=history.spec.smaller_is_better)
    title = text_of(history.spec.metric) + title.removeprefix("metric")
    return {"title": {"text": title}, "range": span}


def _quota(history: History, pair: RungPair, theme: Theme) -> dict[str, Any]:
    """Return a line at the lowest rank that is promoted now."""
    rung = history.ladder.brackets[pair.bracket].rungs[pair.lower]
    quota = int((rung.arrived + rung.failed) / history.spec.search.divisor)
    if not quota:
        return {}
    line = {"width": 1, "dash": "dot", "color": theme.muted}
    words = {"text": f"the best {quota}", "showarrow": False, "font": {"size": 11, "color": theme.muted}}
    at = quota + 0.5
    return {
        "shapes": [{"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": line}],
        "annotations": [{**words, "x": at, "yref": "paper", "y": 1, "yanchor": "bottom", "xanchor": "center"}],
    }


def _subtitle(measured: PairReading | None, compared: int, shown: int) -> str:
    trials = format_length(compared, "trials")
    fewer = f", {shown:,} shown" if shown < compared else ""
    if measured is None or measured.agreement is None or measured.interval is None:
        return f"{trials} with results at both rungs{fewer}"
    low, high = measured.interval
    # Trials that skip the lower rung can have reported at its length. They count in agreement, and are not drawn.
    if measured.both > compared:
        trials, fewer = format_length(measured.both, "trials"), f", {shown:,} shown"
    return (
        f"Agreement {measured.agreement:.2f} (90 % interval {low:.2f} to {high:.2f}; 1: equal order, 0: chance), "
        f"corrected for selection, from {trials}{fewer}"
    )
