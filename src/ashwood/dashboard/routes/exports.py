"""Routes for files to share: a report, the table of trials and the experiment file."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from ashwood.dashboard.answers import ExperimentHeader, header
from ashwood.dashboard.context import LARGEST, Context, ExperimentNumber, Json, responses_of
from ashwood.dashboard.experiment_cache import CachedExperiment
from ashwood.errors import NotFound
from ashwood.search.vocabulary import TrialId
from ashwood.views.table import Record, csv_record

router = APIRouter(default_response_class=Json)

_ROWS_AT_ONCE = 500
_HTML, _CSV, _YAML = "text/html", "text/csv", "application/yaml"


@router.get("/experiments/{experiment}/report.html", responses=responses_of(None, 404, media=_HTML))
async def report(context: Context, experiment: ExperimentNumber) -> Response:
    """Return a report of an experiment: one file that works without a network."""
    # Imported here, so that `ashwood ui` starts faster.
    from ashwood.figures.report import ReportHeader, render_report

    def read(cached: CachedExperiment) -> tuple[CachedExperiment, ExperimentHeader, Mapping[TrialId | None, str]]:
        return cached, header(cached), cached.cache.home.store.notes(experiment)

    cached, now, notes = await context.store.ask(experiment, read, with_history=True)
    about = ReportHeader(experiment, now.name, now.state, now.created_at, time.time(), now.labels, notes)
    page = await context.store.draw([cached], lambda: render_report(cached.history, about))
    return Response(page, media_type=_HTML, headers=_attached(f"{now.name}-{experiment}.html"))


@router.get("/experiments/{experiment}/trials.csv", responses=responses_of(None, 400, 404, media=_CSV))
async def trials(
    context: Context,
    experiment: ExperimentNumber,
    sort: Annotated[str, Query(max_length=200, description="As for the table of trials.")] = "",
    where: Annotated[Sequence[str], Query(max_length=20, description="As for the table of trials.")] = (),
    q: Annotated[str, Query(max_length=200, description="As for the table of trials.")] = "",
    trial: Annotated[
        Sequence[Annotated[int, Query(ge=0, le=LARGEST)]],
        Query(max_length=1_000, description="Only these trials."),
    ] = (),
) -> Response:
    """Return trials as comma-separated values, with all columns."""

    def find(cached: CachedExperiment) -> tuple[list[TrialId], list[str], str]:
        chosen = frozenset(trial)
        found = [each for each in cached.find(where, sort, q.lower()) if not chosen or each in chosen]
        return found, list(cached.columns), cached.cache.list_experiment(experiment).record.name

    found, columns, name = await context.store.ask(experiment, find)

    async def lines() -> AsyncIterator[str]:
        yield _csv_of(columns, ())
        for first in range(0, len(found), _ROWS_AT_ONCE):
            some = found[first : first + _ROWS_AT_ONCE]
            # In pieces, so that a large table does not delay other requests.
            yield _csv_of(columns, await context.store.ask(experiment, partial(_records, some)))

    return StreamingResponse(lines(), media_type=_CSV, headers=_attached(f"{name}-{experiment}-trials.csv"))


@router.get("/experiments/{experiment}/experiment.yaml", responses=responses_of(None, 404, media=_YAML))
async def experiment_file(context: Context, experiment: ExperimentNumber) -> Response:
    """Return the experiment file as it was written."""
    text, name = await context.store.ask(
        experiment,
        lambda cached: (cached.spec.config_text, cached.cache.list_experiment(experiment).record.name),
    )
    if not text:
        raise NotFound(f"experiment {experiment} has no experiment file; it was started from Python")
    return Response(text, media_type=_YAML, headers=_attached(f"{name}-{experiment}.yaml"))


def _records(trials: Sequence[TrialId], cached: CachedExperiment) -> list[Record]:
    return [csv_record(cached.record(trial)) for trial in trials]


def _csv_of(columns: Sequence[str], records: Sequence[Record]) -> str:
    """Return records as lines, or the line of column names if there are none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    if not records:
        writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _attached(name: str) -> dict[str, str]:
    """Return the header that lets browsers save a file; characters that are unsafe in names become hyphens."""
    return {"Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-")[-120:]}"'}
