"""What every route works with."""

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
    """One running dashboard.

    Attributes:
        desk: reads.
        steering: has things done; None: looking is all there is.
        name: of the home, for people.
    """

    desk: Desk
    steering: Steering | None
    name: str

    async def page(self, experiment: ExperimentId) -> ExperimentPage:
        """An experiment's header, with what never changes."""

        def answer(library: Library, followed: Followed) -> ExperimentPage:
            return {
                **header(library, followed),
                **answers.description(followed),
                "best_trial": answers.best_trial(followed),
            }

        return await self.desk.consult(experiment, answer)

    def steered(self) -> Steering:
        """Whoever can have things done.

        Raises:
            RequestRefused: this dashboard only looks.
        """
        if self.steering is None:
            raise RequestRefused("this dashboard is read-only: it was started with --read-only")
        return self.steering


def header(library: Library, followed: Followed) -> Header:
    """An experiment's header as it is now."""
    now = time.time()
    listed = library.listed(followed.id)
    card = answers.card(listed.record, followed.spec, driven=listed.driven, now=now)
    return answers.header(followed, card, now)


def cards(library: Library) -> list[Card]:
    """All experiments, the latest first."""
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
    400: "It can't be answered as it was asked.",
    403: "It isn't allowed, from where it was asked or at all.",
    404: "There is no such thing.",
    409: "It can't be done in the state that things are in.",
    422: "The request isn't as it must be.",
    503: "The record can't be read.",
}


def telling(shape: Any, *failures: int, media: str | None = None) -> dict[int | str, dict[str, Any]]:
    """The answers of a route, for the schema: a shape, or a media type, and what may come instead."""
    fits = {"model": shape} if media is None else {"content": {media: {}}}
    told: dict[int | str, dict[str, Any]] = {200: {"description": "As asked for.", **fits}}
    return told | {code: {"model": Failure, "description": _MEANINGS[code]} for code in (*failures, 422, 503)}


Context = Annotated[Dashboard, Depends(_get)]


class Json(JSONResponse):
    """An answer; numbers that JSON hasn't are null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return encode(content)
