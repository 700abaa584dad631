"""Where experiments live: their record, checkpoints and logs.

::

    .ashwood/
      ashwood.db                    the record of all experiments
      experiments/7/checkpoints/    trial-12/length-16-attempt-2/
      experiments/7/logs/           trial-12.log
      experiments/7/trials/         12-1f0c9a7e/, the directory of a trial; see `ashwood.trial.directory`
      experiments/7/head            the last entry that the driver noted, see `ashwood.eventlog.head`

A home in PostgreSQL keeps its record there and its files on each machine that drives, in
``~/.ashwood/postgresql-IDENTITY`` or, if ``ASHWOOD_FILES`` is set, inside that directory; see `ashwood.eventlog.files`.
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

from ashwood.errors import DiskFull, EventLogError, NotFound
from ashwood.eventlog.ballast import FULL, Ballast, Reserve
from ashwood.eventlog.files import Places, claim_directory, find_places, read_claim
from ashwood.eventlog.head import EXPERIMENTS, HeadedLog, head_in, numbers_with_head
from ashwood.eventlog.lease import Lease, is_driven, take_lease
from ashwood.eventlog.port import ExperimentId, ExperimentRecord, Store, Token
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.eventlog.wal import has_wal, wal_of
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.directory import FOLDER
from ashwood.trial.sharing import how_to_share, make_shared, owner_name, share
from ashwood.trial.storage import BRIEF, About, Patience, Storage, join_url, open_storage

if TYPE_CHECKING:
    from ashwood.eventlog.postgres import PostgresStore

DEFAULT_HOME = ".ashwood"
WAITS = "driver_waits"
"""Key of a summary, see `Home.waits_for`."""
_DATABASE = "ashwood.db"
_POSTGRES = ("postgresql://", "postgres://")
_OWN_FOLDER = re.compile(r"/[A-Za-z0-9._-]+-\d{8}-\d{6}-[0-9a-f]{6}(?=$|\?)")


class Home:
    """A home and its store.  Close it, or use it as a context manager.

    Attributes:
        path: the directory of its files on this machine, absolute.
        store: the experiments.
        name: what to call it: the directory, or the URL of the database without its password.
        identity: tells it from every other home, whatever it is called: the directory without links, or the identity
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
            store: the experiments.
            name: what to call it, by default the directory.
            identity: what tells it from other homes, by default the directory.
            former: other directories that hold files of some of its experiments.
        """
        self.path = path
        self.store = store
        self.name = str(path) if name is None else name
        self.identity = str(path) if identity is None else identity
        self._former = tuple(former)

    @property
    def directories(self) -> tuple[Path, ...]:
        """All directories of this machine that hold its files; new ones go into the first."""
        return self.path, *self._former

    def is_gone(self) -> bool:
        """Whether its database was deleted since it was opened; there may be another in its place."""
        return self.store.is_gone()

    def create(
        self,
        spec: ExperimentSpec,
        *,
        at: float,
        identity: str = "",
        left_out: Callable[[ExperimentId], None] = lambda _: None,
    ) -> ExperimentId:
        """Record a new experiment and return its number.

        A number whose directory holds files is not used: the files belong to an experiment that the database does not
        contain any more.

        Args:
            spec: the experiment.
            at: when it was created, in seconds since 1970.
            identity: its identity; by default a random one.
            left_out: called with each number that is not used.

        Raises:
            EventLogError: it cannot be written.
        """
        spec = replace(spec, identity=identity or secrets.token_hex(8))
        while self._has_files(experiment := self.store.create(spec, at=at)):
            self.store.delete(experiment)
            left_out(experiment)
        return experiment

    def _has_files(self, experiment: ExperimentId) -> bool:
        """Whether the directory of a number on this machine holds anything."""
        try:
            return any(self.files(experiment).iterdir())
        except FileNotFoundError:
            return False
        except OSError:  # It is no directory, or cannot be read.
            return True

    def directory(self, experiment: ExperimentId) -> Path:
        """Return where an experiment keeps its files on this machine; it is made if it does not exist.

        Raises:
            DiskFull: there is no room to make it.
            EventLogError: it cannot be made or written, or belongs to another database.
        """
        self.make()
        directory = self.files(experiment)
        with _made(directory, self.path):
            make_shared(directory)
            if not os.access(directory, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return directory

    def make(self) -> None:
        """Make the directory of its files if it does not exist.

        Raises:
            DiskFull: there is no room to make it.
            EventLogError: it cannot be made, or belongs to another database.
        """
        with _made(self.path, self.path):
            if isinstance(self.store, SqliteStore) or not self.identity:
                make_shared(self.path)
            else:
                claim_directory(self.path, self.identity, self.name)

    def checkpoints(self, experiment: ExperimentId, spec: ExperimentSpec) -> str:
        """The directory or URL of an experiment's checkpoints: in the home, or where its spec says."""
        if spec.checkpoint_storage is None:
            return str(self.files(experiment) / "checkpoints")
        if spec.checkpoint_policy is None:  # of version 1, when experiments of one file shared a place
            return f"{spec.checkpoint_storage}/experiment-{experiment}"
        return spec.checkpoint_storage

    def storage(self, experiment: ExperimentId, spec: ExperimentSpec, patience: Patience = BRIEF) -> Storage:
        """An experiment's checkpoints."""
        storage = open_storage(self.checkpoints(experiment, spec), patience)
        storage.owner = About(experiment=spec.identity)
        return storage

    def snapshot(self, experiment: ExperimentId) -> Path:
        """Where a driver keeps what the log of an experiment leads to; see `ashwood.eventlog.snapshot`."""
        return self.files(experiment) / "snapshot"

    def logs(self, experiment: ExperimentId) -> Path:
        """Where the output of an experiment's trials is."""
        return self.files(experiment) / "logs"

    def trial_directories(self, experiment: ExperimentId) -> Path:
        """Return where the directories of an experiment's trials are; see `ashwood.trial.directory`."""
        return self.files(experiment) / FOLDER

    def ballast(self, experiment: ExperimentId) -> Ballast:
        """Return the reserve for recording that a disk is full, of this machine or of the database server."""
        also = self.store if isinstance(self.store, Reserve) else None
        return Ballast(self.files(experiment) / "ballast", also=also)

    def lease(self, experiment: ExperimentId) -> Lease:
        """The right to drive an experiment.

        Raises:
            ExperimentBusy: another process has it.
        """
        return take_lease(self.store, experiment)

    def is_driven(self, experiment: ExperimentId) -> bool:
        """Whether a process drives the experiment, here or on another machine."""
        return is_driven(self.store, experiment)

    def is_interrupted(self, record: ExperimentRecord) -> bool:
        """Whether the experiment should be running but its driver is gone, also by what is recorded now."""
        if not record.state.active or self.is_driven(record.id):
            return False
        with suppress(NotFound):
            return self.store.record(record.id).state.active
        return False

    def waits_for(self, record: ExperimentRecord) -> str | None:
        """Return what a driver waits for before it starts a trial, or None if it does not wait."""
        match record.summary.get(WAITS):
            case {"process": process, "for": str(what)} if self.is_driven(record.id):
                lease = self.store.lease(record.id)
                # A driver that was killed while it waited has left the summary as it was.
                return what if lease is not None and lease.driver.process == process else None
        return None

    def log(self, experiment: ExperimentId, token: Token | None = None) -> HeadedLog:
        """Return an experiment's log with its head file; see `ashwood.eventlog.port.Store.log`.

        Raises:
            NotFound: there is none of that number.
        """
        return HeadedLog(self.store.log(experiment, token), experiment, self._head(experiment))

    def damage(self, record: ExperimentRecord) -> str | None:
        """Return what of an experiment is damaged and what to do, as far as a list can tell, or None."""
        try:
            self.store.check_spec(record.id)
        except NotFound:  # It was deleted meanwhile.
            return None
        except EventLogError as error:
            return str(error)
        return record.damage or self.missing(record.id)

    def missing(self, experiment: ExperimentId) -> str | None:
        """Return which entries of a log are missing and what to do, as far as its head file tells, or None."""
        try:
            self.log(experiment).check()
        except NotFound:  # It was deleted meanwhile.
            return None
        except EventLogError as error:
            return str(error).removeprefix(f"experiment {experiment}: ")
        return None

    def unverified(self, experiment: ExperimentId) -> str | None:
        """Return what a crash may have cost at the end of a log, or None if all of it could be read."""
        if not isinstance(self.store, SqliteStore) or self.store.unverified is None:
            return None
        head = self.log(experiment).check()
        return (
            f"{self.store.unverified}; entries of experiment {experiment} after {head.seq if head else 0} are not "
            "verified: those of the last second before the crash may be missing"
        )

    def check_numbers(self, records: Sequence[ExperimentRecord] | None = None) -> None:
        """Check that the database has all experiments whose files are in the home.

        Args:
            records: all experiments of the database, or None to read them.

        Raises:
            EventLogError: it does not, and so it is probably an older copy.
        """
        # Files of an experiment in PostgreSQL may stay on other machines when it is deleted.
        if not isinstance(self.store, SqliteStore):
            return
        known = {record.id for record in (self.store.experiments() if records is None else records)}
        if lost := sorted(numbers_with_head(self.path) - known):
            raise EventLogError(_lost(self.path, lost))

    def files(self, experiment: ExperimentId) -> Path:
        """Return where an experiment keeps its files on this machine, whether it exists or not."""
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


def open_home(home: str | os.PathLike[str] | None = None, *, create: bool = False, salvage: bool = False) -> Home:
    """Open the home in a directory, or at a URL such as ``postgresql://USER@HOST/DATABASE``.

    None: at ``ASHWOOD_HOME``, or in ``.ashwood`` in the current directory.

    Args:
        home: the directory or the URL.
        create: whether to make it if it does not exist.
        salvage: whether to open a home with a damaged write-ahead log, for reading what precedes the damage.

    Raises:
        NotFound: there is no home and ``create`` is False.
        EventLogError: the home can't be made or read.
    """
    place = os.fspath(home or os.environ.get("ASHWOOD_HOME") or DEFAULT_HOME)
    if place.startswith(_POSTGRES):
        return _open_postgres(place, create)
    directory = _without_links(Path(place).expanduser())
    database = directory / _DATABASE
    with suppress(OSError):
        try:
            database.stat()
        except PermissionError as error:
            raise EventLogError(
                f"you may not look into {directory}: it belongs to {owner_name(directory)}, who can allow that"
            ) from error
    is_empty = database.exists() and not database.stat().st_size and not has_wal(database)
    if not database.exists() or (is_empty and numbers_with_head(directory)):
        if has_wal(database):
            wal = wal_of(database)
            raise EventLogError(
                f"{database} is missing, but {wal.name} is there, which holds what was recorded last: restore "
                f"{database.name}, or move {wal.name} elsewhere"
            )
        # A new experiment takes the next free number, so a home without its database can be used again.
        if not create and (lost := sorted(numbers_with_head(directory))):
            raise EventLogError(_lost(directory, lost))
        if not create:
            raise NotFound(
                f"there are no experiments in {directory}; start one with 'ashwood run FILE', or name another "
                "directory with --home or ASHWOOD_HOME"
            )
        _make(directory)
    return Home(directory, SqliteStore(database, salvage=salvage))


def _lost(home: Path, lost: Sequence[ExperimentId]) -> str:
    shown = ", ".join(map(str, lost[:20])) + (", …" if len(lost) > 20 else "")
    return (
        f"{home / _DATABASE} does not have experiments {shown}, but their files are in {home / EXPERIMENTS}: was it, "
        f"or its write-ahead log {_DATABASE}-wal, deleted or replaced by an older one? Restore both, or choose another "
        "--home"
    )


def _make(directory: Path) -> None:
    """Make a home, which keeps itself out of the user's version control: it is data."""
    with _made(directory, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".gitignore").write_text("*\n")
        share(directory / ".gitignore")


@contextmanager
def _made(directory: Path, home: Path) -> Iterator[None]:
    """Let an error say which directory of a home cannot be made or written, and what to do."""
    try:
        yield
    except PermissionError as error:
        raise EventLogError(
            f"can't make or write {directory}: {error.strerror}; {how_to_share(directory, home)}. Or choose another "
            "--home"
        ) from error
    except OSError as error:
        kind = DiskFull if error.errno in FULL else EventLogError
        raise kind(f"can't make {directory}: {error.strerror}; choose another --home") from error


def _without_links(path: Path) -> Path:
    """Return an absolute path without links, so that a home has the same one however it is named."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links that lead in a circle
        return path.absolute()


def _open_postgres(url: str, create: bool) -> Home:
    # Only who uses PostgreSQL needs its driver, and waits for it.
    from ashwood.eventlog.postgres import PostgresStore

    store = PostgresStore(url, create=create)
    try:
        places = _places_of(store)
    except BaseException:
        store.close()
        raise
    return Home(places.path, store, store.name, identity=store.identity, former=places.former)


def _places_of(store: PostgresStore) -> Places:
    root = _without_links(Path(os.environ.get("ASHWOOD_FILES") or "~/.ashwood").expanduser())
    old = re.sub(r"[^\w.]+", "-", f"{store.host}-{store.database}").strip("-")
    if not store.identity:  # It is older, and can only be read.
        return Places(root / (old if read_claim(root / old) is None else f"{old}-before-upgrade"))
    return find_places(
        root,
        store.identity,
        name=store.name,
        old=old if store.upgraded else None,
        belongs=lambda directory: _can_be_of(store, directory),
    )


def _can_be_of(store: Store, directory: Path) -> bool:
    """Return whether the files in a directory that version 0.1.0 made can be those of a database."""
    try:
        there = {int(path.name) for path in (directory / EXPERIMENTS).iterdir() if path.name.isdecimal()}
    except OSError:
        return False
    known = there & {record.id for record in store.experiments()}
    return bool(known) and not any(_is_of_another(store, number, directory) for number in known)


def _is_of_another(store: Store, experiment: ExperimentId, directory: Path) -> bool:
    """Return whether a directory holds files of another experiment that has the same number."""
    with suppress(OSError, UnicodeDecodeError, EventLogError, NotFound):
        holder = (directory / EXPERIMENTS / str(experiment) / "workers.lock").read_text().strip()
        return holder not in ("", store.spec(experiment).identity)
    return False


def with_own_storage(spec: ExperimentSpec, at: float) -> ExperimentSpec:
    """The spec with a folder of its own in the checkpoint storage, which other homes may share.

    A spec that was recorded already names another experiment's folder; the new one goes beside it.
    """
    if spec.checkpoint_storage is None:
        return spec
    shared = _OWN_FOLDER.sub("", spec.checkpoint_storage)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name).strip("-.") or "experiment"
    folder = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(at))}-{secrets.token_hex(3)}"
    return replace(spec, checkpoint_storage=join_url(shared, folder))
