"""The forecast of an extension of a search, from the files of its home: see `ashwood.forecast.extension`."""

from __future__ import annotations

import time

from ashwood.checkpoints import Storage
from ashwood.engine.recovery import unrecorded
from ashwood.errors import RequestRefused, SearchError
from ashwood.eventlog.fold_cache import Folded, fold
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.checkpoints import Checkpoint
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CheckpointSaved
from ashwood.forecast.extension import ExtensionForecast, forecast_extension


def preview_extension(
    home: Home,
    experiment: ExperimentId,
    *,
    max_trials: int | None = None,
    max_length: int | None = None,
    replicates: int | None = None,
    workers: int | None = None,
) -> ExtensionForecast:
    """Return what an extension of a search would train.  The experiment does not change.

    Args:
        home: the home of the experiment.
        experiment: the ID of the experiment.
        max_trials: number of trials of the extended search, or None if it does not change.
        max_length: greatest length of the extended search, or None if it does not change.
        replicates: number of the best trials that are replicated, or None if it does not change.
        workers: number of workers, or None for the largest number that the experiment has had.

    Raises:
        RequestRefused: the search cannot be extended so.
        NotFound: there is no experiment with that ID.
        StorageUnreachable: the checkpoints cannot be listed.
    """
    spec = home.store.spec(experiment)
    folded = fold(spec, home.store.log(experiment), home.snapshot(experiment), views=("timeline",))
    if (refusal := folded.experiment.refusal_to_extend) is not None:
        raise RequestRefused(refusal)
    storage, is_driven = home.storage(experiment, spec), home.is_driven(experiment)
    found = [] if is_driven else _catch_up(folded, storage)
    stored = {each.name for each in storage.complete()}
    # Logs of version 1 contain absolute paths.
    kept = [each for each in folded.experiment.checkpoints if each.name in stored or each.name.startswith("/")]
    try:
        return forecast_extension(
            folded.experiment,
            folded.progress,
            [*kept, *found],
            max_trials=max_trials,
            max_length=max_length,
            replicates=replicates,
            workers=workers or folded.progress.timeline.slots or 1,
            now=time.time(),
            is_driven=is_driven,
        )
    except SearchError as error:
        raise RequestRefused(f"the search can't be extended: {error}") from None


def _catch_up(folded: Folded, storage: Storage) -> list[Checkpoint]:
    """Apply what the next driver records first, because the last one died: checkpoints, and reports before them.

    If the experiment has ended, nothing can be applied, and the checkpoints are returned.
    """
    experiment, found = folded.experiment, list[Checkpoint]()
    for event in unrecorded(experiment, storage, experiment.unsettled()):
        if not experiment.state.ended:
            at = 0.0 if folded.last is None else folded.last.at
            folded.progress.apply(Entry(at, event, experiment.handle(event)))
        elif isinstance(event, CheckpointSaved):
            found.append(Checkpoint(event.trial, event.path, event.length, None, event.size))
    return found
