"""Exports a whole experiment to one file (a bundle), and imports it, to archive it or to continue it elsewhere.

A bundle is a zip archive.  It has a temporary name until it is complete::

    spec.json        the experiment's spec, as the codec of the event log encodes it
    entries.jsonl    its event log: one entry a line, {"at": …, "version": …, "body": …}
    checkpoints/     optional: trial-12/length-16-attempt-2/…; only files, because manifests contain the links
    logs/            optional: trial-12.log
    trials/          optional: 12-1f0c9a7e/…, the trial directories
    manifest.json    written last: format, counts, name and labels; size and digest of each member

All digests are checked before anything is imported.  Entries are read and written one batch at a time, so an
event log of any length takes little memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from ashwood import __version__
from ashwood.checkpoints import Storage, is_remote, open_storage
from ashwood.checkpoints.directory import FOLDER, trial_of_directory
from ashwood.checkpoints.limited import read_pieces
from ashwood.checkpoints.links import restore_links
from ashwood.checkpoints.manifest import MANIFEST, decode, read_manifest
from ashwood.checkpoints.port import is_foreign, parse_name
from ashwood.checkpoints.regular import open_to_read
from ashwood.checkpoints.sharing import make_shared, share
from ashwood.checkpoints.trees import sync
from ashwood.engine.removal import remove_directory
from ashwood.errors import CheckpointError, EventLogError, NotFound
from ashwood.eventlog.codec import VERSION, check_spec, decode_entry, decode_spec, encode_entry, encode_spec, fits
from ashwood.eventlog.home import Home, with_own_storage
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.port import EventLog, ExperimentId, Seq
from ashwood.eventlog.rows import MOST_NOTE_BYTES, storable
from ashwood.experiment.decisions import DeleteCheckpoint
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CheckpointDamaged, CheckpointSaved
from ashwood.experiment.spec import IMPORTED, ExperimentSpec

FORMAT: Final = 2
"""Newest format that can be read.  Format 2 has trial directories; a bundle without them is written in format 1."""

_CONTENTS: Final = "manifest.json"
_SPEC: Final = "spec.json"
_ENTRIES: Final = "entries.jsonl"
_LOG: Final = re.compile(r"trial-[0-9]+\.log")
_DEPTH: Final = f"checkpoints/trial-0/name/{MANIFEST}".count("/")
_COMPRESSIONS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LATEST: Final = 253_402_300_800.0
"""Start of the year 10,000, in seconds since 1970: Python's datetime has no later times."""
_CHUNK: Final = 1 << 20
_BATCH: Final = 1_000
_LARGEST_TEXT: Final = 1 << 28
"""Bytes; no manifest, spec or entry is larger, so a bundle that claims a larger one is refused."""
_LINE: Final = re.compile(rb'\{"at":([^,]+),"version":(\d+),"body":(.*)\}\n', re.DOTALL)


class Exported(NamedTuple):
    """The contents of a new bundle.

    Attributes:
        entries: number of entries of the event log.
        checkpoints: number of checkpoints.
        logs: number of trial logs.
        left_out: one line for each checkpoint, log or trial directory that could not be packed completely, with the
            reason.
        directories: number of trial directories.
    """

    entries: int
    checkpoints: int
    logs: int
    left_out: tuple[str, ...] = ()
    directories: int = 0


class Imported(NamedTuple):
    """An imported experiment.

    Attributes:
        experiment: its ID in this home.
        spec: its spec, with paths of this machine.
        entries: number of entries of its event log.
        checkpoints: number of checkpoints in the bundle.
    """

    experiment: ExperimentId
    spec: ExperimentSpec
    entries: int
    checkpoints: int


def export_bundle(
    home: Home,
    experiment: ExperimentId,
    out: Path,
    *,
    checkpoints: bool = False,
    logs: bool = False,
    directories: bool = False,
    until: Seq | None = None,
) -> Exported:
    """Write an experiment to one file.

    The experiment may be running; then the file contains all that is recorded so far.

    Args:
        home: the home of the experiment.
        experiment: the ID of the experiment.
        out: path of the file.  A file that exists is replaced when the new one is complete.
        checkpoints: whether to pack its checkpoints.
        logs: whether to pack the logs of its trials.
        directories: whether to pack its trial directories; see `ashwood.checkpoints.directory`.
        until: number of the last entry to export; by default, all entries.

    Raises:
        NotFound: there is no experiment with that ID.
        RequestRefused: the experiment is itself an incomplete import.
        EventLogError: the event log cannot be read, or the file cannot be written.
    """
    record, spec = home.store.record(experiment), home.store.spec(experiment)
    log = home.store.log(experiment)
    home.check_imported(experiment)
    entries = islice(log.read(), until)
    with _replacing(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        writer = _Writer(archive)
        # Command line arguments of a script may contain secrets, so they are not exported.
        writer.add(_SPEC, [encode_spec(replace(spec, arguments=())).encode()])
        passed = _Passing(entry for _, entry in entries)
        writer.add(_ENTRIES, _lines(passed))
        kept = passed.checkpoints if checkpoints else ()
        packed, left_out = _pack_checkpoints(writer, home.storage(experiment, spec), kept)
        printed, unprinted = _pack_logs(writer, home.logs(experiment), spec.max_log_size) if logs else (0, [])
        trees, unpacked = _pack_directories(writer, home.trial_directories(experiment)) if directories else (0, [])
        manifest = {
            "format": FORMAT if trees else 1,
            "ashwood": __version__,
            "codec": VERSION,
            "entries": passed.count,
            "checkpoints": packed,
            "logs": printed,
            "experiment": {
                "name": record.name,
                "labels": list(record.labels),
                "archived": record.archived,
                "created_at": record.created_at,
                "notes": list(home.store.notes(experiment).items()),
                "summary": dict(record.summary) if until is None else {},
            },
            "members": writer.members,
        }
        archive.writestr(_CONTENTS, json.dumps(manifest, indent=1))
    return Exported(passed.count, packed, printed, (*left_out, *unprinted, *unpacked), trees)


def import_bundle(home: Home, path: Path, *, workdir: Path | None = None) -> Imported:
    """Import the experiment of a bundle under a new ID.

    Checkpoints in the bundle are copied to the home.  If the original keeps its checkpoints at a URL and the bundle
    has none, trials resume from the checkpoints of the original.  New checkpoints are saved at the same URL in a
    directory of their own, and checkpoints of the original are never deleted.

    Args:
        home: the home to import to.
        path: the bundle.
        workdir: directory of the training code on this machine; by default, the path that the original had.

    Raises:
        EventLogError: the bundle does not exist, is damaged, or is of a newer version of Ashwood; nothing was
            imported.
    """
    with _explained(path), zipfile.ZipFile(path) as archive:
        manifest = _verified_manifest(archive, home)
        spec = _spec(archive.read(_SPEC))
        if workdir is not None:
            spec = replace(spec, workdir=str(workdir.absolute()))
        known, original = manifest["experiment"], spec.checkpoint_storage
        if original is None or manifest["checkpoints"] or not is_remote(original):
            spec, original = replace(spec, checkpoint_storage=None), None
        else:
            spec = with_own_storage(spec, known["created_at"])
        # The spec says how many entries to expect.  If this process is killed before it has written them all,
        # `Home.check_imported` refuses to run the experiment.
        provenance = {**spec.provenance, IMPORTED: manifest["entries"]}
        spec = replace(spec, name=storable(spec.name), provenance=provenance)
        former = spec.identity
        experiment = home.create(spec, at=known["created_at"], identity="" if _is_known(home, former) else former)
        try:
            spec = home.store.spec(experiment)
            with home.lease(experiment) as lease, home.log(experiment, lease.token) as log:
                home.store.annotate(experiment, name=storable(f"unfinished import of {path.name}"), archived=True)
                _unpack(archive, manifest["members"], home.directory(experiment), lease, former, spec.identity)
                _append(log, archive, manifest, original, lease)
                home.store.annotate(
                    experiment, name=storable(known["name"]), labels=known["labels"], archived=known["archived"]
                )
                for trial, text in known.get("notes", ()):
                    home.store.set_note(experiment, trial, storable(text))
        except BaseException:
            # An error of the clean-up must not hide the error that made the import fail.
            with contextlib.suppress(Exception):
                remove_directory(home, experiment)
                home.store.delete(experiment)
            raise
    return Imported(experiment, spec, manifest["entries"], manifest["checkpoints"])


# -- writing ----------------------------------------------------------------------------------------


class _Passing:
    """An iterator over entries that counts them and collects the checkpoints that exist at the end.

    Attributes:
        count: number of entries so far.
        checkpoints: names of checkpoints in the experiment's own storage that were saved and not deleted so far.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = entries
        self.count = 0
        self.checkpoints: set[str] = set()

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            self.count += 1
            if isinstance(entry.event, CheckpointSaved) and not is_foreign(entry.event.path):
                self.checkpoints.add(entry.event.path)
            self.checkpoints.difference_update(d.path for d in entry.decisions if isinstance(d, DeleteCheckpoint))
            yield entry


class _Writer:
    """Adds members to an archive and collects their sizes and digests for the manifest."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.members: dict[str, dict[str, Any]] = {}

    def add(self, name: str, chunks: Iterable[bytes], *, stored: bool = False) -> None:
        size, digest = 0, _digest()
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        with self._archive.open(info, "w", force_zip64=True) as member:
            for chunk in chunks:
                member.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self.members[name] = {"size": size, "digest": digest.hexdigest()}


def _lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    lines = (f'{{"at":{entry.at!r},"version":{VERSION},"body":{encode_entry(entry)}}}\n' for entry in entries)
    while chunk := "".join(islice(lines, _BATCH)):
        yield chunk.encode()


def _pack_checkpoints(writer: _Writer, storage: Storage, names: Iterable[str]) -> tuple[int, list[str]]:
    """Pack checkpoints, and leave out those that are damaged or deleted.

    Returns:
        The number of packed checkpoints, and the reason for each that was left out.
    """
    packed = 0
    left_out: list[str] = []
    for name in sorted(names):
        with ExitStack() as opened:
            try:
                top = opened.enter_context(storage.fetch(name))
                # All files are opened before the first is read: an open file stays readable even if a driver deletes
                # the checkpoint meanwhile.
                paths = sorted([*decode(read_manifest(top) or b"", str(top)).files, MANIFEST])
                files = [(path, opened.enter_context((top / path).open("rb"))) for path in paths]
            except (CheckpointError, FileNotFoundError) as error:
                left_out.append(str(error))
                continue
            for path, file in files:
                writer.add(f"checkpoints/{name}/{path}", _chunks(file), stored=True)  # Weights hardly compress.
            packed += 1
    return packed, left_out


def _pack_logs(writer: _Writer, top: Path, limit: int | None) -> tuple[int, list[str]]:
    """Pack trial logs; return their number, and the reason for each that was left out.

    Training code can replace a log by a link or a pipe, so only regular files are opened.
    """
    packed = 0
    left_out = list[str]()
    for path in sorted(top.glob("trial-*.log")):
        try:
            file = open_to_read(path)
        except OSError as error:
            left_out.append(f"{path}: {error.strerror}")
            continue
        with file:
            writer.add(f"logs/{path.name}", (data for data, _ in read_pieces(file, limit)))
        packed += 1
    return packed, left_out


def _pack_directories(writer: _Writer, top: Path) -> tuple[int, list[str]]:
    """Pack trial directories; return their number, and one line for each directory of which files were left out.

    Links are left out, because training code can make them point to any file of this machine.
    """
    packed, left_out = 0, list[str]()
    if top.is_symlink() or not top.is_dir():
        return 0, []
    for directory in sorted(top.iterdir()):
        if trial_of_directory(directory.name) is None or directory.is_symlink():
            continue
        skipped, is_empty = list[str](), True
        for folder, folders, names in os.walk(directory):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in sorted((*names, *links)):
                path = Path(folder, name)
                inside = path.relative_to(top).as_posix()
                try:
                    inside.encode()
                    if not all(map(_is_harmless, inside.split("/"))):
                        raise ValueError(name)
                    file = open_to_read(path)
                except FileNotFoundError:  # Training code deleted it meanwhile.
                    continue
                except (OSError, ValueError):
                    skipped.append(ascii(inside)[1:-1])
                    continue
                with file:
                    writer.add(f"{FOLDER}/{inside}", _chunks(file))
                is_empty = False
        packed += not is_empty
        if skipped:
            left_out.append(
                f"{len(skipped)} of the files in {directory}, such as {skipped[0]}: links, files that are not regular "
                "or cannot be read, and names that are not UTF-8 or contain a backslash or a colon"
            )
    return packed, left_out


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(_CHUNK), b"")


@contextmanager
def _replacing(out: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that is renamed to ``out`` at the end, if no exception was raised.

    The file is synced before it is renamed, and its directory after that.  Otherwise a power failure could leave an
    empty or partial file under the final name.
    """
    hidden = out.with_name(f".{out.name}.{os.urandom(8).hex()}")
    try:
        with hidden.open("wb") as file:
            yield file
            _flush(file)
        hidden.replace(out)
        sync(out.absolute().parent)
    except OSError as error:
        raise EventLogError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        hidden.unlink(missing_ok=True)


# -- reading ----------------------------------------------------------------------------------------


def _verified_manifest(archive: zipfile.ZipFile, home: Home) -> dict[str, Any]:
    """Return the manifest of an archive whose members all match it in name, size and digest, or raise `_Refused`."""
    infos = {info.filename: info for info in archive.infolist()}
    if _CONTENTS not in infos or infos[_CONTENTS].file_size > _LARGEST_TEXT:
        raise _Refused("it has no manifest.json, so it was not written by 'ashwood export'")
    if any(info.compress_type not in _COMPRESSIONS for info in archive.infolist()):
        raise _Refused("it is compressed with a method that 'ashwood export' does not use")
    manifest = json.loads(archive.read(_CONTENTS))
    _check_manifest(manifest)
    members: Mapping[str, Any] = manifest["members"]
    if len(infos) != len(archive.infolist()) or infos.keys() != {*members, _CONTENTS}:
        raise _Refused("its files are not those that its manifest lists")
    for name in members:
        _check_name(name)
    if {_SPEC, _ENTRIES} - members.keys() or members[_SPEC]["size"] > _LARGEST_TEXT:
        raise _Refused("its manifest lists no event log, or a spec that is too large")
    for name, expected in members.items():
        if infos[name].file_size != expected["size"]:
            raise _Refused(f"{name} has {infos[name].file_size} bytes instead of {expected['size']}")
    home.make()
    needed, free = sum(each["size"] for each in members.values()), shutil.disk_usage(home.path).free
    if needed > free:
        raise _Refused(
            f"it needs {needed / 1e9:.1f} GB, but {home.path} has only {free / 1e9:.1f} GB free. Free some disk space"
        )
    _check_contents(archive, members)
    return dict(manifest)


def _check_contents(archive: zipfile.ZipFile, members: Mapping[str, Any]) -> None:
    for name, expected in members.items():
        with archive.open(name) as member:
            digest = _digest()
            for chunk in _chunks(member):
                digest.update(chunk)
        if digest.hexdigest() != expected["digest"]:
            raise _Refused(f"the content of {name} has changed since it was written")


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    if manifest["format"] > FORMAT or manifest["codec"] > VERSION:
        raise _Refused(
            f"it was written by Ashwood {manifest['ashwood']}, which is newer than {__version__}. Upgrade Ashwood"
        )
    if not all(fits(value, hint) for value, hint in _typed(manifest)):
        raise _Refused("its manifest has a value of a wrong type")


def _typed(manifest: Mapping[str, Any]) -> Iterator[tuple[object, Any]]:
    """Yield each value of a manifest that the import uses, with the type that it must have."""
    known = manifest["experiment"]
    yield from ((manifest[name], int) for name in ("entries", "checkpoints"))
    yield known["name"], str
    yield known["labels"], list
    yield from ((label, str) for label in known["labels"])
    yield known["archived"], bool
    # Bundles of older versions have no notes.
    yield known.get("notes", []), list
    for trial, text in known.get("notes", ()):
        yield trial, int | None
        yield text, str
        yield len(storable(text).encode()) <= MOST_NOTE_BYTES or "too long", bool
    yield known["created_at"], float
    yield 0 <= known["created_at"] < _LATEST or "too late", bool
    yield known["summary"], dict
    yield manifest["members"], dict
    yield from ((member["size"], int) for member in manifest["members"].values())


def _check_name(name: str) -> None:
    """Refuse a member whose name is not one of those that an export writes.

    A name such as ``../../.bashrc`` would otherwise be written outside of the experiment's directory.  Backslashes
    and colons are refused because they are separators on other systems.
    """
    if name in (_SPEC, _ENTRIES):
        return
    match name.split("/"):
        case ["logs", log]:
            good = _LOG.fullmatch(log) is not None
        case ["checkpoints", trial, checkpoint, *inside]:
            good = parse_name(f"{trial}/{checkpoint}") is not None and bool(inside) and all(map(_is_harmless, inside))
        case [folder, directory, *inside] if folder == FOLDER:
            good = trial_of_directory(directory) is not None and bool(inside) and all(map(_is_harmless, inside))
        case _:
            good = False
    if not good:
        raise _Refused(f"it contains a file with the name {name!r}, which 'ashwood export' never writes")


def _is_harmless(part: str) -> bool:
    return part not in ("", ".", "..") and not re.search(r"[\\:\0]", part)


def _is_known(home: Home, identity: str) -> bool:
    """Return whether an experiment of a home already has this identity."""
    for record in home.store.experiments():
        with contextlib.suppress(EventLogError, NotFound):
            if home.store.spec(record.id).identity == identity:
                return True
    return False


def _unpack(
    archive: zipfile.ZipFile, members: Iterable[str], into: Path, lease: Lease, former: str, identity: str
) -> None:
    """Write checkpoints, logs and trial directories to the directory ``into``.

    In the manifests of checkpoints, the experiment's identity ``former`` is replaced by ``identity``.
    """
    folders: set[Path] = set()
    for name in members:
        if name in (_SPEC, _ENTRIES):
            continue
        path = into / name
        make_shared(path.parent)
        folders.update(path.parents)
        with archive.open(name) as member, path.open("xb") as file:
            chunks = _chunks(member)
            if former != identity and name.startswith("checkpoints/") and name.endswith(f"/{MANIFEST}"):
                chunks = iter([_renamed(b"".join(chunks), former, identity)])
            for chunk in chunks:
                file.write(chunk)
                lease.beat()
            _flush(file)
        share(path)
    for name in members:
        if name.endswith(f"/{MANIFEST}") and name.count("/") == _DEPTH:
            _restore_links((into / name).parent, folders)
    for folder in folders:
        if folder.is_relative_to(into):
            sync(folder)


def _restore_links(checkpoint: Path, folders: set[Path]) -> None:
    """Create the folders and links that a checkpoint's manifest lists, and add the folders to those to sync."""
    with contextlib.suppress(CheckpointError):  # Readers of the checkpoint report a damaged manifest.
        manifest = decode(read_manifest(checkpoint) or b"", MANIFEST)
        restore_links(checkpoint, manifest.folders, manifest.links)
        for folder in map(checkpoint.joinpath, manifest.folders):
            share(folder)
            folders.add(folder)


def _renamed(content: bytes, former: str, identity: str) -> bytes:
    """Return a checkpoint's manifest with the experiment's identity ``former`` replaced by ``identity``."""
    with contextlib.suppress(CheckpointError):  # A damaged manifest is not changed; readers will report it.
        manifest = decode(content, MANIFEST)
        if manifest.experiment == former:
            return manifest._replace(experiment=identity).encode()
    return content


def _append(
    log: EventLog, archive: zipfile.ZipFile, manifest: Mapping[str, Any], original: str | None, lease: Lease
) -> None:
    count = 0
    with archive.open(_ENTRIES) as member:
        entries = _entries(io.BufferedReader(member, _CHUNK))  # type: ignore[type-var]
        if original is not None:
            entries = (_referring(entry, open_storage(original)) for entry in entries)
        while batch := list(islice(entries, _BATCH)):
            count = log.append(batch)
            lease.beat()
    if count != manifest["entries"]:
        raise _Refused(f"its event log has {count} entries instead of {manifest['entries']}")
    log.append([], summary=manifest["experiment"]["summary"])


def _entries(lines: IO[bytes]) -> Iterator[Entry]:
    number = 0
    while line := lines.readline(_LARGEST_TEXT):
        number += 1
        if not (parts := _LINE.fullmatch(line)):
            raise _Refused(f"line {number} of {_ENTRIES} is not an entry")
        try:
            yield decode_entry(float(parts[1]), int(parts[2]), parts[3].decode())
        except EventLogError as error:
            raise _Refused(f"line {number} of {_ENTRIES}: {error}") from error


def _referring(entry: Entry, original: Storage) -> Entry:
    """Return an entry in which checkpoints are named by their full URL in the storage of the original experiment."""
    event = entry.event
    if isinstance(event, CheckpointSaved | CheckpointDamaged):
        event = event._replace(path=original.locate(event.path))
    decisions = tuple(
        decision._replace(path=original.locate(decision.path)) if isinstance(decision, DeleteCheckpoint) else decision
        for decision in entry.decisions
    )
    return entry._replace(event=event, decisions=decisions)


def _spec(content: bytes) -> ExperimentSpec:
    try:
        spec = decode_spec(content.decode())
        check_spec(spec)
    except EventLogError as error:
        raise _Refused(str(error)) from error
    return spec


class _Refused(Exception):
    """The reason why a bundle is not imported."""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise EventLogError(f"cannot import {path}: there is no such file") from None
    except _Refused as error:
        raise EventLogError(f"cannot import {path}: {error}. Nothing was imported") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise EventLogError(
            f"cannot import {path}: it is truncated, damaged, or not a file of 'ashwood export' ({error}). Nothing was "
            "imported"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, NotImplementedError, RuntimeError) as error:
        raise EventLogError(f"cannot import {path}: it is damaged ({error!r}). Nothing was imported") from error
    except OSError as error:
        raise EventLogError(f"cannot import {path}: {error.strerror or error}. Nothing was imported") from error


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
