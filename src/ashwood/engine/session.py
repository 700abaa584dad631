"""One driver's time with one experiment: take it on, fold its log, run it, let go of it."""

from __future__ import annotations

import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ashwood.backends.local import LocalBackend
from ashwood.engine.home import Home
from ashwood.engine.loop import Engine, Observer
from ashwood.errors import (
    CheckpointError,
    ConfigError,
    EventLogError,
    IllegalEvent,
    NotFound,
    Problem,
    ReplayDivergence,
)
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import EventLog, ExperimentId
from ashwood.experiment.events import CheckpointSaved
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.storage import is_remote, join_url


class Session:
    """Drives an experiment of a home on this machine.

    Attributes:
        id: the experiment.
        spec: what it is.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._home = home
        self.id = experiment
        self.spec = home.store.spec(experiment)

    @classmethod
    def create(cls, home: Home, spec: ExperimentSpec, *, at: float) -> Session:
        """Take a new experiment in.

        Raises:
            ConfigError: the checkpoint that its trials are to start from isn't there.
        """
        return cls(home, home.store.create(_with_own_storage(_with_source(home, spec), at), at=at))

    def run(
        self,
        *,
        workers: int | None = None,
        observers: Sequence[Observer] = (),
        summarize: Callable[[], Mapping[str, Any]] | None = None,
        on_ready: Callable[[int], None] | None = None,
        on_interrupt: Callable[[int], None] | None = None,
    ) -> ExperimentState:
        """Run the experiment from where its log ends until it ends or is paused.

        The first Ctrl-C (or SIGTERM) pauses it, the second ends everything at once.

        Args:
            workers: how many slots to use; None: all GPUs, or all cores where there are none.
            observers: called with the entries of each turn; first, with those of the log so far.
            summarize: a summary for the list of experiments.
            on_ready: called with the number of slots, before the first trial starts.
            on_interrupt: called at each Ctrl-C with how many there were.

        Raises:
            ExperimentBusy: another process drives it.
            IllegalEvent: it has ended.
            ReplayDivergence: its log holds other decisions than this Ashwood takes.
            BackendError: no trial can run at all.
        """
        with self._home.lease(self.id):
            log = self._home.store.log(self.id)
            experiment = replay(self.spec, log, observers)
            if experiment.state.ended:
                raise IllegalEvent(f"experiment {self.id} is {experiment.state}: there is nothing left to run")
            with LocalBackend(
                self.spec,
                checkpoints=self._home.checkpoints(self.id, self.spec),
                logs=self._home.logs(self.id),
                workers=workers,
            ) as backend:
                if on_ready is not None:
                    on_ready(backend.slots)
                engine = Engine(experiment, log, backend, observers=observers, summarize=summarize)
                with _interruptible(engine, on_interrupt):
                    return engine.run()


def replay(spec: ExperimentSpec, log: EventLog, observers: Sequence[Observer] = ()) -> Experiment:
    """Fold a log, and check that every recorded decision is what the search decides.

    Raises:
        ReplayDivergence: it isn't; the message names the entry.
    """
    experiment = Experiment(spec)
    for seq, entry in log.read():
        try:
            decisions = experiment.handle(entry.event)
        except IllegalEvent as error:
            raise ReplayDivergence(f"entry {seq} of the log can't follow those before it: {error}") from error
        decided = entry._replace(decisions=decisions)
        # Text settles what equality can't: NaN, and tuples that came back as lists.
        if decisions != entry.decisions and encode_entry(decided) != encode_entry(entry):
            raise ReplayDivergence(
                f"entry {seq} of the log records other decisions than this version of Ashwood takes: "
                f"recorded {entry.decisions}, now {decisions}"
            )
        for observe in observers:
            observe([entry])
    return experiment


@contextmanager
def _interruptible(engine: Engine, on_interrupt: Callable[[int], None] | None) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0

    def interrupt(_signal: int, _frame: object) -> None:
        nonlocal count
        count += 1
        (engine.pause if count == 1 else engine.abandon)()
        if on_interrupt is not None:
            on_interrupt(count)

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _with_own_storage(spec: ExperimentSpec, at: float) -> ExperimentSpec:
    """The spec with a folder of its own in the checkpoint storage, which other homes may share."""
    if spec.checkpoint_storage is None:
        return spec
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name).strip("-.") or "experiment"
    folder = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(at))}-{secrets.token_hex(3)}"
    return replace(spec, checkpoint_storage=join_url(spec.checkpoint_storage, folder))


def _with_source(home: Home, spec: ExperimentSpec) -> ExperimentSpec:
    """The spec with the checkpoint that trials start from as an absolute directory or a URL."""
    source = spec.source_checkpoint
    if source is None or is_remote(source):
        return spec
    path = Path(spec.workdir, source).expanduser()
    place = str(path.absolute()) if path.is_dir() else _find_checkpoint(home, source)
    return replace(spec, source_checkpoint=place)


def _find_checkpoint(home: Home, source: str) -> str:
    """The place of ``EXPERIMENT/TRIAL`` (its latest checkpoint) or ``EXPERIMENT/trial-N/length-N-attempt-N``."""
    experiment, _, rest = source.partition("/")
    key = "searcher.source_trial_id" if rest.isdigit() else "searcher.source_checkpoint_uuid"
    try:
        number = int(experiment)
        spec = home.store.spec(number)
        storage = home.storage(number, spec)
        name = _latest_checkpoint(home.store.log(number), int(rest)) if rest.isdigit() else rest
        with storage.fetch(name):
            return storage.locate(name)
    except (ValueError, NotFound, EventLogError, CheckpointError) as error:
        raise ConfigError([Problem(key, f"no checkpoint {source!r}: {error}")]) from error


def _latest_checkpoint(log: EventLog, trial: int) -> str:
    saved = [e.event.path for _, e in log.read() if isinstance(e.event, CheckpointSaved) and e.event.trial == trial]
    if not saved:
        raise NotFound(f"trial {trial} has no checkpoint")
    return saved[-1]
