"""Dependencies and helpers that all routes share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse

from ashwood.dashboard import answers
from ashwood.dashboard.desk import Desk
from ashwood.dashboard.encoding import encode
from ashwood.dashboard.library import Followed, Library, Listed
from ashwood.dashboard.shapes import Card, ExperimentPage, Failure, Header
from ashwood.dashboard.steering import Steering
from ashwood.errors import EventLogError, RequestRefused
from ashwood.eventlog.port import ExperimentId


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A running dashboard.

    Attributes:
        desk: reads the home.
        steering: carries out changes, or None if the dashboard is read-only.
        name: name of the home, shown to users.
    """

    desk: Desk
    steering: Steering | None
    name: str

    async def page(self, experiment: ExperimentId) -> ExperimentPage:
        """Return an experiment's page: its header, its description and its best trial."""

        def answer(library: Library, followed: Followed) -> ExperimentPage:
            return {
                **header(library, followed),
                **answers.description(followed),
                "best_trial": answers.best_trial(followed),
            }

        return await self.desk.consult(experiment, answer)

    def steered(self) -> Steering:
        """Return the object that carries out changes.

        Raises:
            RequestRefused: the dashboard is read-only.
        """
        if self.steering is None:
            raise RequestRefused("this dashboard is read-only: it was started with --read-only")
        return self.steering


def header(library: Library, followed: Followed) -> Header:
    """Return the current header of an experiment."""
    now = time.time()
    listed = library.listed(followed.id)
    card = answers.card(listed.record, followed.spec, driven=listed.driven, now=now)
    return answers.header(followed, card, now)


def cards(library: Library) -> list[Card]:
    """Return the list entries of all experiments, the latest first."""
    now = time.time()
    return [_card(library, each, now) for each in reversed(library.glance())]


def _card(library: Library, listed: Listed, now: float) -> Card:
    try:
        spec = library.spec(listed.record.id)
    except EventLogError as error:
        return answers.damaged_card(listed.record, str(error))
    if listed.record.damage is not None:
        return answers.damaged_card(listed.record, listed.record.damage, spec)
    return answers.card(listed.record, spec, driven=listed.driven, now=now)


def _get(request: Request) -> Dashboard:
    dashboard: Dashboard = request.app.state.dashboard
    return dashboard


_MEANINGS = {
    400: "A parameter of the request has an invalid value.",
    403: "The request is not allowed, or not from this page or client.",
    404: "What the request names does not exist.",
    409: "The experiment's current state does not allow the request.",
    422: "The request is not valid.",
    503: "The event log cannot be read.",
}


def telling(shape: Any, *failures: int, media: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a route for the OpenAPI schema.

    Args:
        shape: type of the JSON body of a successful response.
        failures: status codes that the route can return besides 200, 422 and 503.
        media: media type of a successful response that is not JSON; ``shape`` is ignored then.
    """
    fits = {"model": shape} if media is None else {"content": {media: {}}}
    told: dict[int | str, dict[str, Any]] = {200: {"description": "Success.", **fits}}
    return told | {code: {"model": Failure, "description": _MEANINGS[code]} for code in (*failures, 422, 503)}


Context = Annotated[Dashboard, Depends(_get)]


class Json(JSONResponse):
    """A JSON response; infinite numbers and NaN become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body as bytes."""
        return encode(content)
