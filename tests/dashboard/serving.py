"""Real servers on loopback, in a thread of their own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from ashwood.dashboard.guard import Guard, GuardRules


@contextmanager
def served(app: ASGIApp, rules: GuardRules, *, lifespan: Literal["on", "off"] = "off") -> Iterator[tuple[str, int]]:
    """Where it takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
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
