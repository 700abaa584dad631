"""Checks of a home and its experiments, and repairs that lose nothing.

A check yields `Finding` objects.  A finding that can be repaired has a function that repairs it, so a check itself
changes nothing.  Summaries, states and heads are rebuilt from the event log.  Files that do not belong to an experiment
are moved to a directory ``set-aside``, and never deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from ashwood.backends.local.logs import logged_experiment
from ashwood.backends.local.worker_lock import is_held
from ashwood.checkpoints import CheckpointInfo, Storage
from ashwood.checkpoints.port import ASIDE
from ashwood.checkpoints.sharing import make_shared
from ashwood.checkpoints.trees import name_below
from ashwood.engine.background import while_beating
from ashwood.engine.clock import WallClock
from ashwood.engine.recorder import Recorder
from ashwood.engine.recovery import is_foreign, owner
from ashwood.engine.removal import CODE
from ashwood.errors import (
    CheckpointError,
    EventLogError,
    ExperimentBusy,
    ReplayDivergence,
    RequestRefused,
    StorageUnreachable,
)
from ashwood.eventlog.fold_cache import Folded, fold, load
from ashwood.eventlog.head import EXPERIMENTS, read_head
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import Answer, ExperimentId, RequestId, Token, UnreadableRequest
from ashwood.eventlog.rows import note_digest, storable
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.eventlog.wal import wal_of
from ashwood.experiment.checkpoints import Checkpoint
from ashwood.experiment.events import CheckpointDamaged
from ashwood.experiment.experiment import Experiment
from ashwood.forecast.time_left import Forecaster
from ashwood.search.vocabulary import TrialId

_TRIAL_LOG: Final = "trial-*.log"


class Finding(NamedTuple):
    """A problem that a check found.

    Attributes:
        problem: what is wrong, and what to do if it cannot be repaired.
        repair: repairs the problem and returns what it did; None if a backup or a decision of the user is needed.
        is_harmless: whether nothing is lost or wrong because of the problem.
    """

    problem: str
    repair: Callable[[], str] | None = None
    is_harmless: bool = False


def check_commits(home: Home) -> Iterator[Finding]:
    """Check the write-ahead log of a home that was opened in spite of damage.  Open the home again after a repair."""
    store = home.store
    if not isinstance(store, SqliteStore):
        return

    def repair() -> str:
        for record in store.experiments():
            if home.is_driven(record.id):
                raise ExperimentBusy(f"experiment {record.id} is running: stop its driver first")
        make_shared(home.path / ASIDE)
        aside = _free(home.path / ASIDE / wal_of(store.path).name)
        store.drop_damaged_commits(aside)
        return f"the commits before the damage are kept; {aside} is a copy of the whole file"

    if store.damage is not None:
        yield Finding(str(store.damage).replace("Nothing was changed; r", "R"), repair)
    elif store.unverified is not None:
        yield Finding(
            f"{store.unverified}: what was recorded in the last second before a crash may be missing", is_harmless=True
        )


def check_home(home: Home) -> Iterator[Finding]:
    """Check the database and the directory of experiments, which all experiments of a home share.

    Nothing is checked for PostgreSQL: the server checks its own pages, and files of its experiments may be on several
    machines.
    """
    if not isinstance(home.store, SqliteStore):
        return
    for problem in home.store.integrity():
        yield Finding(f"{home.store.name} is damaged: {problem}. Restore it from a backup")
    known = {str(record.id) for record in home.store.experiments()}
    for directory in sorted((home.path / EXPERIMENTS).glob("*"), key=lambda path: (len(path.name), path.name)):
        if directory.name.isdecimal() and directory.name not in known:
            yield Finding(
                f"{directory} has the files of an experiment that the database does not have. Was the database, or "
                "its write-ahead log, deleted or replaced by an older one? Restore both",
                # A database without any experiment is probably an empty file that replaced the right one.
                partial(_set_aside, directory, home.path / ASIDE / EXPERIMENTS) if known else None,
            )


def replayed(home: Home, experiment: ExperimentId, beat: Callable[[], None] = lambda: None) -> Folded:
    """Return the state at the end of an event log, and check all of its entries and its length.

    No snapshot is used, so all decisions are compared with those of the search.

    Raises:
        NotFound: there is no experiment with that ID.
        EventLogError: the event log is damaged, or entries are missing.
        ReplayDivergence: the search decides otherwise than was recorded.
    """
    log = home.log(experiment)
    log.check()
    return fold(home.store.spec(experiment), log, beat=beat)


def rebuild(home: Home, experiment: ExperimentId, folded: Folded, token: Token | None = None) -> str:
    """Rebuild the state, the summary, the name and the labels in an experiment's row; return what was done."""
    home.store.annotate(experiment)
    home.store.log(experiment, token).append([], summary=Forecaster(folded.progress).summary())
    return "rebuilt from the event log and the experiment's spec"


class ExperimentCheck:
    """The check of one experiment: its row, its event log, its checkpoints and its other files.

    Attributes:
        counts: numbers of entries, checkpoints and trial logs that were checked so far.
    """

    def __init__(
        self, home: Home, experiment: ExperimentId, token: Token | None = None, beat: Callable[[], None] = lambda: None
    ) -> None:
        """Check an experiment of a home.

        Args:
            home: the home.
            experiment: the ID of the experiment.
            token: fencing token of the lease; repairs need it.
            beat: called many times a second, to renew the lease.

        Raises:
            NotFound: there is no experiment with that ID.
        """
        home.store.record(experiment)
        self._home = home
        self._id = experiment
        self._token = token
        self._last_at = 0.0
        self._beat = beat
        self.counts = {"events": 0, "checkpoints": 0, "logs": 0}

    def findings(self) -> Iterator[Finding]:
        """Yield all problems.  If the caller repairs one, it must do so before it asks for the next one.

        Raises:
            LeaseLost: another driver owns the experiment now.
        """
        try:
            spec = self._home.store.spec(self._id)
        except EventLogError as error:
            yield Finding(f"{error}. Its other parts were not checked")
            return
        yield from self._check_requests()
        is_older = False
        try:
            self._home.log(self._id).check()
        except EventLogError as error:
            is_older = True
            yield Finding(str(error).removeprefix(f"experiment {self._id}: "), self._accept_log)
        try:
            folded = fold(spec, self._home.store.log(self._id), beat=self._beat)
        except (EventLogError, ReplayDivergence) as error:
            yield Finding(f"{error}. Its checkpoints and other files were not checked")
            return
        self.counts["events"] = folded.seq
        self._last_at = 0.0 if folded.last is None else folded.last.at
        yield from self._check_row(folded)
        try:
            self._home.check_imported(self._id)
        except RequestRefused as error:
            yield Finding(str(error).removeprefix(f"experiment {self._id} "))
        if self._home.is_driven(self._id) and self._token is None:
            yield Finding("it is running, so its checkpoints and other files were not checked", is_harmless=True)
            return
        yield from self._check_files(folded)
        yield from self._check_checkpoints(folded.experiment, is_older=is_older)
        yield from self._check_logs(folded.experiment)

    def _check_requests(self) -> Iterator[Finding]:
        for number, request in self._home.store.pending(self._id):
            if isinstance(request, UnreadableRequest):
                why = f"request {number} cannot be read: {request.why}"
                yield Finding(why, partial(self._refuse, number, why))

    def _refuse(self, number: RequestId, why: str) -> str:
        self._home.store.log(self._id, self._token).append([], answers={number: Answer(why)})
        return "refused"

    def _accept_log(self) -> str:
        with self._home.log(self._id, self._token) as log:
            return f"accepted with {log.accept()} entries"

    def _check_row(self, folded: Folded) -> Iterator[Finding]:
        record = self._home.store.record(self._id)
        if record.damage is not None:
            yield Finding(record.damage, partial(rebuild, self._home, self._id, folded, self._token))
        digests = self._home.store.note_digests(self._id)
        for trial, text in self._home.store.notes(self._id).items():
            if note_digest(trial, text) != digests.get(trial):
                which = "on the experiment" if trial is None else f"on trial {trial}"
                yield Finding(f"the note {which} is damaged", partial(self._keep_note, trial, text))

    def _keep_note(self, trial: TrialId | None, text: str) -> str:
        self._home.store.set_note(self._id, trial, storable(text))
        option = "" if trial is None else f" --trial {trial}"
        return f"what is left of its text is kept; to read it: ashwood note {self._id}{option}"

    # -- files ------------------------------------------------------------------------------------------

    def _check_files(self, folded: Folded) -> Iterator[Finding]:
        directory, spec = self._home.directory(self._id), folded.experiment.spec
        if folded.seq and read_head(directory / "head") is None:
            yield Finding(
                f"{directory / 'head'} is missing or damaged, so lost entries at the end of the event log would not be "
                "noticed",
                self._accept_log,
                is_harmless=not (directory / "head").exists(),
            )
        snapshot = self._home.snapshot(self._id)
        if snapshot.exists() and load(spec, snapshot, self._home.store.log(self._id), beat=self._beat) is None:
            yield Finding(
                f"{snapshot} is not used: it is damaged, or of another version of Ashwood. The next driver replaces it",
                partial(_set_aside, snapshot, directory / ASIDE),
                is_harmless=True,
            )
        lock = directory / "workers.lock"
        with suppress(OSError):
            holder = lock.read_text(errors="replace").strip()
            if holder not in ("", spec.identity) and not is_held(lock):
                yield Finding(
                    f"{lock} belongs to the experiment with identity {holder[:64]}, not to this one, which has "
                    f"identity {spec.identity}",
                    partial(_set_aside, lock, directory / ASIDE),
                )
        code = name_below(self._home.path / CODE, Path(spec.workdir))
        if code is not None and not folded.experiment.state.ended and not Path(spec.workdir).is_dir():
            yield Finding(f"its code is missing: there is no directory {spec.workdir}. Restore it from a backup")

    def _check_logs(self, experiment: Experiment) -> Iterator[Finding]:
        spec, logs = experiment.spec, self._home.logs(self._id)
        for log in sorted(logs.glob(_TRIAL_LOG)):
            self._beat()
            self.counts["logs"] += 1
            repair = partial(_set_aside, log, logs / ASIDE)
            number = log.stem.removeprefix("trial-")
            if log.is_symlink() or not log.is_file():
                yield Finding(f"{log} is not a regular file", repair)
            # An import can give an experiment a new identity, but its trial logs still name the old one.
            elif not spec.imported_entries and (other := logged_experiment(log)) not in (None, "", spec.identity):
                yield Finding(
                    f"{log} belongs to the experiment with identity {other}, not to this one, which has identity "
                    f"{spec.identity}",
                    repair,
                )
            elif not number.isdecimal() or int(number) not in experiment.trials:
                yield Finding(f"{log} belongs to a trial that is not in the event log", repair)

    # -- checkpoints ------------------------------------------------------------------------------------

    def _check_checkpoints(self, experiment: Experiment, *, is_older: bool) -> Iterator[Finding]:
        storage = self._home.storage(self._id, experiment.spec)
        try:
            if (source := experiment.spec.source_checkpoint) is not None:
                yield from self._check_checkpoint(storage, source, CheckpointInfo(), None)
            there = while_beating(storage.complete, self._beat)
            names = {stored.name for stored in there}
            recorded = [checkpoint.name for checkpoint in experiment.checkpoints]
            if recorded and names.isdisjoint(recorded) and experiment.spec.checkpoint_policy is not None:
                where = self._home.checkpoints(self._id, experiment.spec)
                yield Finding(f"none of its {len(recorded)} checkpoints is in {where}. Is that file system mounted?")
                return
            for checkpoint in list(experiment.checkpoints):
                name, wanted = checkpoint.name, owner(experiment.trials[checkpoint.trial], experiment)
                repair = partial(self._give_up, experiment, storage, checkpoint, there=name in names)
                # No trial of an ended experiment can continue from an earlier checkpoint, so only a backup helps.
                yield from self._check_checkpoint(storage, name, wanted, None if experiment.state.ended else repair)
                self.counts["checkpoints"] += 1
            for stored in there:
                known, location = experiment.checkpoints.names(stored.trial), storage.locate(stored.name)
                repair = partial(self._set_checkpoint_aside, storage, stored.name)
                if is_foreign(experiment, storage, stored, self._beat):
                    problem = "belongs to another experiment, or to a trial or attempt that is not in the event log"
                    if is_older:
                        problem = "does not belong to a trial in the event log: it was saved after the last entry"
                    yield Finding(f"{location} {problem}", repair)
                elif is_older and stored.name not in known:
                    yield Finding(f"{location} was saved after the last entry of the event log", repair)
        except StorageUnreachable as error:
            yield Finding(f"{error}. Some of its checkpoints were not checked")

    def _check_checkpoint(
        self, storage: Storage, name: str, wanted: CheckpointInfo, repair: Callable[[], str] | None
    ) -> Iterator[Finding]:
        def fetch() -> None:
            with storage.fetch(name, wanted):
                pass

        try:
            while_beating(fetch, self._beat)
        except StorageUnreachable:
            raise
        except CheckpointError as error:
            yield Finding(str(error) if repair is not None else f"{error}. Restore it from a backup", repair)

    def _give_up(self, experiment: Experiment, storage: Storage, checkpoint: Checkpoint, *, there: bool) -> str:
        """Set a damaged checkpoint aside, and record that its trial cannot continue from it."""
        done = [self._set_checkpoint_aside(storage, checkpoint.name)] if there else []
        # Attempt 0 stands for no attempt, because attempts are numbered from 1.
        event = CheckpointDamaged(checkpoint.trial, 0, checkpoint.name, "found by ashwood verify")
        with self._home.log(self._id, self._token) as log:
            # The new event gets the time of the last entry, because the experiment has not run since then.
            Recorder(experiment, log, WallClock()).take([event], at=self._last_at)
        length = experiment.trials[checkpoint.trial].checkpoint_length
        return "; ".join([*done, f"trial {checkpoint.trial} continues from length {length}"])

    def _set_checkpoint_aside(self, storage: Storage, name: str) -> str:
        return f"set aside as {while_beating(partial(storage.set_aside, name), self._beat)}"


def _set_aside(path: Path, directory: Path) -> str:
    """Move a file or a directory into another directory under an unused name; return what was done.

    Raises:
        OSError: the file or directory cannot be moved.
    """
    make_shared(directory)
    target = _free(directory / path.name)
    path.rename(target)
    return f"set aside as {target}"


def _free(path: Path) -> Path:
    """Return the path if it does not exist, or the path with the lowest number at its end that does not exist."""
    free, number = path, 0
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
