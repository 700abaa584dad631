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
from ashwood.dashboard import routes
from ashwood.dashboard.answers import ErrorAnswer, ErrorDetail
from ashwood.dashboard.context import Dashboard, Json
from ashwood.dashboard.steering import Steering
from ashwood.dashboard.store_thread import StoreThread
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
    store = StoreThread(open_home)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        reading_ahead = asyncio.create_task(store.read_ahead())
        yield
        reading_ahead.cancel()
        await store.close()

    app = FastAPI(
        title="Ashwood",
        version=__version__,
        summary="Experiments of one home: what they are doing, and what to do about them.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.dashboard = Dashboard(store, steering, name)
    for router in routes.ROUTERS:
        app.include_router(router, prefix="/api/v1")
    app.add_exception_handler(AshwoodError, _ashwood_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
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


async def _ashwood_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AshwoodError)  # noqa: S101 - as it was registered
    return Json(ErrorAnswer.of(error), status_code=next(status for kind, status in _STATUS if isinstance(error, kind)))


async def _invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as it was registered
    places = [(each["loc"], each["msg"]) for each in error.errors()]
    problems = [f"{'.'.join(map(str, loc))}: {message}" for loc, message in places]
    fields = {str(loc[1]): message for loc, message in places if loc[0] == "body" and len(loc) == 2}
    what = "the request is not valid: " + "; ".join(problems)
    return Json(ErrorAnswer(ErrorDetail(what, "see /api/v1/openapi.json", fields)), status_code=422)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as it was registered
    what = "there is no such page" if error.status_code == 404 else str(error.detail)
    response = _error(error.status_code, what, "")
    response.headers.update(error.headers or {})
    return response


async def _internal_error(_: Request, error: Exception) -> Response:
    hint = "report it with the traceback that ashwood ui printed"
    return _error(500, f"internal error: {type(error).__name__}", hint)


def _error(status: int, what: str, hint: str) -> Response:
    return Json(ErrorAnswer(ErrorDetail(what, hint)), status_code=status)
