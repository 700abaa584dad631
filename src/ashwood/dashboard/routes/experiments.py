"""Routes for experiments: the list, one experiment, its trials and its event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from ashwood import __version__
from ashwood.dashboard import answers, live, trial_answers
from ashwood.dashboard.context import LARGEST, Context, ExperimentNumber, Json, TrialNumber, responses_of
from ashwood.dashboard.experiment_cache import CachedExperiment, ExperimentCache
from ashwood.views.curves import points_to_show
from ashwood.views.event_kinds import EventKind
from ashwood.views.progress import POINTS, thinned

router = APIRouter(default_response_class=Json)

_MOST_ROWS = 1_000
_MOST_EVENTS = 500


@router.get("/home", responses=responses_of(answers.HomeAnswer))
async def home(context: Context) -> Json:
    """Return the home's name, Ashwood's version, and whether the dashboard is read-only."""
    return Json(answers.HomeAnswer(context.name, __version__, read_only=context.steering is None))


@router.get("/experiments", responses=responses_of(answers.ExperimentList))
async def experiments(context: Context) -> Json:
    """Return all experiments, including archived ones, the latest first."""
    return Json(answers.ExperimentList(await context.store.do(answers.list_experiments)))


@router.get("/live", response_class=StreamingResponse, responses=responses_of(None, media=live.EVENTS))
async def live_list(context: Context) -> StreamingResponse:
    """Stream changes of the list as server-sent events ``changed`` with ``{experiments, gone}``."""
    return live.stream(live.list_events(context.store))


@router.get("/experiments/{experiment}", responses=responses_of(answers.ExperimentPage, 404))
async def experiment(context: Context, experiment: ExperimentNumber) -> Json:
    """Return an experiment: its state, its brackets and its best trial."""
    return Json(await context.store.ask(experiment, answers.experiment_page))


@router.get(
    "/experiments/{experiment}/live",
    response_class=StreamingResponse,
    responses=responses_of(None, 404, media=live.EVENTS),
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
    await context.store.do(lambda cache: cache.get(experiment).read_entries())
    known = live.resume_position(last_event_id, since)
    return live.stream(live.experiment_events(context.store, experiment, known))


@router.get("/experiments/{experiment}/failures", responses=responses_of(answers.FailureList, 404))
async def failures(context: Context, experiment: ExperimentNumber) -> Json:
    """Return the failed and diverged trials, grouped by cause, with what their hyperparameters have in common."""
    cached = await context.store.ask(experiment, lambda cached: cached)
    # With many trials, this takes seconds, in which other requests are answered.
    return Json(await context.store.draw([cached], lambda: answers.list_failures(cached)))


@router.get("/experiments/{experiment}/measured", responses=responses_of(answers.MeasuredTraining, 404))
async def measured(context: Context, experiment: ExperimentNumber) -> Json:
    """Return the number of workers and the measured time of training, for the preview of another search."""
    return Json(await context.store.ask(experiment, answers.measured_training))


@router.get("/experiments/{experiment}/spark", responses=responses_of(answers.Sparkline, 404))
async def spark(context: Context, experiment: ExperimentNumber) -> Json:
    """Return the best metric so far as a few points ``[seconds that drivers had run, metric]``."""

    def stored_summary(cache: ExperimentCache) -> Mapping[str, Any]:
        return cache.list_experiment(experiment).record.summary

    def points(cached: CachedExperiment) -> list[list[float]]:
        progress = cached.history.progress
        shown = [[each.driven, each.metric] for each in thinned(progress.improvements, POINTS)]
        return _to_end(shown, progress.trials.spending.driver_seconds)

    # Drivers store the points in their summary, so that a list of many experiments needs no event logs.
    summary = await context.store.do(stored_summary)
    if "improvements" in summary:
        return Json(answers.Sparkline(_to_end(summary["improvements"], summary["seconds"])))
    return Json(answers.Sparkline(await context.store.ask(experiment, points)))


def _to_end(points: Sequence[list[float]], end: float) -> list[list[float]]:
    """Return the points with the last metric repeated at ``end``, because it is still the best."""
    return [*points, *([end, metric] for _, metric in points[-1:])]


@router.get("/experiments/{experiment}/trust", responses=responses_of(answers.TrustAnswer, 404))
async def trust(context: Context, experiment: ExperimentNumber) -> Json:
    """Return whether early stopping can be believed: a verdict, its reasons, advice, and the agreement of rungs."""
    cached = await context.store.ask(experiment, lambda cached: cached)
    # Computing the reading of a large search takes a second, so it is done by the thread that draws figures.
    reading = await context.store.draw([cached], cached.history.progress.trust.reading)
    return Json(answers.TrustAnswer(reading))


@router.get("/experiments/{experiment}/trials", responses=responses_of(trial_answers.TrialsPage, 400, 404))
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

    def page(cached: CachedExperiment) -> trial_answers.TrialsPage:
        found = cached.find(where, sort, q.lower())
        return trial_answers.TrialsPage(
            total=len(cached.history.progress.trials.rows),
            matching=len(found),
            seq=cached.seq,
            sort=sort or cached.best_first,
            columns=trial_answers.columns_of(cached.columns),
            rows=[trial_answers.table_row(cached, trial) for trial in found[offset : offset + limit]],
            known=[
                trial_answers.KnownValues(condition, *known)
                for condition, known in ({} if found else cached.near_misses(where)).items()
            ],
        )

    return Json(await context.store.ask(experiment, page))


@router.get("/experiments/{experiment}/trials/{trial}", responses=responses_of(trial_answers.TrialPage, 404))
async def trial(context: Context, experiment: ExperimentNumber, trial: TrialNumber) -> Json:
    """Return a trial's page, without its curves and its output."""
    page = await context.store.ask(
        experiment, lambda cached: trial_answers.trial_page(cached, trial), with_history=True
    )
    return Json(page)


@router.get("/experiments/{experiment}/trials/{trial}/metrics", responses=responses_of(trial_answers.TrialMetrics, 404))
async def metrics(
    context: Context,
    experiment: ExperimentNumber,
    trial: TrialNumber,
    points: Annotated[int, Query(ge=2, le=10_000, description="Number of points of each metric, at most.")] = 500,
) -> Json:
    """Return a trial's curves ``{name: {lengths, at, values}}``, thinned so that peaks remain."""

    def curves(cached: CachedExperiment) -> trial_answers.TrialMetrics:
        reports = cached.history.details.reports.of(trial_answers.find_trial(cached, trial).id)
        shown: dict[str, trial_answers.MetricCurve] = {}
        for name, values in reports.values.items():
            places, kept = reports.places(name), points_to_show(values, points)
            shown[name] = trial_answers.MetricCurve(
                lengths=[reports.lengths[places[point]] for point in kept],
                at=[reports.at[places[point]] for point in kept],
                values=[values[point] for point in kept],
            )
        return trial_answers.TrialMetrics(len(reports), cached.seq, shown)

    return Json(await context.store.ask(experiment, curves, with_history=True))


@router.get("/experiments/{experiment}/events", responses=responses_of(answers.EventPage, 404))
async def events(
    context: Context,
    experiment: ExperimentNumber,
    before: Annotated[
        int | None, Query(ge=1, description="Only entries before this one; the latest if absent.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_EVENTS)] = 100,
    trial: Annotated[int | None, Query(ge=0, description="Only entries of this trial.")] = None,
    kind: Annotated[EventKind | None, Query(description="Only entries of this kind.")] = None,
) -> Json:
    """Return entries of the event log, the oldest first, with their decisions and reasons.

    With ``trial`` or ``kind``, only a part of the log is searched at once: ``first`` is where to continue.
    """

    def entries(cached: CachedExperiment) -> answers.EventPage:
        found, first = cached.latest_entries(before=before, limit=limit, trial=trial, kind=kind)
        lines = [answers.event_line(seq, entry, cached.spec, trial) for seq, entry in found]
        return answers.EventPage(lines, first, cached.seq)

    return Json(await context.store.ask(experiment, entries, with_history=trial is not None))
