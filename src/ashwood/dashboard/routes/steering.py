"""Routes that change experiments, through the same requests as the command line."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from anyio.to_thread import run_sync
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ashwood.dashboard.answers import DeletedExperiment, ExperimentHeader, header
from ashwood.dashboard.context import LARGEST, Context, Dashboard, ExperimentNumber, Json, TrialNumber, responses_of
from ashwood.errors import RequestRefused
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import (
    AddTrialRequested,
    CancelRequested,
    ExtendRequested,
    KillRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.search.given import Given, read_given
from ashwood.search.settings import MOST_TRIALS

router = APIRouter(default_response_class=Json)

_DONE = responses_of(ExperimentHeader, 400, 403, 404, 409)

_MOST = 10**9
_BOUNDS = ("metric_at", "max_time", "max_size")
"""Settings that can be removed."""
_Label: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
_Name: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Changes(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SettingsChanges(_Changes):
    """Settings to change; absent ones remain unchanged."""

    max_concurrent_trials: int | None = Field(
        None, ge=0, le=_MOST, description="Largest number of trials that train at once; 0 for no limit."
    )
    max_trials: int | None = Field(None, ge=1, le=MOST_TRIALS)
    max_invalid_trials: int | None = Field(
        None,
        ge=1,
        le=_MOST,
        description="Number of trials with invalid hyperparameters at which the experiment pauses.",
    )
    replicates: int | None = Field(
        None, ge=0, le=MOST_TRIALS, description="Number of the best trials that train again with another seed."
    )
    metric_at: float | None = Field(
        None, allow_inf_nan=False, description="Stop when the metric reaches this value; null for none."
    )
    max_time: float | None = Field(
        None, gt=0, le=_MOST, allow_inf_nan=False, description="Seconds that drivers may run in all; null for no limit."
    )
    max_size: int | None = Field(
        None, ge=1, le=10**15, description="Largest size of all checkpoints together in bytes; null for no limit."
    )

    def changes(self) -> dict[str, Any]:
        """Return the changes for a request to the driver: null removes a bound, but leaves other settings unchanged."""
        given = self.model_dump(exclude_unset=True)
        return {name: value for name, value in given.items() if name in _BOUNDS or value is not None}


class AddedTrial(_Changes):
    """A trial with given hyperparameters."""

    hparams: dict[str, Any] = Field(description="Values by the names of hyperparameters; the others are drawn.")
    extra: bool = Field(False, description="Whether to create one trial more than max_trials.")
    strict: bool = Field(
        False, description="Whether to refuse values outside the space or that break a constraint, instead of warning."
    )


class Extension(_Changes):
    """Numbers of trials and replicates, and length, of the extended search; null leaves a value unchanged."""

    max_trials: int | None = Field(None, ge=1, le=MOST_TRIALS)
    max_length: int | None = Field(None, ge=1, le=LARGEST, description="Length in the unit of the experiment.")
    replicates: int | None = Field(
        None, ge=1, le=MOST_TRIALS, description="Number of the best trials that train again with another seed."
    )


class NameChanges(_Changes):
    """Name, labels and archived flag of an experiment; absent ones remain unchanged."""

    name: _Name | None = None
    labels: list[_Label] | None = Field(None, max_length=50)
    archived: bool | None = None


def _problems_of(given: Given, *, strict: bool) -> dict[str, str]:
    """Return what is wrong with the values of an added trial, by the names of hyperparameters."""
    found = [(".".join(path), message) for path, message in given.errors if path]
    if strict and not given.errors:
        found += [(".".join(path), message) for path, message in given.warnings if path]
        found += [(name, message) for names, message in given.conflicts for name in names]
    problems: dict[str, list[str]] = {}
    for name, message in found:
        problems.setdefault(name, []).append(message.removesuffix("; it is used as given"))
    return {name: "; ".join(messages) for name, messages in problems.items()}


_REQUESTS: dict[str, Request] = {
    "pause": PauseRequested(),
    "cancel": CancelRequested(),
    "kill": KillRequested(),
}


@router.post("/experiments/{experiment}/activate", responses=_DONE)
async def activate(context: Context, experiment: ExperimentNumber) -> Json:
    """Resume a paused or interrupted experiment, in a driver process that outlives the dashboard."""
    await run_sync(context.require_steering().activate, experiment)
    return await _now(context, experiment)


@router.post("/experiments/{experiment}/trials", responses=_DONE)
async def add_trial(context: Context, experiment: ExperimentNumber, trial: AddedTrial) -> Json:
    """Add a trial with given hyperparameters, which is the next new trial of the first bracket that creates one.

    Values must not give the command of the entrypoint texts that the experiment file does not have.
    """
    # Imported here, because it takes long and most users of the dashboard add no trial.
    from ashwood.config.fork import new_texts

    spec = await context.store.ask(experiment, lambda cached: cached.spec)
    given = read_given(spec.space, trial.hparams)
    problems = _problems_of(given, strict=trial.strict) or new_texts(spec, given.values)
    if problems:
        listed = "; ".join(f"{name} {problem}" for name, problem in problems.items())
        raise RequestRefused(f"no trial was added: {listed}", problems)
    return await _ask(context, experiment, AddTrialRequested(trial.hparams, extra=trial.extra))


@router.post("/experiments/{experiment}/extend", responses=_DONE)
async def extend(context: Context, experiment: ExperimentNumber, extension: Extension) -> Json:
    """Add trials, longer training or replicates to a search, also after it has ended.

    If no driver runs, the experiment is paused then.
    """
    return await _ask(context, experiment, ExtendRequested(**extension.model_dump()))


@router.post("/experiments/{experiment}/{action}", responses=_DONE)
async def act(
    context: Context,
    experiment: ExperimentNumber,
    action: Literal["pause", "cancel", "kill"],
) -> Json:
    """Pause an experiment, or end it for good: ``cancel`` lets its trials save checkpoints first, ``kill`` does not."""
    return await _ask(context, experiment, _REQUESTS[action])


@router.post("/experiments/{experiment}/trials/{trial}/{action}", responses=_DONE)
async def act_on_trial(
    context: Context,
    experiment: ExperimentNumber,
    trial: TrialNumber,
    action: Literal["stop", "kill"],
) -> Json:
    """End a trial: ``stop`` keeps its results, ``kill`` ranks it as the worst of its rung."""
    request = TrialStopRequested(trial) if action == "stop" else TrialKillRequested(trial)
    return await _ask(context, experiment, request)


@router.patch("/experiments/{experiment}/settings", responses=_DONE)
async def change_settings(context: Context, experiment: ExperimentNumber, settings: SettingsChanges) -> Json:
    """Change the number of trials, how many train at once, and when the search stops, even while it runs."""
    return await _ask(context, experiment, SettingsChanged(settings.changes()))


@router.patch("/experiments/{experiment}", responses=_DONE)
async def annotate(context: Context, experiment: ExperimentNumber, changes: NameChanges) -> Json:
    """Change an experiment's name or labels, or archive it."""
    steering = context.require_steering()
    await run_sync(lambda: steering.annotate(experiment, **dict(changes)))
    return await _now(context, experiment)


@router.delete("/experiments/{experiment}", responses=responses_of(DeletedExperiment, 400, 403, 404, 409))
async def delete(context: Context, experiment: ExperimentNumber) -> Json:
    """Delete an experiment that no driver runs, with all checkpoints, logs and files of its trials."""
    await run_sync(context.require_steering().delete, experiment)
    await context.store.do(lambda cache: cache.refresh_list())
    # The list drops the views of the experiment, so that no snapshot of it is written any more.
    await context.store.do(lambda cache: cache.list_experiments())
    return Json(DeletedExperiment(experiment))


async def _ask(context: Dashboard, experiment: ExperimentId, request: Request) -> Json:
    try:
        await run_sync(context.require_steering().ask, experiment, request)
    except RequestRefused as error:
        raise RequestRefused(str(error), _fields_in(str(error), request)) from None
    return await _now(context, experiment)


def _fields_in(message: str, request: Request) -> dict[str, str]:
    """Return the message by the first setting of the request that it names; drivers answer with a text only."""
    match request:
        case SettingsChanged(settings):
            asked = settings
        case ExtendRequested():
            asked = request._asdict()
        case _:
            return {}
    names = [name for name, value in asked.items() if value is not None]
    found = re.search(rf"\b({'|'.join(map(re.escape, names))})\b", message) if names else None
    return {} if found is None else {found[1]: message}


async def _now(context: Dashboard, experiment: ExperimentId) -> Json:
    """Return the header of an experiment after a change."""
    await context.store.do(lambda cache: cache.refresh_list())
    # An answer without the entries that were just recorded would look as if the change had not been made.
    await context.store.catch_up(experiment)
    return Json(await context.store.ask(experiment, header))
