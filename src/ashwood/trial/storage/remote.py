"""Checkpoints behind a URL: S3, Google Cloud Storage, Azure, and whatever else fsspec knows.

A checkpoint is a prefix with an object a file.  The manifest is uploaded last and deleted first.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.trial.storage.manifest import MANIFEST, About, Manifest, check, decode, describe
from ashwood.trial.storage.port import ASIDE, Leftover, Storage, Stored, Write, fill, is_foreign, parse_name, parsed
from ashwood.trial.storage.scratch import scratch

_T = TypeVar("_T")

TRIES = 7
FIRST_PAUSE = 0.25
"""Seconds before the second try; each further one waits twice as long: 16 s in all."""

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
"""The extra of Ashwood that brings what a scheme needs."""

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # What botocore, s3fs and this module each repeat would multiply to a quarter of an hour without a word.
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}},
}
_LOCAL_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class RemoteStorage(Storage):
    """A URL, with options of its file system behind a question mark."""

    def __init__(self, url: str) -> None:
        base, _, options = url.partition("?")
        self._url = base.rstrip("/")
        self._extra = _EXTRAS.get(self._url.partition("://")[0])
        self._options = {**_OPTIONS.get(self._extra or "", {}), **dict(parse_qsl(options))}

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system, which fsspec keeps a process long, and our path in it."""
        try:
            from fsspec.core import url_to_fs

            fs, path = url_to_fs(self._url, **self._options)
        except ImportError as error:
            package = f"ashwood[{self._extra}]" if self._extra else "ashwood[fsspec]"
            raise StorageUnreachable(
                f"checkpoints in {self._url} need a package that isn't installed ({error}): pip install '{package}'"
            ) from error
        except Exception as error:
            raise StorageUnreachable(f"can't use {self._url} for checkpoints: {_words(error)}") from error
        return fs, path.rstrip("/")

    @property
    def _fs(self) -> Any:
        return self._place[0]

    def _path(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    # -- one checkpoint -----------------------------------------------------------------------

    def save(self, name: str, write: Write, about: Callable[[], About] = About) -> None:
        """Fill a temporary directory, then upload it, the manifest last."""
        trial, length, attempt = parsed(name)
        with scratch() as directory:
            fill(directory, write)
            manifest = describe(directory, trial, length, attempt, about())
            self.delete(name)  # what an interrupted upload left would be taken for a part of it
            for path in manifest.files:
                self._try("upload", self._fs.put_file, str(directory / path), self._path(f"{name}/{path}"))
            self._try("upload", self._fs.pipe_file, self._path(f"{name}/{MANIFEST}"), manifest.encode())

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
            for folder in manifest.folders:
                (directory / folder).mkdir(parents=True, exist_ok=True)
            for path in there:
                if path != MANIFEST:
                    (directory / path).parent.mkdir(parents=True, exist_ok=True)
                    self._try("download", self._fs.get_file, self._path(f"{name}/{path}"), str(directory / path))
            check(directory, manifest, where)
            (directory / MANIFEST).write_bytes(manifest.encode())  # so that a copy of it is a checkpoint too
            yield directory

    def manifest(self, name: str) -> Manifest:
        """Download it."""
        try:
            data = self._try("download", self._fs.cat_file, self._path(f"{name}/{MANIFEST}"))
        except FileNotFoundError:
            where = self.locate(name)
            raise CheckpointError(f"the checkpoint {where} is incomplete or damaged: it has no {MANIFEST}") from None
        return decode(data, self.locate(name))

    def delete(self, name: str) -> None:
        """Delete the manifest first."""
        if parse_name(name) is None:
            raise CheckpointError(f"{name} is no checkpoint of {self._url}, so it isn't deleted")
        paths = self._list(name)
        if MANIFEST in paths:
            self._try("delete", self._fs.rm_file, self._path(f"{name}/{MANIFEST}"))
        if rest := [self._path(f"{name}/{path}") for path in paths if path != MANIFEST]:
            with suppress(FileNotFoundError):
                self._try("delete", self._fs.rm, rest)

    def set_aside(self, name: str) -> str:
        """Copy its objects, then delete them, the manifest first."""
        parsed(name)
        target, nth = f"{ASIDE}/{name}", 0
        while self._list(target):
            nth += 1
            target = f"{ASIDE}/{name}.{nth}"
        for path in self._list(name):
            self._try("copy", self._fs.copy, self._path(f"{name}/{path}"), self._path(f"{target}/{path}"))
        self.delete(name)
        return f"{self._url}/{target}"

    def locate(self, name: str) -> str:
        """The URL."""
        return name if is_foreign(name) else f"{self._url}/{name}"

    # -- all of them ------------------------------------------------------------------------------

    def complete(self, trial: int | None = None) -> list[Stored]:
        """The checkpoints with a manifest, by one listing."""
        stored = [
            Stored(name, *parsed(name), sum(size for path, size in files.items() if path != MANIFEST))
            for name, files in self._survey("" if trial is None else f"trial-{trial}").items()
            if MANIFEST in files
        ]
        return sorted(stored, key=lambda stored: (stored.trial, stored.length, stored.attempt))

    def leftovers(self, live: Collection[int] = ()) -> list[Leftover]:
        """What has no manifest, by one listing."""
        return [
            Leftover(name, sum(files.values()))
            for name, files in self._survey("").items()
            if MANIFEST not in files and parsed(name).trial not in live
        ]

    def _survey(self, folder: str) -> Mapping[str, Mapping[str, int]]:
        """The size of each object of each checkpoint below a folder."""
        checkpoints: dict[str, dict[str, int]] = {}
        for path, size in self._list(folder).items():
            trial, _, rest = f"{folder}/{path}".removeprefix("/").partition("/")
            checkpoint, _, file = rest.partition("/")
            if parse_name(f"{trial}/{checkpoint}") is not None:
                checkpoints.setdefault(f"{trial}/{checkpoint}", {})[file] = size
        return checkpoints

    def _list(self, folder: str) -> Mapping[str, int]:
        """The size of every object below a folder, by its path in there."""
        top = self._path(folder).rstrip("/")
        try:
            self._fs.invalidate_cache()
            found = self._try("list", self._fs.find, top, detail=True)
        except FileNotFoundError:
            return {}
        return {path.removeprefix(f"{top}/"): int(info["size"] or 0) for path, info in found.items() if path != top}

    # -- trouble ------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Write a small object, read it and delete it."""
        # Not named by the process id: nodes that probe one URL may have processes of the same id.
        path, content = self._path(f".probe-{os.urandom(8).hex()}"), self._url.encode()
        self._try("write to", self._fs.pipe_file, path, content, tries=2)
        try:
            read = self._try("read from", self._fs.cat_file, path, tries=2)
            self._try("delete from", self._fs.rm_file, path, tries=2)
        except FileNotFoundError as error:
            self._fail("read from", error)
        if read != content:
            raise StorageUnreachable(f"what is written to {self._url} reads otherwise: don't trust it")

    def _try(self, verb: str, do: Callable[..., _T], *arguments: Any, tries: int | None = None, **options: Any) -> _T:
        """Do something remote, again after a while where it fails for a reason that may pass.

        Raises:
            FileNotFoundError: there is no such object.
            StorageUnreachable: it failed for good.
        """
        for wait in [FIRST_PAUSE * 2**nth for nth in range((tries or TRIES) - 1)]:
            try:
                return do(*arguments, **options)
            except (FileNotFoundError, PermissionError) as error:
                self._judge(verb, error)
            except Exception as error:  # every file system has errors of its own
                if getattr(error, "errno", None) in _LOCAL_TROUBLE:
                    raise
                time.sleep(wait)
        try:
            return do(*arguments, **options)
        except Exception as error:  # noqa: BLE001
            self._judge(verb, error)

    def _judge(self, verb: str, error: Exception) -> NoReturn:
        if getattr(error, "errno", None) in _LOCAL_TROUBLE or (
            isinstance(error, FileNotFoundError) and self._has_root()
        ):
            raise error
        self._fail(verb, error)

    def _has_root(self) -> bool:
        """Whether the bucket is there, so that what isn't found is only the object."""
        bucket = self._place[1].partition("/")[0]
        try:
            return bool(self._fs.exists(bucket))
        except Exception:  # noqa: BLE001 - nor can it be asked
            return False

    def _fail(self, verb: str, error: Exception) -> NoReturn:
        advice = ""
        if isinstance(error, FileNotFoundError):
            advice = "; create it, or correct checkpoint_storage: Ashwood makes no buckets"
        elif isinstance(error, PermissionError) or "credential" in str(error).lower():
            known = _CREDENTIALS.get(self._extra or "")
            advice = f"; set {known} in the environment" if known else "; check its credentials"
        raise StorageUnreachable(f"can't {verb} {self._url}: {_words(error)}{advice}") from error


def _words(error: Exception) -> str:
    text = str(error).strip() or "no reason given"
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
