"""``ashwood run`` and ``ashwood resume``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from ashwood.cli.progress import Reporter, make_reporter
from ashwood.config import read_experiment
from ashwood.engine import Session, open_home
from ashwood.errors import BackendError
from ashwood.experiment.lifecycle import ExperimentState

_EXIT_CODES = {ExperimentState.COMPLETED: 0, ExperimentState.ERRORED: 1, ExperimentState.PAUSED: 3}


def run_file(file: Path, *, home: str | None, workers: int | None, overrides: Sequence[str], json: bool) -> int:
    """Run the experiment of a file; returns the exit code."""
    loaded = read_experiment(file, overrides=overrides, default_seed=secrets.randbits(31))
    with open_home(home, create=True) as opened:
        session = Session.create(opened, loaded.spec, at=time.time())
        reporter = make_reporter("json" if json else "text", session.id, session.spec)
        for warning in loaded.warnings:
            reporter.warn(warning)
        return _drive(session, reporter, workers)


def resume_experiment(experiment: int, *, home: str | None, workers: int | None, json: bool) -> int:
    """Go on with an experiment; returns the exit code."""
    with open_home(home) as opened:
        session = Session(opened, experiment)
        return _drive(session, make_reporter("json" if json else "text", session.id, session.spec), workers)


def _drive(session: Session, reporter: Reporter, workers: int | None) -> int:
    try:
        with reporter:
            state = session.run(reporter, workers=workers)
    except BackendError as error:
        raise BackendError(
            f"{error}\nMend the training code, then go on with: ashwood resume {session.id}\n"
            "(If the mistake is in the experiment file, which is read once, run it anew.)"
        ) from error
    return _EXIT_CODES[state]
