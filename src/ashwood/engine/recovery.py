"""What processes did before they, or their driver, died, and nobody has recorded."""

from __future__ import annotations

from collections.abc import Iterator

from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.experiment.events import CheckpointSaved, Event, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.trial import Trial
from ashwood.trial.storage import Storage, Stored
from ashwood.trial.storage.manifest import Manifest


def unrecorded(experiment: Experiment, storage: Storage) -> Iterator[Event]:
    """What the processes of a driver that died saved, and reported, without the log knowing of it.

    The caller lets the experiment handle each event before it asks for the next.

    Raises:
        StorageUnreachable: nobody can tell.
    """
    for trial in experiment.unsettled():
        yield from unrecorded_of(trial, experiment, storage)


def unrecorded_of(trial: Trial, experiment: Experiment, storage: Storage) -> Iterator[Event]:
    """The same for one trial, whose process is dead.

    A checkpoint that is complete is one to go on from.  It holds what was reported at its length;
    where that report got lost it comes first: otherwise the trial would have to train on to report
    again.
    """
    known = experiment.checkpoints.names(trial.id)
    for found in storage.complete(trial.id):
        if found.name in known or found.length < trial.checkpoint_length:
            continue
        manifest = _manifest(storage, found.name)
        if manifest is None:
            continue
        if _is_news(trial, found) and manifest.metrics:
            yield ValidationReported(trial.id, found.attempt, found.length, manifest.metrics)
        yield CheckpointSaved(trial.id, found.attempt, found.length, found.name, manifest.metrics)


def _manifest(storage: Storage, name: str) -> Manifest | None:
    try:
        return storage.manifest(name)
    except StorageUnreachable:
        raise
    except CheckpointError:  # as good as none
        return None


def _is_news(trial: Trial, found: Stored) -> bool:
    """Whether the present attempt of a trial got further than the log knows."""
    return (
        trial.state is TrialState.RUNNING
        and found.attempt == trial.attempt
        and (found.attempt, found.length) > trial.reported
    )
