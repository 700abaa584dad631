"""Dependencies and helpers that all routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Path, Request
from fastapi.responses import JSONResponse

from ashwood.dashboard.answers import ErrorAnswer
from ashwood.dashboard.encoding import encode
from ashwood.dashboard.steering import Steering
from ashwood.dashboard.store_thread import StoreThread
from ashwood.errors import RequestRefused

LARGEST = 2**53
"""Largest number that a request may contain; larger integers are not exact in JavaScript."""

# Path parameters are numbers only, so that no request can name a file.
ExperimentNumber: TypeAlias = Annotated[int, Path(ge=1, le=LARGEST, description="The experiment's number.")]
TrialNumber: TypeAlias = Annotated[int, Path(ge=0, le=LARGEST, description="The trial's number.")]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A running dashboard.

    Attributes:
        store: reads the home, in a thread of its own.
        steering: carries out changes, or None if the dashboard is read-only.
        name: name of the home, shown to users.
    """

    store: StoreThread
    steering: Steering | None
    name: str

    def require_steering(self) -> Steering:
        """Return the object that carries out changes.

        Raises:
            RequestRefused: the dashboard is read-only.
        """
        if self.steering is None:
            raise RequestRefused("this dashboard is read-only: it was started with --read-only")
        return self.steering


def _get(request: Request) -> Dashboard:
    dashboard: Dashboard = request.app.state.dashboard
    return dashboard


Context = Annotated[Dashboard, Depends(_get)]


_MEANINGS = {
    400: "A parameter of the request has an invalid value.",
    403: "The request is not allowed, or not from this page or client.",
    404: "What the request names does not exist.",
    409: "The experiment's current state does not allow the request.",
    422: "The request is not valid.",
    503: "The event log cannot be read.",
}


def responses_of(answer: Any, *failures: int, media: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a route for the OpenAPI schema.

    Args:
        answer: type of the JSON body of a successful response.
        failures: status codes that the route can return besides 200, 422 and 503.
        media: media type of a successful response that is not JSON; ``answer`` is ignored then.
    """
    body = {"model": answer} if media is None else {"content": {media: {}}}
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "Success.", **body}}
    errors = {code: {"model": ErrorAnswer, "description": _MEANINGS[code]} for code in (*failures, 422, 503)}
    return responses | errors


class Json(JSONResponse):
    """A JSON response; infinite numbers and NaN become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body as bytes."""
        return encode(content)
