"""What people and scripts ask of an experiment: of its driver, or, where none lives, done here."""

from __future__ import annotations

import time
from contextlib import suppress

from ashwood.engine.clock import WallClock
from ashwood.engine.deletion import CheckpointDeletion
from ashwood.engine.recorder import Recorder
from ashwood.engine.snapshot import fold
from ashwood.errors import AshwoodError, ExperimentBusy, RequestRefused
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import Answer, ExperimentId
from ashwood.experiment.events import DriverStopped, Request, SettingsChanged
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.search.settings import MOST_TRIALS

_POLL_SECONDS = 0.02


def ask(home: Home, experiment: ExperimentId, request: Request, *, wait: float = 10.0) -> None:
    """Have something done to an experiment, and return when it is recorded.

    Args:
        home: where the experiment is.
        experiment: which one.
        request: what to do.
        wait: seconds to wait for the driver's answer.

    Raises:
        RequestRefused: it can't be done, and why.
        NotFound: there is no such experiment.
        AshwoodError: the driver didn't answer in time; the request stays recorded, for it or for the next.
    """
    _check_size(request)
    store = home.store
    number = store.post(experiment, request, at=time.time())
    deadline = time.monotonic() + wait
    while (answer := store.answer(number)) is None:
        if not home.is_driven(experiment) and _attend(home, experiment):
            continue
        if time.monotonic() > deadline:
            raise AshwoodError(
                f"the driver of experiment {experiment} hasn't answered for {wait:g} s; what you asked for is "
                "recorded, and will be done when it, or the next driver, gets to it"
            )
        time.sleep(_POLL_SECONDS)
    if answer.refused is not None:
        raise RequestRefused(answer.refused)


def _check_size(request: Request) -> None:
    """Refuse a search that no experiment file can ask for; a log with a larger one, of an older version, replays."""
    trials = request.settings.get("max_trials") if isinstance(request, SettingsChanged) else None
    if isinstance(trials, int) and trials > MOST_TRIALS:
        raise RequestRefused(f"max_trials must be at most {MOST_TRIALS:,}; nothing was changed")


def _attend(home: Home, experiment: ExperimentId) -> bool:
    """Answer all requests as a driver would, without running anything; returns False if another driver is there."""
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
            # A request that stayed would be done much later, after a repair.
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
        for entry in entries:
            folded.progress.apply(*entry)
        recorder.summarize(folded.progress.summary())
        with CheckpointDeletion(home.storage(experiment, spec)) as deletion:
            deletion.observe(entries)
    return True
