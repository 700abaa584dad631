"""``ashwood wait``: wait until an experiment ends or pauses."""

from __future__ import annotations

import time

from ashwood.cli.run import EXIT_CODES, EXIT_NEEDS_FIX
from ashwood.engine import Home, open_home
from ashwood.errors import AshwoodError
from ashwood.eventlog.fold_cache import read_progress
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.terminal.messages import closing, command_prefix, needs_fix
from ashwood.terminal.output import tell

_POLL_SECONDS = 0.5


def wait_for(home: str | None, experiment: ExperimentId, *, json: bool) -> int:
    """Wait until no driver runs an experiment, print how it ended, and return the exit code of its run.

    Raises:
        AshwoodError: the experiment has not started, or its driver has died.
    """
    with open_home(home) as opened:
        _wait(opened, experiment)
        progress = read_progress(opened, experiment)
    best = None if progress.result is None else progress.result._asdict()
    data = {"experiment": experiment, "state": progress.state, "why_ended": progress.why_ended, "best": best}
    tell(closing(experiment, progress), json=json, **data)
    return EXIT_NEEDS_FIX if needs_fix(progress) else EXIT_CODES[progress.state]


def _wait(home: Home, experiment: ExperimentId) -> None:
    resume = f"{command_prefix()} resume {experiment}"
    while True:
        record = home.store.record(experiment)
        if record.state is ExperimentState.CREATED and not home.is_driven(experiment):
            if home.store.record(experiment).state is ExperimentState.CREATED:
                raise AshwoodError(f"experiment {experiment} has not started; to start it: {resume}")
        elif home.is_interrupted(record):
            raise AshwoodError(f"experiment {experiment} is interrupted: its driver has died. To continue: {resume}")
        elif not record.state.active and not home.is_driven(experiment):
            return
        time.sleep(_POLL_SECONDS)
