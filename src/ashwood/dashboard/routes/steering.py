"""What a person has done to an experiment: through the inbox of requests, as with the command line."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from anyio.to_thread import run_sync
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ashwood.dashboard.context import Context, Dashboard, Json, header, telling
from ashwood.dashboard.paths import ExperimentNumber, TrialNumber
from ashwood.dashboard.shapes import Header
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import (
    CancelRequested,
    KillRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.search.settings import MOST_TRIALS

router = APIRouter(default_response_class=Json)

_DONE = telling(Header, 400, 403, 404, 409)

_MOST = 10**9
_BOUNDS = {"metric_at": "stop_at", "max_seconds": "max_seconds"}
"""What requests call them."""
_Label: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
_Name: TypeAlias = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Changes(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Settings(_Changes):
    """Settings to change; those that are absent stay."""

    max_concurrent_trials: int | None = Field(None, ge=0, le=_MOST, description="0: as many as there is room for.")
    max_trials: int | None = Field(None, ge=1, le=MOST_TRIALS)
    max_invalid_trials: int | None = Field(
        None, ge=1, le=_MOST, description="It pauses when so many trials have declared their hyperparameters invalid."
    )
    metric_at: float | None = Field(None, allow_inf_nan=False, description="A metric that is enough; null: none is.")
    max_seconds: float | None = Field(
        None, gt=0, le=_MOST, allow_inf_nan=False, description="How long drivers may run it in all; null: for ever."
    )

    def changes(self) -> dict[str, Any]:
        """As a request has them: bounds may be taken away, numbers may not."""
        given = self.model_dump(exclude_unset=True)
        bounds = {_BOUNDS[name]: value for name, value in given.items() if name in _BOUNDS}
        return bounds | {name: value for name, value in given.items() if name not in _BOUNDS and value is not None}


class Notes(_Changes):
    """What lists show; what is absent stays."""

    name: _Name | None = None
    labels: list[_Label] | None = Field(None, max_length=50)
    archived: bool | None = None


_REQUESTS: dict[str, Request] = {
    "pause": PauseRequested(),
    "cancel": CancelRequested(),
    "kill": KillRequested(),
}


@router.post("/experiments/{experiment}/activate", responses=_DONE)
async def activate(context: Context, experiment: ExperimentNumber) -> Json:
    """Let a paused or interrupted experiment go on, in a process of its own that outlives this page."""
    await run_sync(context.steered().activate, experiment)
    return await _now(context, experiment)


@router.post("/experiments/{experiment}/{action}", responses=_DONE)
async def act(
    context: Context,
    experiment: ExperimentNumber,
    action: Literal["pause", "cancel", "kill"],
) -> Json:
    """Pause it, or end it for good: ``cancel`` lets trials save first, ``kill`` doesn't."""
    return await _ask(context, experiment, _REQUESTS[action])


@router.post("/experiments/{experiment}/trials/{trial}/{action}", responses=_DONE)
async def act_on_trial(
    context: Context,
    experiment: ExperimentNumber,
    trial: TrialNumber,
    action: Literal["stop", "kill"],
) -> Json:
    """End a trial: ``stop`` lets its results stand, ``kill`` makes it the worst in its rung."""
    request = TrialStopRequested(trial) if action == "stop" else TrialKillRequested(trial)
    return await _ask(context, experiment, request)


@router.patch("/experiments/{experiment}/settings", responses=_DONE)
async def change_settings(context: Context, experiment: ExperimentNumber, settings: Settings) -> Json:
    """Change how many trials there are, how many train at once, and what is enough, also while it runs."""
    return await _ask(context, experiment, SettingsChanged(settings.changes()))


@router.patch("/experiments/{experiment}", responses=_DONE)
async def annotate(context: Context, experiment: ExperimentNumber, notes: Notes) -> Json:
    """Change its name, its labels, or whether it is archived."""
    steering = context.steered()
    await run_sync(lambda: steering.annotate(experiment, name=notes.name, labels=notes.labels, archived=notes.archived))
    return await _now(context, experiment)


async def _ask(context: Dashboard, experiment: ExperimentId, request: Request) -> Json:
    await run_sync(context.steered().ask, experiment, request)
    return await _now(context, experiment)


async def _now(context: Dashboard, experiment: ExperimentId) -> Json:
    """Where the experiment stands after what was done."""
    await context.desk.do(lambda library: library.look_again())
    # An answer without what was just recorded would deny what was done.
    await context.desk.catch_up(experiment)
    answer: Header = await context.desk.consult(experiment, header)
    return Json(answer)
