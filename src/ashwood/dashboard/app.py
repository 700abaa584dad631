"""The web application: API routes, error responses, and the pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from ashwood import __version__
from ashwood.dashboard.answers import failure
from ashwood.dashboard.context import Dashboard, Json
from ashwood.dashboard.desk import Desk
from ashwood.dashboard.guard import error_body
from ashwood.dashboard.routes import experiments, figures, previews
from ashwood.dashboard.routes import files as stored
from ashwood.dashboard.routes import steering as controls
from ashwood.dashboard.steering import Steering
from ashwood.errors import (
    AshwoodError,
    CheckpointError,
    ConfigError,
    EventLogError,
    ExperimentBusy,
    NotFound,
    RequestRefused,
)
from ashwood.eventlog.home import Home

_STATIC = Path(__file__).parent / "static"
_STATUS: tuple[tuple[type[AshwoodError], int], ...] = (
    (NotFound, 404),
    (RequestRefused, 409),
    (ExperimentBusy, 409),
    (ConfigError, 422),
    (CheckpointError, 404),
    (EventLogError, 503),
    (AshwoodError, 400),
)


def create_app(open_home: Callable[[], Home], *, name: str, steering: Steering | None = None) -> FastAPI:
    """Return the web application of a home's dashboard.

    Args:
        open_home: opens the home; called in the thread that reads it.
        name: name of the home, shown to users.
        steering: carries out changes, or None for a read-only dashboard.
    """
    desk = Desk(open_home)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        preparing = asyncio.create_task(desk.prepare())
        yield
        preparing.cancel()
        await desk.close()

    app = FastAPI(
        title="Ashwood",
        version=__version__,
        summary="Experiments of one home: what they are doing, and what to do about them.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.dashboard = Dashboard(desk, steering, name)
    for each in (experiments, figures, stored, controls, previews):
        app.include_router(each.router, prefix="/api/v1")
    app.add_exception_handler(AshwoodError, _told)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    _add_pages(app)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/plotly.js", include_in_schema=False)
    async def plotly(request: Request) -> Response:
        """Return the JavaScript of Plotly, from the Python package plotly."""
        return _file(request, Path(str(files("plotly") / "package_data" / "plotly.min.js")))

    # The path of a request is only a key of this dictionary.  It never becomes a file name, so `..` cannot escape.
    static_files = {path.relative_to(_STATIC).as_posix(): path for path in _STATIC.rglob("*") if path.is_file()}

    @app.get("/static/{path:path}", include_in_schema=False)
    async def static(request: Request, path: str) -> Response:
        if path not in static_files:
            raise HTTPException(404)
        return _file(request, static_files[path])

    @app.get("/{path:path}", include_in_schema=False)
    async def page(request: Request, path: str) -> Response:
        """Return the HTML document of every page; its script reads the address."""
        if path.startswith("api/"):
            raise HTTPException(404)
        return _file(request, _STATIC / "index.html")


def _file(request: Request, path: Path) -> Response:
    """Return a file, or status 304 if the browser has it.

    Browsers must ask each time, because an upgrade of Ashwood changes the file at an address.
    """
    whole = FileResponse(path, stat_result=path.stat(), headers={"Cache-Control": "no-cache"})
    if request.headers.get("if-none-match") != whole.headers["etag"]:
        return whole
    return Response(status_code=304, headers={name: whole.headers[name] for name in ("etag", "cache-control")})


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, AshwoodError)  # noqa: S101 - as it was registered
    return Json(failure(error), status_code=next(status for kind, status in _STATUS if isinstance(error, kind)))


async def _malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as it was registered
    problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return _error(422, "the request is not valid: " + "; ".join(problems), "see /api/v1/openapi.json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as it was registered
    what = "there is no such page" if error.status_code == 404 else str(error.detail)
    response = _error(error.status_code, what, "")
    response.headers.update(error.headers or {})
    return response


async def _broken(_: Request, error: Exception) -> Response:
    hint = "report it with the traceback that ashwood ui printed"
    return _error(500, f"internal error: {type(error).__name__}", hint)


def _error(status: int, what: str, hint: str) -> Response:
    return Json(error_body(what, hint), status_code=status)
