"""``ashwood ui``: the dashboard of a home, on this machine."""

from __future__ import annotations

from ashwood.cli.activate import activate_experiment
from ashwood.cli.where import Where
from ashwood.engine import open_home
from ashwood.engine.control import ask
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import Request


class HomeSteering:
    """Has things done to the experiments of a home, as the commands of the same names do."""

    def __init__(self, home: str | None) -> None:
        self._home = home

    def ask(self, experiment: ExperimentId, request: Request) -> None:
        """Of the driver where one lives, or done here."""
        with open_home(self._home) as opened:
            ask(opened, experiment, request)

    def activate(self, experiment: ExperimentId) -> None:
        """Start a driver in the background."""
        activate_experiment(self._home, experiment, workers=None, where=Where())

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
