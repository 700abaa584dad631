"""What every route works with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request, Response

from ashwood.dashboard import answers
from ashwood.dashboard.answers import Answer
from ashwood.dashboard.desk import Desk
from ashwood.dashboard.library import Followed, Library
from ashwood.dashboard.steering import Steering
from ashwood.errors import RequestRefused
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

    async def header(self, experiment: ExperimentId) -> Answer:
        """An experiment's header, with what never changes."""

        def answer(library: Library) -> Answer:
            followed = library.follow(experiment)
            return {
                **header(library, followed),
                **answers.description(followed),
                "best_trial": answers.best_trial(followed),
            }

        await self.desk.ask(experiment, lambda followed: followed.seq)
        return await self.desk.do(answer)

    def steered(self) -> Steering:
        """Whoever can have things done.

        Raises:
            RequestRefused: this dashboard only looks.
        """
        if self.steering is None:
            raise RequestRefused("this dashboard is read-only: it was started with --read-only")
        return self.steering


def header(library: Library, followed: Followed) -> Answer:
    """An experiment's header as it is now."""
    now = time.time()
    listed = library.listed(followed.id)
    shown = answers.header(followed, answers.card(listed.record, followed.spec, driven=listed.driven, now=now), now)
    return {**shown, "read": followed.read}


def cards(library: Library) -> list[Answer]:
    """All experiments, the latest first."""
    now = time.time()
    return [
        answers.card(each.record, library.spec(each.record.id), driven=each.driven, now=now)
        for each in reversed(library.glance())
    ]


def _get(request: Request) -> Dashboard:
    dashboard: Dashboard = request.app.state.dashboard
    return dashboard


Context = Annotated[Dashboard, Depends(_get)]


class Json(Response):
    """An answer; numbers that JSON hasn't are null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS, default=str)
