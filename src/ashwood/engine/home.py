"""The directory where experiments live: their record, checkpoints and logs.

::

    .ashwood/
      ashwood.db                    the record of all experiments
      experiments/7/checkpoints/    trial-12/length-16-attempt-2/
      experiments/7/logs/           trial-12.log
      experiments/7/driver.lock     held by the process that runs experiment 7
"""

from __future__ import annotations

import os
from pathlib import Path

from ashwood.errors import EventLogError, NotFound
from ashwood.eventlog.lease import Lease, is_leased
from ashwood.eventlog.port import ExperimentId, ExperimentRecord, Store
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.storage import Storage, open_storage

DEFAULT_HOME = ".ashwood"
_DATABASE = "ashwood.db"


class Home:
    """A home and its store.  Close it, or use it as a context manager.

    Attributes:
        path: the directory, absolute.
        store: the experiments.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.path = path
        self.store = store

    def directory(self, experiment: ExperimentId) -> Path:
        """Where an experiment keeps its files; made if it isn't there."""
        directory = self.path / "experiments" / str(experiment)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def checkpoints(self, experiment: ExperimentId, spec: ExperimentSpec) -> str:
        """The directory or URL of an experiment's checkpoints: in the home, or where its spec says."""
        if spec.checkpoint_storage is None:
            return str(self.path / "experiments" / str(experiment) / "checkpoints")
        if spec.checkpoint_policy is None:  # of version 1, when experiments of one file shared a place
            return f"{spec.checkpoint_storage}/experiment-{experiment}"
        return spec.checkpoint_storage

    def storage(self, experiment: ExperimentId, spec: ExperimentSpec) -> Storage:
        """An experiment's checkpoints."""
        return open_storage(self.checkpoints(experiment, spec))

    def logs(self, experiment: ExperimentId) -> Path:
        """Where the output of an experiment's trials is."""
        return self.directory(experiment) / "logs"

    def lease(self, experiment: ExperimentId) -> Lease:
        """The right to drive an experiment.

        Raises:
            ExperimentBusy: another process has it.
        """
        return Lease(self.directory(experiment) / "driver.lock")

    def is_driven(self, experiment: ExperimentId) -> bool:
        """Whether a living process drives the experiment."""
        return is_leased(self.path / "experiments" / str(experiment) / "driver.lock")

    def is_interrupted(self, record: ExperimentRecord) -> bool:
        """Whether the experiment should be running but its driver is gone."""
        active = record.state in (ExperimentState.RUNNING, ExperimentState.PAUSING)
        return active and not self.is_driven(record.id)

    def close(self) -> None:
        """Close the store.  Idempotent."""
        self.store.close()

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_home(path: str | os.PathLike[str] | None = None, *, create: bool = False) -> Home:
    """Open the home at ``path``; None: at ``ASHWOOD_HOME``, or ``.ashwood`` in the current directory.

    Raises:
        NotFound: there is no home and ``create`` is False.
        EventLogError: the home can't be made or read.
    """
    directory = Path(path or os.environ.get("ASHWOOD_HOME") or DEFAULT_HOME).expanduser().absolute()
    database = directory / _DATABASE
    if not database.exists():
        if not create:
            raise NotFound(
                f"there are no experiments in {directory}; start one with 'ashwood run FILE', or name another "
                "directory with --home or ASHWOOD_HOME"
            )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # A home is data: it keeps itself out of the user's version control.
            (directory / ".gitignore").write_text("*\n")
        except OSError as error:
            raise EventLogError(f"can't make the home {directory}: {error.strerror}; choose another --home") from error
    return Home(directory, SqliteStore(database))
