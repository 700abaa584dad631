"""The HTTP server of the dashboard: one process that listens at one address."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from types import FrameType

import uvicorn

from ashwood.dashboard.app import create_app
from ashwood.dashboard.guard import Guard, GuardRules
from ashwood.dashboard.steering import Steering
from ashwood.dashboard.store_thread import StoreThread
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import Home

_BACKLOG = 128
_PORTS_TRIED = 20
_NICENESS = 5
"""Niceness of the process, so that the dashboard does not slow training down."""
_LAST_SECONDS = 5.0
"""Seconds from a signal until the process is ended forcibly.  The dashboard only reads, so nothing is lost."""
_SWITCH_SECONDS = 0.001
"""Seconds that a thread may hold the interpreter lock while others wait (Python's default: 0.005).

While one thread draws, an answer changes threads several times, and may wait that long each time.
"""


def listen(host: str, port: int, *, or_next: bool) -> socket.socket:
    """Return a socket that listens at an address; with ``or_next``, at the next free port.

    Raises:
        AshwoodError: the port is in use, or the address does not belong to this machine.
    """
    error: OSError | None = None
    for candidate in range(port, port + (_PORTS_TRIED if or_next and port else 1)):
        try:
            taken = socket.create_server((host, candidate), family=_family(host), backlog=_BACKLOG)
        except OSError as failed:
            error = failed
        else:
            # Connections inherit the option from here.  asyncio does not set it, because it does not recognise them as
            # TCP.  Without it, each answer would wait 40 ms for the browser to acknowledge its first part.
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return taken
    why = "" if error is None else f": {error.strerror or error}"
    raise AshwoodError(f"can't listen at {host}, port {port}{why}; choose another --port or --host")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def serve(
    taken: socket.socket,
    rules: GuardRules,
    open_home: Callable[[], Home],
    *,
    name: str,
    steering: Steering | None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the dashboard of a home until the process gets SIGINT or SIGTERM.

    Args:
        taken: listening socket; closed at the end.
        rules: which requests are allowed.
        open_home: opens the home.
        name: name of the home, shown to users.
        steering: carries out changes, or None for a read-only dashboard.
        ready: called when the server accepts requests.
    """
    with suppress(OSError):
        os.nice(_NICENESS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    app = create_app(open_home, name=name, steering=steering)
    config = uvicorn.Config(
        Guard(app, rules),
        log_level="warning",
        # An access log would contain tokens.
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,
        # Live streams end at once.  A download could take long, so it is cut off after a second.
        timeout_graceful_shutdown=1,
    )
    # uvicorn raises KeyboardInterrupt again after the shutdown, but Ctrl-C is the normal way to end the server.
    with closing(taken), suppress(KeyboardInterrupt):
        _Server(config, app.state.dashboard.store, ready).run(sockets=[taken])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, store: StoreThread, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._store = store
        self._ready = ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End on a signal: within a few seconds even if a thread never returns, and at once on a second signal."""
        if self.should_exit:
            os._exit(128 + sig)
        # Python waits for its threads before it ends, except for daemon threads.
        watchdog = threading.Timer(_LAST_SECONDS, os._exit, [128 + sig])
        watchdog.daemon = True
        watchdog.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._store.leaving = True
        await super().shutdown(sockets)
