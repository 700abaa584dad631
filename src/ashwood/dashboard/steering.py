"""What the dashboard has done to experiments: who offers it is passed in, as this room runs nothing itself."""

from __future__ import annotations

from typing import Protocol

from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import Request


class Steering(Protocol):
    """Called in threads of their own; each call returns when what was asked for is recorded."""

    def ask(self, experiment: ExperimentId, request: Request) -> None:
        """Have something done to an experiment, by its driver where one lives.

        Raises:
            RequestRefused: it can't be done, and why.
            AshwoodError: nobody answered; the request stays recorded.
        """
        ...

    def activate(self, experiment: ExperimentId) -> None:
        """Start a driver that outlives the dashboard.

        Raises:
            RequestRefused: one lives already, or the experiment has ended.
            AshwoodError: it ended at once.
        """
        ...

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: list[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change what lists show; None: leave it.

        Raises:
            NotFound: there is no such experiment.
        """
        ...
