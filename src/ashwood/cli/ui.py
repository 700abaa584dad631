"""``ashwood ui``: the dashboard of a home, on this machine."""

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
class Ui:
    """Options of the command.

    Attributes:
        host: the address to listen at.
        port: where; None: 8642, or the next that is free.
        read_only: whether nothing may be changed.
        with_token: ask for a token on loopback, too.
        allowed_hosts: further names under which browsers ask for it.
        browser: open a browser; None: where there seems to be one.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    read_only: bool = False
    with_token: bool = False
    allowed_hosts: Sequence[str] = ()
    browser: bool | None = None


def serve_dashboard(home: str | None, ui: Ui) -> None:
    """``ashwood ui``.

    Raises:
        AshwoodError: the libraries aren't installed, there is no such home, or the address can't be had.
    """
    try:
        from ashwood.dashboard.guard import bare, is_everywhere, rules_for
        from ashwood.dashboard.server import listen, serve
    except ImportError as error:
        raise AshwoodError(
            f"the dashboard needs more than is installed ({error}): pip install 'ashwood[ui]'"
        ) from error
    # A home that was named has to be there; the one of this directory may come later.
    with open_home(home, create=home is None) as opened:
        name = opened.name
    host = bare(ui.host)
    taken = listen(host, PORT if ui.port is None else ui.port, or_next=ui.port is None)
    port = taken.getsockname()[1]
    own_names = [socket.gethostname(), socket.getfqdn()] if is_everywhere(host) else []
    rules = rules_for(
        host, port, with_token=ui.with_token, allowed_hosts=[*ui.allowed_hosts, *own_names], read_only=ui.read_only
    )
    url = address(own_names[0] if own_names else host, port, rules.token)

    def ready() -> None:
        say(f"{name} is at {url}")
        say("Ctrl-C ends the dashboard; experiments go on.", err=True)
        if rules.token is not None:
            what = "look" if ui.read_only else "look, and change everything"
            say(f"Whoever has this address can {what}; what is sent isn't encrypted.", err=True)
        # Other users can read what a browser is started with.
        if _has_browser() and rules.token is None if ui.browser is None else ui.browser:
            webbrowser.open(url)

    steering = None if ui.read_only else HomeSteering(home)
    serve(taken, rules, lambda: open_home(home), name=name, steering=steering, ready=ready)


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={token}")


def _has_browser() -> bool:
    """Whether a person sits at this machine, before a screen."""
    if "SSH_CONNECTION" in os.environ or not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ


class HomeSteering:
    """Has things done to the experiments of a home, as the commands of the same names do.

    What drives experiments is imported when it is needed, so that the first page is there sooner.
    """

    def __init__(self, home: str | None) -> None:
        self._home = home
        self._activating = Lock()

    def ask(self, experiment: ExperimentId, request: Request) -> None:
        """Of the driver where one lives, or done here."""
        from ashwood.engine.control import ask

        with open_home(self._home) as opened:
            ask(opened, experiment, request)

    def activate(self, experiment: ExperimentId) -> None:
        """Start a driver in the background."""
        from ashwood.cli.activate import activate_experiment
        from ashwood.cli.where import Where

        # Whoever asks for the same a moment later is told that it runs.
        with self._activating:
            said = activate_experiment(self._home, experiment, workers=None, where=Where())
        say(said)  # After the lock is released: the output may block.

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: list[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change what lists show."""
        with open_home(self._home) as opened:
            opened.store.annotate(experiment, name=name, labels=labels, archived=archived)
