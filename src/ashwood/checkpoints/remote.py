"""Checkpoints at a URL: S3, Google Cloud Storage, Azure, and everything else that fsspec supports.

A checkpoint is a prefix with one object for each file.  The manifest is uploaded last and deleted first.  So an
interrupted upload or deletion leaves a prefix without a manifest, which does not count as a checkpoint.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from ashwood.checkpoints.links import restore_links
from ashwood.checkpoints.manifest import MANIFEST, CheckpointInfo, Manifest, check, decode, describe
from ashwood.checkpoints.patience import BRIEF, Patience, TransferProgress, persist
from ashwood.checkpoints.port import ASIDE, Leftover, Storage, Stored, Write, fill, is_foreign, parse_name, parsed
from ashwood.checkpoints.scratch import scratch
from ashwood.errors import CheckpointError, StorageUnreachable

_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "adl": "azure",
}
"""The extra of Ashwood that installs the packages for each URL scheme."""

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # Retries of botocore and of s3fs (see `_open`) are disabled, because they would multiply with those of this module.
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}},
}
_PART_BYTES = 16 << 20
_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000
_SLOWEST = 100_000
"""Least bytes per second of a transfer; a slower one counts as stalled."""
_PROBE = Patience(1.0)
_LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

_Key = tuple[int, str, str]
_file_systems: dict[_Key, tuple[Any, str]] = {}
"""File systems in use, by process, URL and options, each with the path of its URL.

fsspec's own cache of instances is not used, because after a failure the file system is replaced, to read new
credentials.
"""


class RemoteStorage(Storage):
    """A storage at a URL, which can have options of its file system after a question mark."""

    def __init__(self, url: str, patience: Patience = BRIEF) -> None:
        base, _, options = url.partition("?")
        self._url = base.rstrip("/")
        self._extra = _EXTRAS.get(self._url.partition("://")[0])
        self._options = {**_OPTIONS.get(self._extra or "", {}), **dict(parse_qsl(options))}
        self._patience = patience

    @property
    def _key(self) -> _Key:
        # The process is part of the key, because a file system has threads, which do not exist in a fork.
        return os.getpid(), self._url, repr(self._options)

    @property
    def _place(self) -> tuple[Any, str]:
        """The file system, which is used until a call fails, and the path of the URL in it."""
        if (place := _file_systems.get(self._key)) is None:
            place = _file_systems[self._key] = self._open()
        return place

    def _open(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs

            fs, path = url_to_fs(self._url, skip_instance_cache=True, **self._options)
        except ImportError as error:
            package = f"ashwood[{self._extra}]" if self._extra else "ashwood[fsspec]"
            raise StorageUnreachable(
                f"checkpoints in {self._url} need a package that is not installed ({error}): pip install '{package}'"
            ) from error
        except Exception as error:
            raise StorageUnreachable(f"cannot use {self._url} for checkpoints: {_described(error)}") from error
        if self._extra == "s3":
            fs.retries = 1
        return fs, path.rstrip("/")

    @property
    def _fs(self) -> Any:
        return self._place[0]

    def _path(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    # -- one checkpoint -----------------------------------------------------------------------

    def save(self, name: str, write: Write, about: Callable[[], CheckpointInfo] = CheckpointInfo) -> int:
        """Write the checkpoint into a temporary directory, and upload it, the manifest last."""
        trial, length, attempt = parsed(name)
        with scratch() as directory:
            fill(directory, write)
            manifest = describe(directory, trial, length, attempt, about())
            self.delete(name)  # Objects of an earlier, interrupted upload would become part of the checkpoint.
            for path in manifest.files:
                self._upload(directory / path, f"{name}/{path}")
            self._try("upload", "pipe_file", self._path(f"{name}/{MANIFEST}"), manifest.encode())
        return manifest.size

    @contextmanager
    def _fetch(self, name: str) -> Iterator[Path]:
        where = self.locate(name)
        there = self._list(name)
        if not there:
            raise CheckpointError(f"there is no checkpoint {where}")
        if MANIFEST not in there:
            raise CheckpointError(f"the checkpoint {where} is incomplete or damaged: it has no {MANIFEST}")
        with scratch() as directory:
            manifest = self.manifest(name)
            for path, size in there.items():
                if path != MANIFEST:
                    (directory / path).parent.mkdir(parents=True, exist_ok=True)
                    self._download(f"{name}/{path}", directory / path, size)
            restore_links(directory, manifest.folders, manifest.links)
            check(directory, manifest, where)
            (directory / MANIFEST).write_bytes(manifest.encode())  # needed in a copy of the checkpoint
            yield directory

    def manifest(self, name: str) -> Manifest:
        """Download and return the manifest of a checkpoint."""
        try:
            data = self._try("download", "cat_file", self._path(f"{name}/{MANIFEST}"))
        except FileNotFoundError:
            where = self.locate(name)
            raise CheckpointError(f"the checkpoint {where} is incomplete or damaged: it has no {MANIFEST}") from None
        return decode(data, self.locate(name))

    def delete(self, name: str) -> None:
        """Delete the objects of a checkpoint, the manifest first."""
        if parse_name(name) is None:
            raise CheckpointError(f"{name} is not a checkpoint of {self._url}, so it is not deleted")
        paths = self._list(name)
        if MANIFEST in paths:
            self._try("delete", "rm_file", self._path(f"{name}/{MANIFEST}"))
        if rest := [self._path(f"{name}/{path}") for path in paths if path != MANIFEST]:
            with suppress(FileNotFoundError):
                self._try("delete", "rm", rest)

    def set_aside(self, name: str) -> str:
        """Copy the objects of a checkpoint to the folder ``set-aside``, then delete the checkpoint."""
        parsed(name)
        target, nth = f"{ASIDE}/{name}", 0
        while self._list(target):
            nth += 1
            target = f"{ASIDE}/{name}.{nth}"
        for path, size in self._list(name).items():
            self._copy(f"{name}/{path}", f"{target}/{path}", size)
        self.delete(name)
        return f"{self._url}/{target}"

    def locate(self, name: str) -> str:
        """Return the URL of a checkpoint."""
        return name if is_foreign(name) else f"{self._url}/{name}"

    # -- all checkpoints --------------------------------------------------------------------------

    def complete(self, trial: int | None = None) -> list[Stored]:
        """Return the checkpoints that have a manifest, by one listing."""
        stored = [
            Stored(name, *parsed(name), sum(size for path, size in files.items() if path != MANIFEST))
            for name, files in self._survey("" if trial is None else f"trial-{trial}").items()
            if MANIFEST in files
        ]
        return sorted(stored, key=lambda stored: (stored.trial, stored.length, stored.attempt))

    def leftovers(self) -> list[Leftover]:
        """Return the checkpoints without a manifest, by one listing."""
        return [
            Leftover(name, sum(files.values())) for name, files in self._survey("").items() if MANIFEST not in files
        ]

    def _survey(self, folder: str) -> Mapping[str, Mapping[str, int]]:
        """Return the size of each object of each checkpoint below a folder."""
        checkpoints: dict[str, dict[str, int]] = {}
        for path, size in self._list(folder).items():
            trial, _, rest = f"{folder}/{path}".removeprefix("/").partition("/")
            checkpoint, _, file = rest.partition("/")
            if parse_name(f"{trial}/{checkpoint}") is not None:
                checkpoints.setdefault(f"{trial}/{checkpoint}", {})[file] = size
        return checkpoints

    def _list(self, folder: str) -> Mapping[str, int]:
        """Return the size of each object below a folder, by its path relative to the folder."""
        top = self._path(folder).rstrip("/")
        try:
            found: Mapping[str, Any] = self._try("list", "find", top, detail=True)
        except FileNotFoundError:
            return {}
        return {path.removeprefix(f"{top}/"): int(info["size"] or 0) for path, info in found.items() if path != top}

    # -- transfers ----------------------------------------------------------------------------------

    def _upload(self, source: Path, name: str) -> None:
        size = source.stat().st_size
        self._try("upload", "put_file", str(source), self._path(name), size=size, **self._parts(size))

    def _download(self, name: str, target: Path, size: int) -> None:
        self._try("download", "get_file", self._path(name), str(target), size=size, **self._parts(size))

    def _copy(self, name: str, target: str, size: int) -> None:
        self._try("copy", "copy", self._path(name), self._path(target), expected_seconds=size / _SLOWEST)

    def _parts(self, size: int) -> Mapping[str, Any]:
        """Return options that limit the memory of a transfer: by default, s3fs holds 10 parts of 50 MiB, twice."""
        if self._extra != "s3":
            return {}
        return {"chunksize": max(_PART_BYTES, -(-size // _MOST_PARTS)), "max_concurrency": _PARTS_AT_ONCE}

    def abort_uploads(self, *, dry_run: bool = False) -> int:
        """Abort multipart uploads on S3.  Other storage providers remove unfinished uploads by themselves."""
        if self._extra != "s3":
            return 0
        bucket, _, prefix = self._place[1].partition("/")
        prefix = f"{prefix}/" if prefix else ""
        aborted, markers = 0, dict[str, Any]()
        while True:
            answer = self._try(
                "list uploads in",
                "call_s3",
                "list_multipart_uploads",
                Bucket=bucket,
                Prefix=prefix,
                patience=_PROBE,
                **markers,
            )
            for upload in answer.get("Uploads", ()):
                # Some servers with the protocol of S3 ignore the prefix, and list the uploads of others too.
                if not upload["Key"].startswith(prefix):
                    continue
                aborted += 1
                if not dry_run:
                    where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    with suppress(FileNotFoundError):  # The upload has ended meanwhile.
                        self._try("abort uploads in", "call_s3", "abort_multipart_upload", patience=_PROBE, **where)
            if not answer.get("IsTruncated"):
                return aborted
            markers = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    # -- errors and retries -------------------------------------------------------------------------

    def probe(self) -> None:
        """Write a small object, read it and delete it."""
        # The name is random, not the process id: processes on different nodes that probe one URL may have the same id.
        path, content = self._path(f".probe-{os.urandom(8).hex()}"), self._url.encode()
        self._try("write to", "pipe_file", path, content, patience=_PROBE)
        try:
            read = self._try("read from", "cat_file", path, patience=_PROBE)
            self._try("delete from", "rm_file", path, patience=_PROBE)
        except FileNotFoundError as error:
            self._fail("read from", error)
        if read != content:
            raise StorageUnreachable(
                f"{self._url} returns other data than was written to it: use another checkpoint_storage"
            )

    def _try(
        self,
        verb: str,
        method: str,
        *arguments: Any,
        patience: Patience | None = None,
        size: int | None = None,
        expected_seconds: float = 0.0,
        **options: Any,
    ) -> Any:
        """Call a method of the file system, and repeat the call if it fails for a reason that may be temporary.

        After a failure, a new file system is created, which reads credentials again.

        Args:
            verb: description of the call for messages, such as ``upload``.
            method: name of the method.
            *arguments: arguments of the method.
            patience: time for which to repeat the call, by default that of this storage.
            size: size of the file that is transferred, or None if the call transfers no file.
            expected_seconds: time in seconds that a call without a file may take.
            **options: named arguments of the method.

        Raises:
            FileNotFoundError: there is no such object.
            StorageUnreachable: the call failed until the last try.
        """
        patient = patience or self._patience
        place = list[Any]()

        def call(progress: TransferProgress) -> Any:
            place[:] = self._place
            if size is not None:
                options["callback"] = _callback(progress)
            if method == "find":
                place[0].invalidate_cache()
            try:
                return getattr(place[0], method)(*arguments, **options)
            except FileNotFoundError as error:
                # If the bucket exists, only the object is missing, and further tries are useless.  A missing bucket may
                # be a temporary error, or a wrong URL.
                raise (_Missing(str(error)) if self._has_root(place[0]) else error) from error

        def is_final(error: Exception) -> bool:
            if isinstance(error, _Missing | StorageUnreachable) or _is_local(error):
                return True
            self._drop(place)
            return patient is _PROBE and isinstance(error, PermissionError | FileNotFoundError)

        if size is not None:  # Only S3 reports progress within a file, after each part.
            expected_seconds = (min(size, _PARTS_AT_ONCE * _PART_BYTES) if self._extra == "s3" else size) / _SLOWEST
        try:
            return persist(call, patient, is_final, expected_seconds=expected_seconds)
        except (_Missing, StorageUnreachable):
            raise
        except Exception as error:
            if _is_local(error):
                raise
            self._fail(verb, error)

    def _drop(self, place: list[Any]) -> None:
        """Drop the file system that failed, so that the next call creates a new one."""
        if place and _file_systems.get(self._key, (None,))[0] is place[0]:
            del _file_systems[self._key]

    def _has_root(self, fs: Any) -> bool:
        """Return whether the bucket exists; False if that cannot be determined."""
        bucket = self._place[1].partition("/")[0]
        try:
            return bool(fs.exists(bucket))
        except Exception:  # noqa: BLE001 - client libraries raise exceptions of many types
            return False

    def _fail(self, verb: str, error: Exception) -> NoReturn:
        advice = ""
        if isinstance(error, FileNotFoundError):
            advice = "; create it, or correct checkpoint_storage: Ashwood does not create buckets"
        elif isinstance(error, PermissionError) or "credential" in str(error).lower():
            known = _CREDENTIALS.get(self._extra or "")
            advice = (
                f"; renew the credentials, or set {known} in the environment" if known else "; check its credentials"
            )
        raise StorageUnreachable(f"cannot {verb} {self._url}: {_described(error)}{advice}") from error


class _Missing(FileNotFoundError):
    """The error for an object that does not exist in an existing bucket."""


def _is_local(error: Exception) -> bool:
    return getattr(error, "errno", None) in _LOCAL_ERRORS


def _callback(progress: TransferProgress) -> Any:
    from fsspec.callbacks import Callback

    class Noted(Callback):  # type: ignore[misc]
        def call(self, hook_name: Any = None, **kwargs: Any) -> None:  # noqa: ARG002 - the signature of the base class
            progress.note()

    return Noted()


def _described(error: Exception) -> str:
    text = str(error).strip().rstrip(".") or "no reason given"
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
