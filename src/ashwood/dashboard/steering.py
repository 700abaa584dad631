"""Interface for changing experiments; the implementation is passed in, because this package starts no driver."""

from __future__ import annotations

from typing import Protocol

from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import Request
from ashwood.search.vocabulary import TrialId


class Steering(Protocol):
    """Carries out changes to experiments; each call runs in a worker thread and returns once the change is recorded."""

    def ask(self, experiment: ExperimentId, request: Request) -> None:
        """Send a request to an experiment; its driver carries it out if one runs.

        Raises:
            RequestRefused: the request cannot be carried out; the message says why.
            AshwoodError: no driver answered in time; the request stays recorded.
        """
        ...

    def activate(self, experiment: ExperimentId) -> None:
        """Start a driver that outlives the dashboard.

        Raises:
            RequestRefused: a driver runs already, or the experiment has ended.
            AshwoodError: the new driver ended at once.
        """
        ...

    def fork(self, experiment: ExperimentId, text: str) -> ExperimentId:
        """Start a new search from the changed file of an experiment, in a driver that outlives the dashboard.

        Raises:
            ConfigError: the file is wrong, or changes something that a fork may not change.
            AshwoodError: the new driver ended at once.
        """
        ...

    def write_note(self, experiment: ExperimentId, trial: TrialId | None, text: str) -> None:
        """Replace the note on a trial, or on the experiment if ``trial`` is None; an empty text removes it.

        Raises:
            NotFound: there is no such experiment or trial.
            AshwoodError: the text is too long, or cannot be stored.
        """
        ...

    def delete(self, experiment: ExperimentId) -> None:
        """Delete an experiment with all its files.

        Raises:
            NotFound: there is no such experiment.
            ExperimentBusy: a driver runs it.
            AshwoodError: a file cannot be deleted; the deletion can be repeated.
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
        """Change the name, the labels or the archived flag of an experiment; None leaves a value unchanged.

        Raises:
            NotFound: there is no such experiment.
        """
        ...
