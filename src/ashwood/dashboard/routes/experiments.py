"""Routes for experiments: the list, one experiment, its trials and its event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from ashwood import __version__
from ashwood.dashboard import answers, live, shapes
from ashwood.dashboard.context import Context, Json, cards, header, telling
from ashwood.dashboard.library import Followed, Library
from ashwood.dashboard.paths import LARGEST, ExperimentNumber, TrialNumber
from ashwood.views.curves import telling as telling_points
from ashwood.views.improvements import POINTS, thinned
from ashwood.views.table import Record, heading

router = APIRouter(default_response_class=Json)

_MOST_ROWS = 1_000
_MOST_EVENTS = 500


@router.get("/home", responses=telling(shapes.Home))
async def home(context: Context) -> Json:
    """Return the home's name, Ashwood's version, and whether the dashboard is read-only."""
    answer: shapes.Home = {"name": context.name, "version": __version__, "read_only": context.steering is None}
    return Json(answer)


@router.get("/experiments", responses=telling(shapes.Experiments))
async def experiments(context: Context) -> Json:
    """Return all experiments, including archived ones, the latest first."""
    return Json({"experiments": await context.desk.do(cards)})


@router.get("/live", response_class=StreamingResponse, responses=telling(None, media=live.EVENTS))
async def live_list(context: Context) -> StreamingResponse:
    """Stream changes of the list as server-sent events ``changed`` with ``{experiments, gone}``."""
    return live.stream(live.list_events(context.desk, cards))


@router.get("/experiments/{experiment}", responses=telling(shapes.ExperimentPage, 404))
async def experiment(context: Context, experiment: ExperimentNumber) -> Json:
    """Return an experiment: its state, its brackets and its best trial."""
    return Json(await context.page(experiment))


@router.get(
    "/experiments/{experiment}/live", response_class=StreamingResponse, responses=telling(None, 404, media=live.EVENTS)
)
async def live_experiment(
    context: Context,
    experiment: ExperimentNumber,
    since: Annotated[int, Query(ge=0, le=LARGEST, description="The last entry of the event log that is known.")] = 0,
    last_event_id: Annotated[str | None, Header(description="Sent by browsers when they reconnect.")] = None,
) -> StreamingResponse:
    """Stream changes as server-sent events ``changed`` with ``{seq, experiment?, trials?, many?, events?}``.

    If the event log cannot be read any further, the last event is ``failed`` with ``{error}``.
    """
    # An error here becomes a normal error response.  Once the stream has started, the status cannot change.
    await context.desk.do(lambda library: library.follow(experiment).advance())
    known = live.resume_position(last_event_id, since)
    return live.stream(live.experiment_events(context.desk, experiment, known, header))


@router.get("/experiments/{experiment}/spark", responses=telling(shapes.Spark, 404))
async def spark(context: Context, experiment: ExperimentNumber) -> Json:
    """Return the best metric so far as a few points ``[seconds that drivers had run, metric]``."""

    def summed_up(library: Library) -> Mapping[str, Any]:
        return library.listed(experiment).record.summary

    def points(followed: Followed) -> list[list[float]]:
        progress = followed.chronicle.progress
        shown = [[each.driven, each.metric] for each in thinned(progress.improvements, POINTS)]
        return _to_end(shown, progress.trials.spending.driver_seconds)

    # Drivers store the points in their summary, so that a list of many experiments needs no event logs.
    summary = await context.desk.do(summed_up)
    if "improvements" in summary:
        return Json({"points": _to_end(summary["improvements"], summary["seconds"])})
    return Json({"points": await context.desk.ask(experiment, points)})


def _to_end(points: Sequence[list[float]], end: float) -> list[list[float]]:
    """Return the points with the last metric repeated at ``end``, because it is still the best."""
    return [*points, *([end, metric] for _, metric in points[-1:])]


@router.get("/experiments/{experiment}/trials", responses=telling(shapes.Trials, 400, 404))
async def trials(
    context: Context,
    experiment: ExperimentNumber,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=0, le=_MOST_ROWS)] = 100,
    sort: Annotated[
        str, Query(max_length=200, description="A column to sort by; with - before it, the largest first.")
    ] = "",
    where: Annotated[
        Sequence[str], Query(max_length=20, description="Conditions such as KEY=VALUE, which must all hold.")
    ] = (),
    q: Annotated[str, Query(max_length=200, description="Text that one of a trial's values must contain.")] = "",
) -> Json:
    """Return a page of the table of trials; without ``sort``, and among equals, the best comes first."""

    def page(followed: Followed) -> shapes.Trials:
        found = followed.find(where, sort, q.lower())
        return {
            "total": len(followed.chronicle.progress.trials.rows),
            "matching": len(found),
            "seq": followed.seq,
            "sort": sort or followed.best_first,
            "columns": _columns(followed.columns),
            "rows": [followed.record(trial) for trial in found[offset : offset + limit]],
        }

    return Json(await context.desk.ask(experiment, page))


@router.get("/experiments/{experiment}/trials/{trial}", responses=telling(shapes.TrialPage, 404))
async def trial(context: Context, experiment: ExperimentNumber, trial: TrialNumber) -> Json:
    """Return a trial's page, without its curves and its output."""

    def page(library: Library, followed: Followed) -> shapes.TrialPage:
        return answers.trial_page(followed, trial, library.home.checkpoints(experiment, followed.spec))

    return Json(await context.desk.consult(experiment, page, whole=True))


@router.get("/experiments/{experiment}/trials/{trial}/metrics", responses=telling(shapes.Metrics, 404))
async def metrics(
    context: Context,
    experiment: ExperimentNumber,
    trial: TrialNumber,
    points: Annotated[int, Query(ge=2, le=10_000, description="Number of points of each metric, at most.")] = 500,
) -> Json:
    """Return a trial's curves ``{name: {lengths, at, values}}``, thinned so that peaks remain."""

    def curves(followed: Followed) -> shapes.Metrics:
        reports = followed.chronicle.history.reports.of(answers.find_trial(followed, trial).id)
        shown: dict[str, shapes.Curve] = {}
        for name, values in reports.values.items():
            places, kept = reports.places(name), telling_points(values, points)
            shown[name] = {
                "lengths": [reports.lengths[places[point]] for point in kept],
                "at": [reports.at[places[point]] for point in kept],
                "values": [values[point] for point in kept],
            }
        return {"total": len(reports), "seq": followed.seq, "metrics": shown}

    return Json(await context.desk.ask(experiment, curves, whole=True))


@router.get("/experiments/{experiment}/events", responses=telling(shapes.Events, 404))
async def events(
    context: Context,
    experiment: ExperimentNumber,
    before: Annotated[
        int | None, Query(ge=1, description="Only entries before this one; the latest if absent.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_EVENTS)] = 100,
    trial: Annotated[int | None, Query(ge=0, description="Only entries of this trial.")] = None,
) -> Json:
    """Return entries of the event log, the oldest first, with their decisions and reasons."""

    def entries(followed: Followed) -> shapes.Events:
        found, first = followed.latest(before=before, limit=limit, trial=trial)
        told = [answers.event_line(seq, entry, followed.spec) for seq, entry in found]
        return {"events": told, "first": first, "last": followed.seq}

    return Json(await context.desk.ask(experiment, entries, whole=trial is not None))


def _columns(values: Record) -> list[shapes.Column]:
    kinds = {"created_at": "time", "ended_at": "time", "seconds": "duration", "trial": "trial", "state": "state"}
    return [
        {
            "key": name,
            "label": heading(name, values),
            "kind": kinds.get(name)
            or ("number" if isinstance(value, int | float) and not isinstance(value, bool) else "text"),
            "hyperparameter": name.startswith("hparams."),
        }
        for name, value in values.items()
    ]
