"""The forecast of an extension of a search, from the files of its home: see `ashwood.forecast.extension`."""

from __future__ import annotations

import time

from ashwood.errors import RequestRefused, SearchError
from ashwood.eventlog.fold_cache import fold
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import TrialState
from ashwood.forecast.extension import ExtensionForecast, forecast_extension
from ashwood.search.vocabulary import TrialId


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
    stored = {each.name for each in home.storage(experiment, spec).complete()}
    saved = _saved_lengths(folded.experiment, stored)
    if home.is_driven(experiment):
        # Running trials save a checkpoint when they leave their workers.
        saved |= {
            each.id: each.length for each in folded.experiment.trials.values() if each.state is TrialState.RUNNING
        }
    try:
        return forecast_extension(
            folded.experiment,
            folded.progress,
            saved,
            max_trials=max_trials,
            max_length=max_length,
            replicates=replicates,
            workers=workers or folded.progress.timeline.slots or 1,
            now=time.time(),
        )
    except SearchError as error:
        raise RequestRefused(f"the search can't be extended: {error}") from None


def _saved_lengths(experiment: Experiment, stored: set[str]) -> dict[TrialId, int]:
    """Return the length of the latest checkpoint of each trial.  Checkpoints that are not ``stored`` do not count."""
    lengths: dict[TrialId, int] = {}
    for checkpoint in experiment.checkpoints:
        # Logs of version 1 contain absolute paths.
        if checkpoint.name in stored or checkpoint.name.startswith("/"):
            lengths[checkpoint.trial] = max(checkpoint.length, lengths.get(checkpoint.trial, 0))
    return lengths
