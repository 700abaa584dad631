"""Routes that start a new search from the file of an experiment."""

from __future__ import annotations

import json
from dataclasses import dataclass

from anyio.to_thread import run_sync
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ashwood.dashboard import previewing
from ashwood.dashboard.answers import ExperimentHeader, header
from ashwood.dashboard.context import Context, ExperimentNumber, Json, responses_of
from ashwood.dashboard.routes.previews import LONGEST_TEXT
from ashwood.errors import ConfigError, Problem

router = APIRouter(default_response_class=Json)


@dataclass(frozen=True)
class ForkText:
    """The text from which forks of an experiment start; empty if it was described in Python."""

    text: str


class ForkRequest(BaseModel):
    """The experiment file of a fork."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(max_length=LONGEST_TEXT, description="The file's text.")


@router.get("/experiments/{experiment}/fork", responses=responses_of(ForkText, 404))
async def text_of_fork(context: Context, experiment: ExperimentNumber) -> Json:
    """Return the experiment file with the values of the command line."""
    # Imported here, because it takes long and most users of the dashboard start no fork.
    from ashwood.config import file_of_fork

    return Json(ForkText(file_of_fork(await context.store.ask(experiment, lambda cached: cached.spec))))


@router.post("/experiments/{experiment}/fork", responses=responses_of(ExperimentHeader, 400, 403, 404, 409))
async def fork(context: Context, experiment: ExperimentNumber, request: ForkRequest) -> Json:
    """Start a new search from a changed experiment file, in a driver process that outlives the dashboard.

    It runs the training code of the experiment in the same directory with the same environment, so only keys about the
    search may differ.  The answer is the new experiment.
    """
    steering = context.require_steering()
    # The text is read in a limited process first, so that no text can block this one.
    checked = await previewing.preview({"text": request.text, "is_simulated": False})
    if checked is None:
        raise ConfigError([Problem("", previewing.out_of_limits().problems[0].message)])
    problems = [Problem(each["key"], each["message"], None, each["line"]) for each in json.loads(checked)["problems"]]
    if problems:
        raise ConfigError(problems)
    started = await run_sync(steering.fork, experiment, request.text)
    await context.store.do(lambda cache: cache.refresh_list())
    return Json(await context.store.ask(started, header))
