"""What the processes of a driver that died did, and its log doesn't know."""

from __future__ import annotations

from collections.abc import Iterator

from ashwood.experiment.events import CheckpointSaved, Event, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import TrialState
from ashwood.trial.storage import Storage


def unrecorded(experiment: Experiment, storage: Storage) -> Iterator[Event]:
    """The checkpoints that are complete in the storage and unknown to the experiment, to go on from.

    A checkpoint holds what was reported at its length.  Where that report got lost with the driver,
    it comes first: otherwise the trial would have to train on to report again.  The caller lets the
    experiment handle each event before it asks for the next.
    """
    for trial in experiment.unsettled():
        known = {checkpoint.name for checkpoint in experiment.checkpoints if checkpoint.trial == trial.id}
        for found in storage.complete(trial.id):
            if found.name in known or found.length < trial.checkpoint_length:
                continue
            attempt = min(found.attempt, trial.attempt)
            reported = found.metrics and trial.state is TrialState.RUNNING and attempt == trial.attempt
            if reported and found.length > trial.reported[1]:
                yield ValidationReported(trial.id, attempt, found.length, found.metrics)
            yield CheckpointSaved(trial.id, attempt, found.length, found.name)
