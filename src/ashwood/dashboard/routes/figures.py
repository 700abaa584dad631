"""Routes for figures as Plotly JSON: the same figures as in notebooks and reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from hashlib import blake2b
from math import ceil, inf
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from ashwood.dashboard.answers import FigureKind
from ashwood.dashboard.context import Context, Dashboard, ExperimentNumber, Json, responses_of
from ashwood.dashboard.experiment_cache import CachedExperiment, ExperimentCache, RenderedFigure
from ashwood.eventlog.port import Seq
from ashwood.figures import registry
from ashwood.figures.axes import Against
from ashwood.figures.hparams import draw_compared_scatter
from ashwood.figures.progress import draw_comparison
from ashwood.figures.theme import THEMES
from ashwood.views.history import History

router = APIRouter(default_response_class=Json)

_MOST_COMPARED = 12
_PATIENCE = 20
"""While an experiment runs, a figure is reused for this multiple of the time that drawing it took."""
_LEAST_SECONDS = 1.0

Theme = Annotated[Literal["light", "dark"], Query(description="Light or dark background.")]
Ids = Annotated[
    str,
    Query(
        pattern=r"^[1-9][0-9]{0,14}(,[1-9][0-9]{0,14})*$",
        description="Numbers of experiments, separated by commas.",
    ),
]
Etag = Annotated[str | None, Header(description="ETag of a known figure; if it is unchanged, the status is 304.")]


@router.get("/experiments/{experiment}/figures", responses=responses_of(list[FigureKind], 404))
async def figures(context: Context, experiment: ExperimentNumber) -> Json:
    """Return the figures of an experiment, with their options."""
    return Json(await context.store.ask(experiment, lambda cached: registry.describe(cached.history)))


@router.get("/experiments/{experiment}/figures/{name}", responses=responses_of(dict[str, Any], 400, 404) | {304: {}})
async def figure(
    request: Request,
    context: Context,
    experiment: ExperimentNumber,
    name: str,
    theme: Theme = "light",
    if_none_match: Etag = None,
) -> Response:
    """Return a figure ``{data, layout}``; its options, which the list of figures names, are query parameters."""
    options = {key: value for key, value in request.query_params.items() if key != "theme"}

    key = (name, theme, *sorted(options.items()))

    def of(cached: CachedExperiment) -> tuple[CachedExperiment, RenderedFigure | None]:
        return cached, _still_good([cached], key)

    kind = registry.FIGURES.get(name)
    cached, known = await context.store.ask(experiment, of, with_history=kind is not None and kind.needs_history)

    def draw() -> str:
        return str(registry.draw(name, cached.history, options, theme=THEMES[theme]).to_json())

    return await _shown(context, [cached], key, known, draw, if_none_match)


@router.get("/figures/compare", responses=responses_of(dict[str, Any], 400, 404) | {304: {}})
async def compared(
    context: Context,
    ids: Ids,
    against: Against = "units",
    log_y: bool | None = None,
    zoom: bool = False,
    theme: Theme = "light",
    if_none_match: Etag = None,
) -> Response:
    """Return a figure with the best metric so far of several experiments."""
    options = {"against": against, "log_y": log_y, "zoom": zoom}
    return await _compared(context, ids, "compare", draw_comparison, theme, options, if_none_match)


@router.get("/figures/compare/scatter", responses=responses_of(dict[str, Any], 400, 404) | {304: {}})
async def compared_scatter(
    context: Context,
    ids: Ids,
    hparam: Annotated[str | None, Query(description="Name of a hyperparameter.")] = None,
    log_y: bool | None = None,
    zoom: bool = False,
    theme: Theme = "light",
    if_none_match: Etag = None,
) -> Response:
    """Return a figure with the results of several experiments by a hyperparameter."""
    options = {"hparam": hparam or None, "log_y": log_y, "zoom": zoom}
    return await _compared(context, ids, "compare scatter", draw_compared_scatter, theme, options, if_none_match)


async def _compared(
    context: Dashboard,
    ids: str,
    name: str,
    draw: Callable[..., Any],
    theme: Theme,
    options: Mapping[str, Any],
    if_none_match: str | None,
) -> Response:
    """Return the response with a figure of several experiments, which ``draw`` returns for their views."""
    several = await _several(context, ids)
    cached = list(several.values())
    key = (name, theme, *options.values(), *several)

    def to_json() -> str:
        views: dict[str, History] = {name: each.history for name, each in several.items()}
        return str(draw(views, **options, theme=THEMES[theme]).to_json())

    return await _shown(context, cached, key, _still_good(cached, key), to_json, if_none_match)


async def _several(context: Dashboard, ids: str) -> dict[str, CachedExperiment]:
    """Return experiments by the names that they have in figures."""
    numbers = list(dict.fromkeys(map(int, ids.split(","))))[:_MOST_COMPARED]
    for number in numbers:
        await context.store.ask(number, lambda cached: cached.seq)

    def of(cache: ExperimentCache) -> dict[str, CachedExperiment]:
        return {f"#{number} {cache.list_experiment(number).record.name}": cache.get(number) for number in numbers}

    return await context.store.do(of)


async def _shown(
    context: Dashboard,
    several: Sequence[CachedExperiment],
    key: Hashable,
    known: RenderedFigure | None,
    draw: Callable[[], str],
    if_none_match: str | None,
) -> Response:
    """Return the response with a figure: the cached figure ``known``, or a new one if that is None."""

    def draw_anew() -> RenderedFigure:
        # While this request waited for the drawing thread, another request may have drawn the same figure.
        if (known := _still_good(several, key)) is not None:
            return known
        fresh = _draw(tuple(each.seq for each in several), draw)
        several[0].add_figure(key, fresh)
        return fresh

    shown = known if known is not None else await context.store.draw(several, draw_anew)
    return _answer(shown, _stale_in(shown, several), if_none_match)


def _still_good(several: Sequence[CachedExperiment], key: Hashable) -> RenderedFigure | None:
    """Return a cached figure if it shows the latest entries or was drawn recently enough, or None."""
    known = several[0].figures.get(key)
    return known if known is not None and _stale_in(known, several) > 0 else None


def _stale_in(known: RenderedFigure, several: Sequence[CachedExperiment]) -> float:
    """Return the seconds until a figure must be drawn again, infinite if it shows the latest entries."""
    if known.seqs == tuple(each.seq for each in several):
        return inf
    if not any(each.history.progress.state.active for each in several):
        return 0.0
    return known.at + max(_LEAST_SECONDS, _PATIENCE * known.cost) - time.monotonic()


def _draw(seqs: tuple[Seq, ...], draw: Callable[[], str]) -> RenderedFigure:
    began = time.monotonic()
    body = draw().encode()
    now = time.monotonic()
    return RenderedFigure(seqs, body, now, now - began, f'"{blake2b(body, digest_size=12).hexdigest()}"')


def _answer(drawn: RenderedFigure, stale_in: float, known: str | None) -> Response:
    """Return the response; if the figure does not show the latest entries, it says when to request it again."""
    later = {} if stale_in == inf else {"Retry-After": str(max(1, ceil(stale_in)))}
    headers: Mapping[str, str] = {"ETag": drawn.etag, "Cache-Control": "no-cache", **later}
    if known == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(drawn.body, media_type="application/json", headers=headers)
