"""``ashwood ui``: the dashboard of a home."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from ashwood.cli.text import say
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import open_home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import Request

PORT = 8642


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """Options of ``ashwood ui``.

    Attributes:
        host: address to listen on.
        port: port to listen on, or None for 8642 or the next free one.
        read_only: whether changes are refused.
        with_token: whether a token is required on loopback, too.
        allowed_hosts: additional host names that browsers may use.
        browser: whether to open a browser, or None to open one if there seems to be one.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    read_only: bool = False
    with_token: bool = False
    allowed_hosts: Sequence[str] = ()
    browser: bool | None = None


def serve_dashboard(home: str | None, ui: DashboardOptions) -> None:
    """Run ``ashwood ui``.

    Raises:
        AshwoodError: the libraries are not installed, there is no such home, or the address cannot be used.
    """
    try:
        from ashwood.dashboard.guard import bare, is_everywhere, rules_for
        from ashwood.dashboard.server import listen, serve
    except ImportError as error:
        raise AshwoodError(
            f"the dashboard needs packages that are not installed ({error}): pip install 'ashwood[ui]'"
        ) from error
    # A home that the user named must exist.  The default one of this directory is created if it does not.
    with open_home(home, create=home is None) as opened:
        name = opened.name
    host = bare(ui.host)
    listening = listen(host, PORT if ui.port is None else ui.port, or_next=ui.port is None)
    port = listening.getsockname()[1]
    own_names = [socket.gethostname(), socket.getfqdn()] if is_everywhere(host) else []
    rules = rules_for(
        host, port, with_token=ui.with_token, allowed_hosts=[*ui.allowed_hosts, *own_names], read_only=ui.read_only
    )
    url = address(own_names[0] if own_names else host, port, rules.token)

    def ready() -> None:
        say(f"The dashboard of {name} is at {url}")
        say("Ctrl-C ends the dashboard; experiments continue.", err=True)
        if rules.token is not None:
            what = "see everything" if ui.read_only else "see and change everything"
            say(f"Anyone with this URL can {what}; the connection is not encrypted.", err=True)
        # With a token, no browser is opened by default: other users of the machine could read the URL with the token
        # in the browser's command line.
        if _has_browser() and rules.token is None if ui.browser is None else ui.browser:
            webbrowser.open(url)

    steering = None if ui.read_only else HomeSteering(home)
    serve(listening, rules, lambda: open_home(home), name=name, steering=steering, ready=ready)


def address(host: str, port: int, token: str | None) -> str:
    """Return the URL to open in a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={token}")


def _has_browser() -> bool:
    """Return whether the user seems to sit at this machine, with a display."""
    if "SSH_CONNECTION" in os.environ or not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ


class HomeSteering:
    """The dashboard's control of the experiments of a home; its methods do what the commands of the same names do.

    The engine is imported when it is needed, so that the dashboard starts faster.
    """

    def __init__(self, home: str | None) -> None:
        self._home = home
        self._activating = Lock()

    def ask(self, experiment: ExperimentId, request: Request) -> None:
        """Send a request to the driver, or carry it out here if no driver is running."""
        from ashwood.engine.control import ask

        with open_home(self._home) as opened:
            ask(opened, experiment, request)

    def activate(self, experiment: ExperimentId) -> None:
        """Start a driver in the background."""
        from ashwood.cli.activate import activate_experiment
        from ashwood.cli.where import BackendOptions

        # One at a time: a second request for the same experiment is then refused because it is running.
        with self._activating:
            message = activate_experiment(self._home, experiment, workers=None, where=BackendOptions())
        say(message)  # After the lock is released: the output may block.

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: list[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change the name, labels or archived flag of an experiment; None leaves a value unchanged."""
        with open_home(self._home) as opened:
            opened.store.annotate(experiment, name=name, labels=labels, archived=archived)
