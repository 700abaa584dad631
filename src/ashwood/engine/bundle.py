"""A whole experiment as one file, to be kept or to go on with elsewhere.

A zip archive, written under another name until it is complete::

    spec.json        what the experiment is, as the log's codec writes it
    entries.jsonl    its log: a line an entry, {"at": …, "version": …, "body": …}
    checkpoints/     optional: trial-12/length-16-attempt-2/…; only files, as links are in their manifests
    logs/            optional: trial-12.log
    trials/          optional: 12-1f0c9a7e/…, the directories of trials
    manifest.json    written last: format, counts, the record; size and digest of each member

Nothing of a file is imported unless all of it is as it was written.  Entries are streamed both
ways: a log of any length takes little memory.
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
from ashwood.engine.removal import remove_directory
from ashwood.engine.snapshot import check_imported
from ashwood.errors import CheckpointError, EventLogError, NotFound
from ashwood.eventlog.codec import VERSION, check_spec, decode_entry, decode_spec, encode_entry, encode_spec, fits
from ashwood.eventlog.home import Home, with_own_storage
from ashwood.eventlog.lease import Lease
from ashwood.eventlog.port import Entry, EventLog, ExperimentId, Seq
from ashwood.eventlog.rows import storable
from ashwood.experiment.decisions import DeleteCheckpoint
from ashwood.experiment.events import CheckpointDamaged, CheckpointSaved
from ashwood.experiment.spec import IMPORTED, ExperimentSpec
from ashwood.trial.directory import FOLDER, trial_of_directory
from ashwood.trial.limited import read_pieces
from ashwood.trial.regular import open_to_read
from ashwood.trial.sharing import make_shared, share
from ashwood.trial.storage import Storage, is_remote, open_storage
from ashwood.trial.storage.links import restore_links
from ashwood.trial.storage.manifest import MANIFEST, decode, read_manifest
from ashwood.trial.storage.port import is_foreign, parse_name

FORMAT: Final = 2
"""Newest format that is read.  Format 2 has directories of trials; a file without them is written in format 1."""

_CONTENTS: Final = "manifest.json"
_SPEC: Final = "spec.json"
_ENTRIES: Final = "entries.jsonl"
_LOG: Final = re.compile(r"trial-[0-9]+\.log")
_DEPTH: Final = f"checkpoints/trial-0/name/{MANIFEST}".count("/")
_COMPRESSIONS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LATEST: Final = 253_402_300_800.0
"""The year 10,000, in seconds since 1970: Python cannot show a later time."""
_CHUNK: Final = 1 << 20
_BATCH: Final = 1_000
_LARGEST_TEXT: Final = 1 << 28
"""More bytes than any manifest, description or entry has: a file that claims more is refused."""
_LINE: Final = re.compile(rb'\{"at":([^,]+),"version":(\d+),"body":(.*)\}\n', re.DOTALL)


class Exported(NamedTuple):
    """What a bundle holds.

    Attributes:
        left_out: why checkpoints that the log names, logs, or files of trials could not be packed, a line each.
    """

    entries: int
    checkpoints: int
    logs: int
    left_out: tuple[str, ...] = ()
    directories: int = 0


class Imported(NamedTuple):
    """What came of a bundle.

    Attributes:
        experiment: its number here.
        spec: what it is, with the places of this machine.
        entries: how long its log is.
        checkpoints: how many came with it.
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
    """Write an experiment into one file; that of a running experiment holds what is recorded by then.

    Args:
        home: where the experiment is.
        experiment: its number.
        out: the file, which is replaced as a whole or not at all.
        checkpoints: whether to pack its checkpoints.
        logs: whether to pack what its trials printed.
        directories: whether to pack the directories of its trials; see `ashwood.trial.directory`.
        until: the last entry to take; None: all there are.

    Raises:
        NotFound: there is no such experiment.
        RequestRefused: it was not imported completely.
        EventLogError: the record can't be read, or the file can't be written.
    """
    record, spec = home.store.record(experiment), home.store.spec(experiment)
    log = home.store.log(experiment)
    check_imported(experiment, spec, log)
    entries = islice(log.read(), until)
    with _replacing(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        writer = _Writer(archive)
        # Arguments of a script may hold secrets.
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
                "summary": dict(record.summary) if until is None else {},
            },
            "members": writer.members,
        }
        archive.writestr(_CONTENTS, json.dumps(manifest, indent=1))
    return Exported(passed.count, packed, printed, (*left_out, *unprinted, *unpacked), trees)


def import_bundle(home: Home, path: Path, *, workdir: Path | None = None) -> Imported:
    """Take the experiment of a file in, under a new number.

    Checkpoints of the file, and of what was kept in a directory of a machine, are in the home from now on.  Where they
    are at a URL and not in the file, its trials go on from the original's; what it saves goes beside them, and it
    deletes none of theirs.

    Args:
        home: where to.
        path: the file.
        workdir: where the training code is here; None: where it was.

    Raises:
        EventLogError: the file is damaged, of a newer Ashwood or no such file; nothing was imported.
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
        # This process may be killed: `check_imported` refuses an experiment with fewer entries.
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
        except BaseException:
            # What went wrong is what the user has to hear of.
            with contextlib.suppress(Exception):
                remove_directory(home, experiment)
                home.store.delete(experiment)
            raise
    return Imported(experiment, spec, manifest["entries"], manifest["checkpoints"])


# -- writing ----------------------------------------------------------------------------------------


class _Passing:
    """Entries as they pass by.

    Attributes:
        count: how many passed.
        checkpoints: the names in the experiment's storage that they leave there.
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
    """Adds members to an archive and keeps their sizes and digests."""

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
    """Pack checkpoints; one that is damaged or gone is left out as a whole.

    Returns:
        how many were packed, and why others were not.
    """
    packed = 0
    left_out: list[str] = []
    for name in sorted(names):
        with ExitStack() as opened:
            try:
                top = opened.enter_context(storage.fetch(name))
                # Open, they stay readable even if a driver deletes the checkpoint now.
                paths = sorted([*decode(read_manifest(top) or b"", str(top)).files, MANIFEST])
                files = [(path, opened.enter_context((top / path).open("rb"))) for path in paths]
            except (CheckpointError, FileNotFoundError) as error:
                left_out.append(str(error))
                continue
            for path, file in files:
                writer.add(f"checkpoints/{name}/{path}", _chunks(file), stored=True)  # they hardly shrink
            packed += 1
    return packed, left_out


def _pack_logs(writer: _Writer, top: Path, limit: int | None) -> tuple[int, list[str]]:
    """Pack logs, and return how many, and why others were left out: training code can put anything in their place."""
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
    """Pack the directories of trials, and return how many, and what was left out.

    Links are left out: training code can make them lead anywhere.
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
                except FileNotFoundError:  # It was deleted meanwhile.
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
    """A file that takes the place of ``out`` when it is complete and on disk."""
    hidden = out.with_name(f".{out.name}.{os.urandom(8).hex()}")
    try:
        with hidden.open("wb") as file:
            yield file
            _flush(file)
        hidden.replace(out)
        _sync(out.absolute().parent)
    except OSError as error:
        raise EventLogError(f"can't write {out}: {error.strerror or error}") from error
    finally:
        hidden.unlink(missing_ok=True)


# -- reading ----------------------------------------------------------------------------------------


def _verified_manifest(archive: zipfile.ZipFile, home: Home) -> dict[str, Any]:
    """The manifest, once everything is found to be as it says."""
    infos = {info.filename: info for info in archive.infolist()}
    if _CONTENTS not in infos or infos[_CONTENTS].file_size > _LARGEST_TEXT:
        raise _Refused("it has no manifest, so no Ashwood wrote it")
    if any(info.compress_type not in _COMPRESSIONS for info in archive.infolist()):
        raise _Refused("it is compressed in a way that no Ashwood uses")
    manifest = json.loads(archive.read(_CONTENTS))
    _check_manifest(manifest)
    members: Mapping[str, Any] = manifest["members"]
    if len(infos) != len(archive.infolist()) or infos.keys() != {*members, _CONTENTS}:
        raise _Refused("it holds other files than its manifest names")
    for name in members:
        _check_name(name)
    if {_SPEC, _ENTRIES} - members.keys() or members[_SPEC]["size"] > _LARGEST_TEXT:
        raise _Refused("its manifest names no log")
    for name, expected in members.items():
        if infos[name].file_size != expected["size"]:
            raise _Refused(f"{name} doesn't have the size that it was written with")
    home.make()
    needed, free = sum(each["size"] for each in members.values()), shutil.disk_usage(home.path).free
    if needed > free:
        raise _Refused(
            f"it needs {needed / 1e9:.1f} GB, and {home.path} has room for {free / 1e9:.1f} GB: free some space"
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
            raise _Refused(f"{name} isn't what was written")


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    if manifest["format"] > FORMAT or manifest["codec"] > VERSION:
        raise _Refused(f"it was written by Ashwood {manifest['ashwood']}, which is newer than this: upgrade Ashwood")
    if not all(fits(value, hint) for value, hint in _typed(manifest)):
        raise _Refused("its manifest has a value of another type than its key has")


def _typed(manifest: Mapping[str, Any]) -> Iterator[tuple[object, Any]]:
    """Yield each value of a manifest that is used, and what it has to be."""
    known = manifest["experiment"]
    yield from ((manifest[name], int) for name in ("entries", "checkpoints"))
    yield known["name"], str
    yield known["labels"], list
    yield from ((label, str) for label in known["labels"])
    yield known["archived"], bool
    yield known["created_at"], float
    yield 0 <= known["created_at"] < _LATEST or "too late", bool
    yield known["summary"], dict
    yield manifest["members"], dict
    yield from ((member["size"], int) for member in manifest["members"].values())


def _check_name(name: str) -> None:
    """No member may leave its place, on any system."""
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
        raise _Refused(f"it holds a file with a name that no Ashwood gives: {name!r}")


def _is_harmless(part: str) -> bool:
    return part not in ("", ".", "..") and not re.search(r"[\\:\0]", part)


def _is_known(home: Home, identity: str) -> bool:
    """Return whether an experiment of a home has this identity already."""
    for record in home.store.experiments():
        with contextlib.suppress(EventLogError, NotFound):
            if home.store.spec(record.id).identity == identity:
                return True
    return False


def _unpack(
    archive: zipfile.ZipFile, members: Iterable[str], into: Path, lease: Lease, former: str, identity: str
) -> None:
    """Write checkpoints, logs and directories of trials.

    Checkpoints of the experiment with the identity ``former`` become those of ``identity``.
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
            _sync(folder)


def _restore_links(checkpoint: Path, folders: set[Path]) -> None:
    """Make the folders and links that a checkpoint's manifest lists, and add the folders to those to sync."""
    with contextlib.suppress(CheckpointError):  # A damaged one stays as it is.
        manifest = decode(read_manifest(checkpoint) or b"", MANIFEST)
        restore_links(checkpoint, manifest.folders, manifest.links)
        for folder in map(checkpoint.joinpath, manifest.folders):
            share(folder)
            folders.add(folder)


def _renamed(content: bytes, former: str, identity: str) -> bytes:
    """Return the manifest of a checkpoint of the experiment with identity ``former`` as one of ``identity``."""
    with contextlib.suppress(CheckpointError):  # A damaged one stays as it is.
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
        raise _Refused(f"its log has {count} entries instead of {manifest['entries']}")
    log.append([], summary=manifest["experiment"]["summary"])


def _entries(lines: IO[bytes]) -> Iterator[Entry]:
    number = 0
    while line := lines.readline(_LARGEST_TEXT):
        number += 1
        if not (parts := _LINE.fullmatch(line)):
            raise _Refused(f"line {number} of {_ENTRIES} is no entry")
        try:
            yield decode_entry(float(parts[1]), int(parts[2]), parts[3].decode())
        except EventLogError as error:
            raise _Refused(f"line {number} of {_ENTRIES}: {error}") from error


def _referring(entry: Entry, original: Storage) -> Entry:
    """An entry that names checkpoints by their URL, as they are in the storage of another experiment."""
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
    """Why a file isn't taken."""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise EventLogError(f"{path}: there is no such file") from None
    except _Refused as error:
        raise EventLogError(f"{path}: {error}; nothing was imported") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise EventLogError(
            f"{path} is cut off, damaged or no file of 'ashwood export' ({error}); nothing was imported"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, NotImplementedError, RuntimeError) as error:
        raise EventLogError(f"{path} is damaged ({error!r}); nothing was imported") from error
    except OSError as error:
        raise EventLogError(f"can't import {path}: {error.strerror or error}; nothing was imported") from error


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
