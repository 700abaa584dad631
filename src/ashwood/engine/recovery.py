"""Finds checkpoints and reports that are not in the event log because a process or its driver died."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from math import inf
from typing import NamedTuple, TypeAlias

from ashwood.checkpoints import RETRY_SECONDS, CheckpointInfo, Storage, Stored, digest_of_draw
from ashwood.checkpoints.manifest import Manifest
from ashwood.checkpoints.port import parse_name
from ashwood.engine.background import in_background, while_beating
from ashwood.engine.clock import elapsed
from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.experiment.events import AttemptFailed, AttemptPreempted, CheckpointSaved, Event, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.trial import TrialRecord
from ashwood.search.vocabulary import TrialId

_Died: TypeAlias = AttemptFailed | AttemptPreempted

_PATIENCE = RETRY_SECONDS + 15.0
"""Seconds that the end of an attempt waits for the storage, which itself retries for `RETRY_SECONDS`."""
_PATIENCE_WHILE_LEAVING = 5.0
"""Seconds that it waits if the experiment pauses or ends.  The next driver looks for checkpoints again."""
_UNREACHABLE_SECONDS = 60.0
"""Seconds for which a storage is not read again after it did not answer."""
_LOOK_AGAIN_SECONDS = 0.02


class Found(NamedTuple):
    """A complete checkpoint and its manifest."""

    stored: Stored
    manifest: Manifest


def unrecorded(
    experiment: Experiment, storage: Storage, trials: Sequence[TrialRecord], beat: Callable[[], None] = lambda: None
) -> Iterator[Event]:
    """Yield events for checkpoints and reports of dead processes that are not in the event log.

    The caller must let the experiment handle each event before it asks for the next one.

    Args:
        experiment: the state at the end of the event log.
        storage: the storage of its checkpoints.
        trials: the trials to look for.
        beat: called twice a second while the storage is read.

    Raises:
        StorageUnreachable: the storage cannot be read.
    """
    for trial in trials:
        found = while_beating(_look_up_of(trial, experiment, storage), beat)
        yield from _events(experiment, trial.id, found)


def set_aside_foreign(
    experiment: Experiment, storage: Storage, beat: Callable[[], None] = lambda: None
) -> list[tuple[str, str]]:
    """Move checkpoints aside that cannot belong to this experiment; return the name and the new path of each.

    They belong to another experiment, or were saved after the backup from which the database was restored.  A
    checkpoint is one of them if its trial or attempt is not in the event log, or if its manifest names another
    experiment or other hyperparameters.

    Raises:
        StorageUnreachable: the storage cannot be read, or a checkpoint cannot be moved.
    """
    stored = while_beating(storage.complete, beat)
    names = [each.name for each in stored if is_foreign(experiment, storage, each, beat)]
    return [(name, while_beating(partial(storage.set_aside, name), beat)) for name in names]


def delete_unneeded(experiment: Experiment, storage: Storage, beat: Callable[[], None] = lambda: None) -> None:
    """Delete checkpoints that a former driver decided to delete, but did not delete before it died.

    Otherwise the storage would hold more than max_size allows.

    Raises:
        StorageUnreachable: the storage cannot be read, or a checkpoint cannot be deleted.
    """
    for stored in while_beating(storage.complete, beat):
        if experiment.checkpoints.is_unneeded(stored.trial, stored.name, stored.length):
            while_beating(partial(storage.delete, stored.name), beat)


def is_foreign(experiment: Experiment, storage: Storage, stored: Stored, beat: Callable[[], None]) -> bool:
    """Return whether a checkpoint cannot belong to an experiment; see `set_aside_foreign`.

    Raises:
        StorageUnreachable: the storage cannot be read.
    """
    trial = experiment.trials.get(stored.trial)
    if trial is None or stored.attempt > trial.attempt:
        return True
    if stored.name in experiment.checkpoints.names(trial.id):
        return False  # The manifest is checked when an attempt starts from the checkpoint.
    return while_beating(partial(_manifest, storage, stored.name, owner(trial, experiment)), beat) is None


def is_wanted(experiment: Experiment, name: str) -> bool:
    """Return whether an experiment needs a checkpoint that is still on a worker's node.

    It does not need a checkpoint that is already recorded (it may have been deleted since), one that is shorter than
    the latest checkpoint of its trial, or one of a trial that has ended.  There are two exceptions: the last
    checkpoint of a completed trial is its result, and the process of an unsettled trial may have saved one that is
    not recorded.
    """
    parts = parse_name(name)
    trial = None if parts is None else experiment.trials.get(parts.trial)
    if parts is None or trial is None:
        return False
    over = trial.ended and trial.state is not TrialState.COMPLETED and trial not in experiment.unsettled()
    return not over and parts.length >= trial.checkpoint_length and name not in experiment.checkpoints.names(trial.id)


class Recovery:
    """Inserts events for unrecorded checkpoints before the event that says that an attempt died.

    A local directory is read at once.  A URL may be unreachable, and its client may try for a minute before it
    fails.  So a URL is read in another thread, for one trial at a time, and the event that ends the attempt is held
    back until then, for at most a minute.  Meanwhile the trial's next attempt does not start; all other trials are
    not affected.

    If a storage cannot be read, the trial repeats the training since its last recorded checkpoint.  Many trials fail
    at the same time if a storage is unreachable, so it is not read again for a minute.
    """

    def __init__(
        self, experiment: Experiment, storage: Storage, *, remote: bool, clock: Callable[[], float] = elapsed
    ) -> None:
        """Read ``storage``, in a thread if it is ``remote``."""
        self._experiment = experiment
        self._storage = storage
        self._remote = remote
        self._clock = clock
        self._held: deque[_Died] = deque()
        self._answer: Future[list[Found]] | None = None
        self._asked_at = inf
        self._unreachable_until = -inf

    @property
    def next_due(self) -> float:
        """Time at which to check `ready` again; infinite if no event is held back."""
        return self._clock() + _LOOK_AGAIN_SECONDS if self._held else inf

    @property
    def ready(self) -> bool:
        """Whether an event that was held back can be handled now."""
        if not self._held:
            return False
        if self._answer is None or self._answer.done():
            return True
        leaving = self._experiment.state is not ExperimentState.RUNNING
        patience = _PATIENCE_WHILE_LEAVING if leaving else _PATIENCE
        return self._clock() >= self._asked_at + patience

    def complete(self, events: Sequence[Event]) -> Iterator[Event]:
        """Yield the delayed events that are ready, then ``events``.

        Before each event that says that an attempt died come those for its unrecorded checkpoints and reports.  The
        caller must let the experiment handle each event before it asks for the next one.
        """
        while self.ready:
            yield from self._released()
        for event in events:
            if not isinstance(event, _Died):
                yield event
            elif not self._remote:
                with suppress(StorageUnreachable):
                    yield from _events(self._experiment, event.trial, self._look_up(event.trial)())
                yield event
            else:
                self._held.append(event)
        # A held event is never yielded here, even if it is ready: the last of ``events`` may have ended the experiment.
        self._ask()

    def _ask(self) -> None:
        if self._held and self._answer is None and self._clock() >= self._unreachable_until:
            self._answer = in_background(self._look_up(self._held[0].trial))
            self._asked_at = self._clock()

    def _released(self) -> Iterator[Event]:
        event, answer = self._held.popleft(), self._answer
        self._answer = None
        if answer is not None:
            try:
                found = answer.result(timeout=0)
            except (StorageUnreachable, TimeoutError):
                self._unreachable_until = self._clock() + _UNREACHABLE_SECONDS
            else:
                yield from _events(self._experiment, event.trial, found)
        yield event
        self._ask()

    def _look_up(self, trial: TrialId) -> Callable[[], list[Found]]:
        return _look_up_of(self._experiment.trials[trial], self._experiment, self._storage)


def _look_up_of(trial: TrialRecord, experiment: Experiment, storage: Storage) -> Callable[[], list[Found]]:
    """Return a function that looks up the unrecorded checkpoints of a trial that are long enough to be used.

    The function may be called in any thread.  It raises StorageUnreachable if the storage cannot be read.
    """
    known, wanted, length = experiment.checkpoints.names(trial.id), owner(trial, experiment), trial.checkpoint_length

    def look_up() -> list[Found]:
        unknown = [each for each in storage.complete(trial.id) if each.length >= length and each.name not in known]
        manifests = ((stored, _manifest(storage, stored.name, wanted)) for stored in unknown)
        return [Found(stored, manifest) for stored, manifest in manifests if manifest is not None]

    return look_up


def owner(trial: TrialRecord, experiment: Experiment) -> CheckpointInfo:
    """Return the identity that manifests of a trial's checkpoints must have."""
    return CheckpointInfo(experiment=experiment.spec.identity, draw=digest_of_draw(trial.hparams, trial.seed))


def _manifest(storage: Storage, name: str, wanted: CheckpointInfo) -> Manifest | None:
    """Return the manifest of a checkpoint, or None if the checkpoint is damaged or of another experiment or trial."""
    try:
        manifest = storage.manifest(name)
        manifest.about.check_fits(wanted, name)
    except StorageUnreachable:
        raise
    except CheckpointError:
        return None
    return manifest


def _events(experiment: Experiment, number: TrialId, found: Sequence[Found]) -> Iterator[Event]:
    """Yield the events that are missing for these checkpoints: their reports, then the checkpoints.

    The manifest of a checkpoint contains all reports since the checkpoint before it.  They are yielded first.
    Otherwise the learning curve would have a gap, and a trial at its target would have no report for the search to
    judge.  Reports of an earlier attempt are recorded for the present one, which has not started yet.

    Two kinds of checkpoints are skipped.  A checkpoint at the target of its trial cannot be used if the report that
    the search waits for is missing.  A checkpoint beyond the target was saved after a decision that is not in the
    event log, so the database was restored from an older backup.
    """
    trial, known = experiment.trials[number], experiment.checkpoints.names(number)
    for stored, manifest in found:
        reports = [(length, metrics) for length, metrics in manifest.reports if metrics and length < stored.length]
        is_known = stored.name in known or stored.length < trial.checkpoint_length
        # Only a report with the metric of the search is judged. After other reports, training continues past the
        # target.
        judged = (length for length, metrics in reports if experiment.spec.metric in metrics)
        if is_known or any(length >= trial.target for length in judged):
            continue
        for length, metrics in (*reports, (stored.length, manifest.metrics)):
            if metrics and trial.state is TrialState.RUNNING and (trial.attempt, length) > trial.reported:
                yield ValidationReported(trial.id, trial.attempt, length, metrics)
        if stored.length < trial.target or stored.length <= trial.reported[1]:
            yield CheckpointSaved(trial.id, stored.attempt, stored.length, stored.name, manifest.metrics, manifest.size)
