"""Requests to an experiment, such as to pause it.

Its driver carries them out.  If no driver runs, the process that sends the request does.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress

from ashwood.engine.clock import WallClock
from ashwood.engine.deletion import CheckpointDeletion
from ashwood.engine.recorder import Recorder
from ashwood.errors import AshwoodError, ExperimentBusy, NotFound, RequestRefused
from ashwood.eventlog.fold_cache import fold, read_progress
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import Answer, ExperimentId, ExperimentRecord
from ashwood.experiment.entry import fold as fold_entries
from ashwood.experiment.events import AddTrialRequested, DriverStopped, ExtendRequested, Request, SettingsChanged
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.forecast.time_left import Forecaster
from ashwood.search.settings import MOST_TRIALS, Method
from ashwood.search.vocabulary import TrialId

_POLL_SECONDS = 0.02


def ask(home: Home, experiment: ExperimentId, request: Request, *, wait: float = 10.0) -> None:
    """Send a request to an experiment and return when it is carried out and recorded.

    Args:
        home: the home of the experiment.
        experiment: the ID of the experiment.
        request: the request.
        wait: maximum number of seconds to wait for the driver's answer.

    Raises:
        RequestRefused: the experiment cannot do that; the message says why.
        NotFound: there is no experiment with that ID.
        AshwoodError: the driver did not answer in time.  The request stays recorded; this driver or the next one
            carries it out.
    """
    _check_size(request)
    store = home.store
    _suggest_extension(home, store.record(experiment), request)
    number = store.post(experiment, request, at=time.time())
    deadline = time.monotonic() + wait
    while (answer := store.answer(number)) is None:
        if not home.is_driven(experiment) and _attend(home, experiment):
            continue
        if time.monotonic() > deadline:
            raise AshwoodError(
                f"the driver of experiment {experiment} has not answered for {wait:g} s. The request is recorded: "
                "this driver, or the next one, will carry it out"
            )
        time.sleep(_POLL_SECONDS)
    if answer.refused is not None:
        raise RequestRefused(re.sub("^the experiment ", f"experiment {experiment} ", answer.refused))


def write_note(home: Home, experiment: ExperimentId, trial: TrialId | None, text: str) -> None:
    """Replace the note on a trial, or on the experiment if ``trial`` is None; an empty or blank text removes it.

    Raises:
        NotFound: there is no such experiment or trial.
        AshwoodError: the text is too long, or no database can store it.
    """
    if trial is not None and trial not in (rows := read_progress(home, experiment).trials.rows):
        there = f"it has trials 0 to {len(rows) - 1}" if rows else "it has none yet"
        raise NotFound(f"experiment {experiment} has no trial {trial}; {there}")
    home.store.set_note(experiment, trial, text if text.strip() else "")


def _check_size(request: Request) -> None:
    """Refuse a number of trials that is larger than an experiment file may have.

    This is checked here and not when events are replayed, because logs of older versions may contain larger numbers.
    """
    match request:
        case SettingsChanged(settings):
            trials = settings.get("max_trials")
        case ExtendRequested(max_trials):
            trials = max_trials
        case _:
            return
    if isinstance(trials, int) and trials > MOST_TRIALS:
        raise RequestRefused(f"max_trials must be at most {MOST_TRIALS:,}, not {trials:,}; nothing was changed")


def _suggest_extension(home: Home, record: ExperimentRecord, request: Request) -> None:
    """Refuse what a completed experiment cannot do if it is possible after an extension, which the message names."""
    if record.state is not ExperimentState.COMPLETED:
        return
    match request:
        case SettingsChanged(settings) if (trials := settings.get("max_trials")) is not None:
            raise RequestRefused(
                f"experiment {record.id} is completed, so its max_trials can't be set. To add trials to its search: "
                f"ashwood extend {record.id} --max-trials {trials}"
            )
        case AddTrialRequested() if home.store.spec(record.id).search.method not in (Method.GRID, Method.SINGLE):
            trials = record.summary.get("trials_planned", 0) + 1
            raise RequestRefused(
                f"experiment {record.id} is completed, so no trial can be added. First extend its search by one trial: "
                f"ashwood extend {record.id} --max-trials {trials} --no-run"
            )


def _attend(home: Home, experiment: ExperimentId) -> bool:
    """Answer all requests as a driver would, without running trials; return False if a driver owns the experiment."""
    try:
        lease = home.lease(experiment)
    except ExperimentBusy:
        return False
    with lease, home.log(experiment, lease.token) as log:
        spec = home.store.spec(experiment)
        try:
            log.check()
            folded = fold(spec, log, home.snapshot(experiment), beat=lease.beat)
        except AshwoodError as error:
            # Without an answer the request would stay in the inbox, and would be carried out when the log is repaired
            # much later.
            with suppress(AshwoodError):
                log.append([], answers=dict.fromkeys(dict(home.store.pending(experiment)), Answer(str(error))))
            raise
        clock = WallClock(not_before=0.0 if folded.last is None else folded.last.at)
        recorder = Recorder(folded.experiment, log, clock)
        entries = recorder.answer(home.store.pending(experiment))
        state = folded.experiment.state
        leaving = state in (ExperimentState.PAUSING, ExperimentState.STOPPING)
        if leaving or (folded.experiment.over and not state.ended):
            entries += recorder.take([DriverStopped()])
        recorder.summarize(Forecaster(fold_entries(folded.progress, entries)).summary())
        with CheckpointDeletion(home.storage(experiment, spec)) as deletion:
            deletion.observe(entries)
    return True
