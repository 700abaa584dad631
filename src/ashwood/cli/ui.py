"""``ashwood ui``: the dashboard of a home."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from json import dumps
from threading import Lock

from ashwood.cli.options import DashboardOptions, DriverOptions
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import open_home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import Request
from ashwood.search.vocabulary import TrialId
from ashwood.terminal.text import say

PORT = 8642


def serve_dashboard(home: str | None, ui: DashboardOptions, *, json: bool) -> None:
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
        host, port, with_token=ui.token, allowed_hosts=[*(ui.allow_host or ()), *own_names], read_only=ui.read_only
    )
    url = address(own_names[0] if own_names else host, port, rules.token)

    def ready() -> None:
        say(dumps({"url": url, "pid": os.getpid()}) if json else f"The dashboard of {name} is at {url}")
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
        from ashwood.cli.run import activate_experiment

        # One at a time: a second request for the same experiment is then refused because it is running.
        with self._activating:
            message = activate_experiment(experiment, DriverOptions(home=self._home))
        say(str(message), err=True)  # After the lock is released: the output may block.

    def fork(self, experiment: ExperimentId, text: str) -> ExperimentId:
        """Start a new search from the changed file of an experiment in the background."""
        from ashwood.cli.run import fork_experiment

        message = fork_experiment(self._home, experiment, text)
        say(str(message), err=True)
        return message.experiment

    def write_note(self, experiment: ExperimentId, trial: TrialId | None, text: str) -> None:
        """Replace the note on a trial or on the experiment; an empty text removes it."""
        from ashwood.engine.control import write_note

        with open_home(self._home) as opened:
            write_note(opened, experiment, trial, text)

    def delete(self, experiment: ExperimentId) -> None:
        """Delete an experiment with all its files."""
        from ashwood.engine.removal import remove_experiment

        with open_home(self._home) as opened:
            remove_experiment(opened, experiment)

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
