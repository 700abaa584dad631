"""Homes: the directory or database where experiments are stored, with their event logs, checkpoints and trial logs.

::

    .ashwood/
      ashwood.db                    event logs, leases and requests of all experiments
      experiments/7/checkpoints/    trial-12/length-16-attempt-2/
      experiments/7/logs/           trial-12.log
      experiments/7/trials/         12-1f0c9a7e/, the directory of a trial; see `ashwood.checkpoints.directory`
      experiments/7/head            head file, see `ashwood.eventlog.head`
      experiments/7/snapshot        snapshot of the event log, see `ashwood.eventlog.fold_cache`
      experiments/7/ballast         reserve file while a driver runs, see `ashwood.eventlog.reserve`

A home in PostgreSQL has its event logs in the database.  Its files are on the machine of each driver, in
``~/.ashwood/postgresql-IDENTITY``, or in ``postgresql-IDENTITY`` in the directory ``ASHWOOD_FILES`` if that is set; see
`ashwood.eventlog.files`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ashwood.checkpoints import BRIEF, CheckpointInfo, Patience, Storage, join_url, open_storage
from ashwood.checkpoints.directory import FOLDER
from ashwood.checkpoints.sharing import how_to_share, make_shared, owner_name, share
from ashwood.errors import DiskFull, EventLogError, NotFound, RequestRefused
from ashwood.eventlog.files import Directories, claim_directory, find_directories, read_claim
from ashwood.eventlog.head import EXPERIMENTS, HeadedLog, head_in, numbers_with_head
from ashwood.eventlog.lease import Lease, is_driven, take_lease
from ashwood.eventlog.port import ExperimentId, ExperimentRecord, Store, Token
from ashwood.eventlog.reserve import FULL, Reserve, ReserveFile
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.eventlog.wal import has_wal, wal_of
from ashwood.experiment.spec import ExperimentSpec

if TYPE_CHECKING:
    from ashwood.eventlog.postgres import PostgresStore

DEFAULT_HOME = ".ashwood"
WAITS = "driver_waits"
"""Key in the summary of an experiment for what its driver waits for; see `Home.waits_for`."""
_DATABASE = "ashwood.db"
_POSTGRES = ("postgresql://", "postgres://")
_OWN_FOLDER = re.compile(r"/[A-Za-z0-9._-]+-\d{8}-\d{6}-[0-9a-f]{6}(?=$|\?)")


class Home:
    """A home and its store.  Close it, or use it as a context manager.

    Attributes:
        path: absolute path of the directory of its files on this machine.
        store: the store of its experiments.
        name: its name for messages: the directory, or the URL of the database without the password.
        identity: the same for two homes only if they are one home: the directory with links resolved, or the identity
            of the database.
    """

    def __init__(
        self,
        path: Path,
        store: Store,
        name: str | None = None,
        *,
        identity: str | None = None,
        former: Sequence[Path] = (),
    ) -> None:
        """Combine a directory and a store.

        Args:
            path: the directory of its files.
            store: the store of its experiments.
            name: its name for messages, by default the directory.
            identity: its identity, by default the directory.
            former: other directories that hold files of some of its experiments.
        """
        self.path = path
        self.store = store
        self.name = str(path) if name is None else name
        self.identity = str(path) if identity is None else identity
        self._former = tuple(former)

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories on this machine that hold its files; new files go into the first."""
        return self.path, *self._former

    def is_gone(self) -> bool:
        """Return whether its database file was deleted or replaced since it was opened."""
        return self.store.is_gone()

    def create(
        self,
        spec: ExperimentSpec,
        *,
        at: float,
        identity: str = "",
        left_out: Callable[[ExperimentId], None] = lambda _: None,
    ) -> ExperimentId:
        """Add an experiment and return its number.

        A number is skipped if its directory holds files.  They belong to an experiment that the database does not
        contain any more.

        Args:
            spec: spec of the experiment.
            at: when it was created, in seconds since 1970.
            identity: its identity, by default a random one.
            left_out: called with each number that is skipped.

        Raises:
            EventLogError: the database cannot be written.
        """
        spec = replace(spec, identity=identity or secrets.token_hex(8))
        while self._has_files(experiment := self.store.create(spec, at=at)):
            self.store.delete(experiment)
            left_out(experiment)
        return experiment

    def _has_files(self, experiment: ExperimentId) -> bool:
        """Return whether the experiment directory on this machine holds anything."""
        try:
            return any(self.files(experiment).iterdir())
        except FileNotFoundError:
            return False
        except OSError:  # It is not a directory, or cannot be read.
            return True

    def directory(self, experiment: ExperimentId) -> Path:
        """Return the experiment directory on this machine; it is made if it does not exist.

        Raises:
            DiskFull: the disk is full.
            EventLogError: the directory cannot be made or written, or the home's directory belongs to another database.
        """
        self.make()
        directory = self.files(experiment)
        with _made(directory, self.path):
            make_shared(directory)
            if not os.access(directory, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return directory

    def make(self) -> None:
        """Make the directory of the home's files if it does not exist.

        Raises:
            DiskFull: the disk is full.
            EventLogError: the directory cannot be made, or belongs to another database.
        """
        with _made(self.path, self.path):
            if isinstance(self.store, SqliteStore) or not self.identity:
                make_shared(self.path)
            else:
                claim_directory(self.path, self.identity, self.name)

    def checkpoints(self, experiment: ExperimentId, spec: ExperimentSpec) -> str:
        """Return the directory or URL of an experiment's checkpoints."""
        if spec.checkpoint_storage is None:
            return str(self.files(experiment) / "checkpoints")
        # In version 1, which had no checkpoint policy, all experiments of one file shared a storage.
        if spec.checkpoint_policy is None:
            return f"{spec.checkpoint_storage}/experiment-{experiment}"
        return spec.checkpoint_storage

    def storage(self, experiment: ExperimentId, spec: ExperimentSpec, patience: Patience = BRIEF) -> Storage:
        """Return the checkpoint storage of an experiment.  ``patience`` is how long it retries failed operations."""
        storage = open_storage(self.checkpoints(experiment, spec), patience)
        storage.owner = CheckpointInfo(experiment=spec.identity)
        return storage

    def snapshot(self, experiment: ExperimentId) -> Path:
        """Return the path of the driver's snapshot of an experiment; see `ashwood.eventlog.fold_cache`."""
        return self.files(experiment) / "snapshot"

    def logs(self, experiment: ExperimentId) -> Path:
        """Return the directory of an experiment's trial logs."""
        return self.files(experiment) / "logs"

    def trial_directories(self, experiment: ExperimentId) -> Path:
        """Return the folder of the directories of an experiment's trials; see `ashwood.checkpoints.directory`."""
        return self.files(experiment) / FOLDER

    def reserve_file(self, experiment: ExperimentId) -> ReserveFile:
        """Return the reserve file of an experiment, and with it the reserve of the database server if there is one."""
        also = self.store if isinstance(self.store, Reserve) else None
        return ReserveFile(self.files(experiment) / "ballast", also=also)

    def lease(self, experiment: ExperimentId) -> Lease:
        """Take the lease of an experiment; see `ashwood.eventlog.lease.take_lease`.

        Raises:
            ExperimentBusy: another driver owns the experiment.
        """
        return take_lease(self.store, experiment)

    def is_driven(self, experiment: ExperimentId) -> bool:
        """Return whether an experiment seems to have a driver, on this or another machine."""
        return is_driven(self.store, experiment)

    def is_interrupted(self, record: ExperimentRecord) -> bool:
        """Return whether an experiment is in an active state but has no driver."""
        if not record.state.active or self.is_driven(record.id):
            return False
        # The driver may have ended the experiment and released its lease since the record was read.
        with suppress(NotFound):
            return self.store.record(record.id).state.active
        return False

    def waits_for(self, record: ExperimentRecord) -> str | None:
        """Return what a driver waits for before it starts a trial, or None if it does not wait."""
        match record.summary.get(WAITS):
            case {"process": process, "for": str(what)} if self.is_driven(record.id):
                lease = self.store.lease(record.id)
                # A driver that was killed while it waited cannot remove the key, so the owner must be the same process.
                return what if lease is not None and lease.driver.process == process else None
        return None

    def log(self, experiment: ExperimentId, token: Token | None = None) -> HeadedLog:
        """Return the event log of an experiment with its head file; see `ashwood.eventlog.port.Store.log`.

        Raises:
            NotFound: there is no such experiment.
        """
        return HeadedLog(self.store.log(experiment, token), experiment, self._head(experiment))

    def damage(self, record: ExperimentRecord) -> str | None:
        """Return a message about damage of an experiment, with advice, or None; only fast checks are done."""
        try:
            self.store.check_spec(record.id)
        except NotFound:  # It was deleted meanwhile.
            return None
        except EventLogError as error:
            return str(error)
        return record.damage or self.missing(record.id)

    def missing(self, experiment: ExperimentId) -> str | None:
        """Return a message about missing entries of a log, with advice, or None if the head's entry is there."""
        try:
            self.log(experiment).check()
        except NotFound:  # It was deleted meanwhile.
            return None
        except EventLogError as error:
            return str(error).removeprefix(f"experiment {experiment}: ")
        return None

    def check_imported(self, experiment: ExperimentId) -> None:
        """Check that an imported experiment has all of its entries; the import may have been killed.

        Raises:
            RequestRefused: entries are missing.
        """
        expected, there = self.store.spec(experiment).imported_entries, self.store.log(experiment).last()
        if there < expected:
            raise RequestRefused(
                f"experiment {experiment} was not imported completely: its event log has {there} of {expected} "
                f"entries. Delete it (ashwood delete {experiment}) and import the file again"
            )

    def unverified(self, experiment: ExperimentId) -> str | None:
        """Return a message about entries that a crash may have cost, or None if the write-ahead log could be read."""
        if not isinstance(self.store, SqliteStore) or self.store.unverified is None:
            return None
        head = self.log(experiment).check()
        return (
            f"{self.store.unverified}; entries of experiment {experiment} after {head.seq if head else 0} are not "
            "verified: those of the last second before the crash may be missing"
        )

    def check_numbers(self, records: Sequence[ExperimentRecord] | None = None) -> None:
        """Check that the database contains all experiments whose files are in the home.

        Args:
            records: all experiments of the database, or None to read them.

        Raises:
            EventLogError: experiments are missing, so the database is probably an older copy.
        """
        # If an experiment in PostgreSQL is deleted, its files on other machines stay.
        if not isinstance(self.store, SqliteStore):
            return
        known = {record.id for record in (self.store.experiments() if records is None else records)}
        if lost := sorted(numbers_with_head(self.path) - known):
            raise EventLogError(_lost(self.path, lost))

    def files(self, experiment: ExperimentId) -> Path:
        """Return the path of the experiment directory on this machine, which may not exist."""
        own, *former = (path / EXPERIMENTS / str(experiment) for path in self.directories)
        return next((path for path in former if path.exists()), own) if former and not own.exists() else own

    def _head(self, experiment: ExperimentId) -> Path:
        return head_in(self.files(experiment))

    def close(self) -> None:
        """Close the store.  Idempotent."""
        self.store.close()

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_home(home: str | os.PathLike[str] | None = None, *, create: bool = False, allow_damage: bool = False) -> Home:
    """Open the home in a directory, or at a URL such as ``postgresql://USER@HOST/DATABASE``.

    Args:
        home: the directory or the URL; by default ``ASHWOOD_HOME``, or ``.ashwood`` in the current directory.
        create: whether to make the home if it does not exist.
        allow_damage: whether to open a home with a damaged write-ahead log, to read what precedes the damage.

    Raises:
        NotFound: there is no home and ``create`` is False.
        EventLogError: the home cannot be made or read.
    """
    location = os.fspath(home or os.environ.get("ASHWOOD_HOME") or DEFAULT_HOME)
    if location.startswith(_POSTGRES):
        return _open_postgres(location, create)
    directory = _without_links(Path(location).expanduser())
    database = directory / _DATABASE
    with suppress(OSError):
        try:
            database.stat()
        except PermissionError as error:
            raise EventLogError(
                f"you may not read {directory}: it belongs to {owner_name(directory)}, who can give you access"
            ) from error
    # An empty file counts as a missing database: a process that is killed while it makes a database leaves one.
    is_empty = database.exists() and not database.stat().st_size and not has_wal(database)
    if not database.exists() or (is_empty and numbers_with_head(directory)):
        if has_wal(database):
            # SQLite would delete the write-ahead log when it makes a new database.
            wal = wal_of(database)
            raise EventLogError(
                f"{database} is missing, but its write-ahead log {wal.name} exists and contains the latest entries: "
                f"restore {database.name}, or move {wal.name} elsewhere"
            )
        # `Home.create` skips the numbers of lost experiments, so a new database cannot mix up their files.
        if not create and (lost := sorted(numbers_with_head(directory))):
            raise EventLogError(_lost(directory, lost))
        if not create:
            raise NotFound(
                f"there are no experiments in {directory}; start one with 'ashwood run FILE', or choose another "
                "directory with --home or ASHWOOD_HOME"
            )
        _make(directory)
    return Home(directory, SqliteStore(database, allow_damage=allow_damage))


def _lost(home: Path, lost: Sequence[ExperimentId]) -> str:
    shown = ", ".join(map(str, lost[:20])) + (", …" if len(lost) > 20 else "")
    return (
        f"{home / _DATABASE} does not have experiments {shown}, but their files are in {home / EXPERIMENTS}: was "
        f"the database or its write-ahead log {_DATABASE}-wal deleted, or replaced by an older one? Restore both, or "
        "choose another --home"
    )


def _make(directory: Path) -> None:
    """Make the directory of a home, with a .gitignore that excludes it from the user's version control."""
    with _made(directory, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".gitignore").write_text("*\n")
        share(directory / ".gitignore")


@contextmanager
def _made(directory: Path, home: Path) -> Iterator[None]:
    """Translate errors of making ``directory`` inside the context into messages that say what to do."""
    try:
        yield
    except PermissionError as error:
        raise EventLogError(
            f"cannot make or write {directory}: {error.strerror}; {how_to_share(directory, home)}. Or choose another "
            "--home"
        ) from error
    except OSError as error:
        kind = DiskFull if error.errno in FULL else EventLogError
        raise kind(f"cannot make {directory}: {error.strerror}; choose another --home") from error


def _without_links(path: Path) -> Path:
    """Return the absolute path with links resolved, so that all names of a home lead to the same path."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # Links lead in a circle.
        return path.absolute()


def _open_postgres(url: str, create: bool) -> Home:
    # Imported here, so that users of SQLite need not install psycopg, nor wait for its import.
    from ashwood.eventlog.postgres import PostgresStore

    store = PostgresStore(url, create=create)
    try:
        directories = _directories_of(store)
    except BaseException:
        store.close()
        raise
    return Home(directories.path, store, store.name, identity=store.identity, former=directories.former)


def _directories_of(store: PostgresStore) -> Directories:
    root = _without_links(Path(os.environ.get("ASHWOOD_FILES") or "~/.ashwood").expanduser())
    old = re.sub(r"[^\w.]+", "-", f"{store.host}-{store.database}").strip("-")
    if not store.identity:  # The schema is older than version 3 and cannot be upgraded, so the store is read-only.
        # If the directory is claimed, its files are those of an upgraded database.  The other name does not exist.
        return Directories(root / (old if read_claim(root / old) is None else f"{old}-before-upgrade"))
    return find_directories(
        root,
        store.identity,
        name=store.name,
        old=old if store.upgraded else None,
        belongs=lambda directory: _can_be_of(store, directory),
    )


def _can_be_of(store: Store, directory: Path) -> bool:
    """Return whether the files in a directory that version 0.1.0 made can be those of the database of a store."""
    try:
        there = {int(path.name) for path in (directory / EXPERIMENTS).iterdir() if path.name.isdecimal()}
    except OSError:
        return False
    known = there & {record.id for record in store.experiments()}
    return bool(known) and not any(_is_of_another(store, number, directory) for number in known)


def _is_of_another(store: Store, experiment: ExperimentId, directory: Path) -> bool:
    """Return whether a directory holds files of another experiment with the same number."""
    with suppress(OSError, UnicodeDecodeError, EventLogError, NotFound):
        # The lock file of the workers contains the identity of their experiment.
        holder = (directory / EXPERIMENTS / str(experiment) / "workers.lock").read_text().strip()
        return holder not in ("", store.spec(experiment).identity)
    return False


def with_own_storage(spec: ExperimentSpec, at: float) -> ExperimentSpec:
    """Return a spec whose checkpoints are in a new folder of its checkpoint storage, which other homes may share.

    If the spec comes from a recorded experiment, the folder of that experiment is replaced by the new one.
    ``at`` is the creation time in seconds since 1970; the name of the folder contains it.
    """
    if spec.checkpoint_storage is None:
        return spec
    shared = _OWN_FOLDER.sub("", spec.checkpoint_storage)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name).strip("-.") or "experiment"
    folder = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(at))}-{secrets.token_hex(3)}"
    return replace(spec, checkpoint_storage=join_url(shared, folder))
