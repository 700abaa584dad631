"""What the processes of a driver that died did, and its log doesn't know."""

from __future__ import annotations

from collections.abc import Iterator

from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.experiment.events import CheckpointSaved, Event, ValidationReported
from ashwood.experiment.experiment import Experiment, Trial
from ashwood.experiment.lifecycle import TrialState
from ashwood.trial.storage import Storage, Stored
from ashwood.trial.storage.manifest import Manifest


def unrecorded(experiment: Experiment, storage: Storage) -> Iterator[Event]:
    """The checkpoints that are complete in the storage and unknown to the experiment, to go on from.

    A checkpoint holds what was reported at its length.  Where that report got lost with the driver,
    it comes first: otherwise the trial would have to train on to report again.  The caller lets the
    experiment handle each event before it asks for the next.
    """
    for trial in experiment.unsettled():
        known = experiment.checkpoints.names(trial.id)
        for found in storage.complete(trial.id):
            if found.name in known or found.length < trial.checkpoint_length:
                continue
            manifest = _manifest(storage, found.name)
            if manifest is None:
                continue
            if _is_news(trial, found) and manifest.metrics:
                yield ValidationReported(trial.id, found.attempt, found.length, manifest.metrics)
            yield CheckpointSaved(trial.id, found.attempt, found.length, found.name)


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
