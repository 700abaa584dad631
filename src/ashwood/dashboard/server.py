"""Serving the dashboard: one process, one address."""

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
from ashwood.dashboard.desk import Desk
from ashwood.dashboard.guard import Guard, GuardRules
from ashwood.dashboard.steering import Steering
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import Home

_BACKLOG = 128
_PORTS_TRIED = 20
_NICENESS = 5
"""Looking never takes a core away from training."""
_LAST_SECONDS = 5.0
"""After a signal, whatever still runs then is abandoned. The dashboard only reads, so nothing is lost."""
_SWITCH_SECONDS = 0.001
"""While one thread draws, an answer changes threads several times, and waits so long each time (Python: 0.005)."""


def listen(host: str, port: int, *, or_next: bool) -> socket.socket:
    """A socket that takes connections at an address; with ``or_next``, at a free port from there on.

    Raises:
        AshwoodError: the address is taken, or none of this machine.
    """
    error: OSError | None = None
    for candidate in range(port, port + (_PORTS_TRIED if or_next and port else 1)):
        try:
            taken = socket.create_server((host, candidate), family=_family(host), backlog=_BACKLOG)
        except OSError as failed:
            error = failed
        else:
            # Connections have it from here; asyncio doesn't see that they are TCP, and each answer would wait 40 ms for
            # the browser to acknowledge its first half.
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
    """Serve the dashboard of a home until the process is told to end, by SIGINT or SIGTERM.

    Args:
        taken: takes the connections; closed at the end.
        rules: what is let through.
        open_home: opens the home.
        name: of the home, for people.
        steering: has things done; None: nothing can be changed.
        ready: called when the first page can be asked for.
    """
    with suppress(OSError):
        os.nice(_NICENESS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    app = create_app(open_home, name=name, steering=steering)
    config = uvicorn.Config(
        Guard(app, rules),
        log_level="warning",
        # It would write tokens down.
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,
        # Live pages are let go at once; a download may be long.
        timeout_graceful_shutdown=1,
    )
    # Ctrl-C is how people end it, and is raised again when all is done.
    with closing(taken), suppress(KeyboardInterrupt):
        _Server(config, app.state.dashboard.desk, ready).run(sockets=[taken])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, desk: Desk, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._desk = desk
        self._ready = ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End on a signal: within a few seconds even if a thread never returns, and at once on a second signal."""
        if self.should_exit:
            os._exit(128 + sig)
        # Python waits for its threads before it ends, but not for daemons.
        watchdog = threading.Timer(_LAST_SECONDS, os._exit, [128 + sig])
        watchdog.daemon = True
        watchdog.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._desk.leaving = True
        await super().shutdown(sockets)
