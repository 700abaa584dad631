"""Real servers on loopback for tests, each in its own thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

from ashwood.dashboard.app import create_app
from ashwood.dashboard.guard import Guard, GuardRules, rules_for
from ashwood.dashboard.steering import Steering
from ashwood.eventlog.home import open_home


@contextmanager
def served(
    app: ASGIApp, rules: GuardRules, *, lifespan: Literal["on", "off"] = "off", port: int = 0
) -> Iterator[tuple[str, int]]:
    """Serve an application, and yield its address."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        config = uvicorn.Config(
            Guard(app, rules),
            log_config=None,
            lifespan=lifespan,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def shown(home: Path, steering: Steering | None = None, *, port: int = 0, **rules: Any) -> Iterator[str]:
    """Serve the dashboard of a home, and yield its URL."""
    app = create_app(lambda: open_home(home), name=home.name, steering=steering)
    with served(app, rules_for("127.0.0.1", port, **rules), lifespan="on", port=port) as (host, taken):
        yield f"http://{host}:{taken}"
