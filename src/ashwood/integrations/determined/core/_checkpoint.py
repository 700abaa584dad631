"""Checkpoints that training code stores, restores, uploads, downloads and deletes."""

from __future__ import annotations

import enum
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ashwood.checkpoints import MANIFEST, CheckpointInfo, Storage, open_storage
from ashwood.checkpoints.trees import remove_tree
from ashwood.errors import CheckpointError
from ashwood.integrations.determined.core._distributed import DistributedContext
from ashwood.integrations.determined.info import IDENTITY, METADATA, Identity, latest_identity
from ashwood.integrations.determined.recorder import Recorder
from ashwood.trial import Trial
from ashwood.trial.attempt import draw_of

Selector = Callable[[str], bool]

_STAGED = ".determined-"
"""Beginning of the names of directories to which training code writes checkpoints."""
_OWN = (MANIFEST, IDENTITY)
"""Files in a checkpoint that Ashwood has added."""


class DownloadMode(enum.Enum):
    """Which processes call ``download`` and ``restore_path``.

    ``LocalWorkersShareDownload``: all processes of a machine, in step; they share one copy.  ``NoSharedDownload``: any
    process by itself.
    """

    LocalWorkersShareDownload = "LOCAL_WORKERS_SHARE_DOWNLOAD"
    NoSharedDownload = "NO_SHARED_DOWNLOAD"


class CheckpointContext:
    """Stores and restores checkpoints of the trial."""

    def __init__(self, trial: Trial, recorder: Recorder | None, dist: DistributedContext) -> None:
        self._trial = trial
        self._recorder = recorder
        self._dist = dist
        if recorder is not None:  # A killed process may have left directories.
            for left in trial.directory.glob(f"{_STAGED}*"):
                self._discard(left)

    # -- storing --------------------------------------------------------------------------------

    @contextmanager
    def store_path(
        self, metadata: Mapping[str, Any] | None = None, *, shard: bool = False
    ) -> Iterator[tuple[Path, str]]:
        """Yield an empty directory and a storage id; at the end, the directory is stored as a checkpoint.

        Example::

            with core_context.checkpoint.store_path({"steps_completed": steps}) as (path, storage_id):
                torch.save(model.state_dict(), path / "model.pt")

        Args:
            metadata: any values that JSON can represent, among them ``steps_completed``.
            shard: whether all processes of the trial take part; otherwise only rank 0 may call this.

        Raises:
            RuntimeError: another process than rank 0 calls this, or processes stored the same file or different
                metadata.
            ValueError: ``steps_completed`` is missing.
        """
        if not shard:
            self._check_chief("store_path")
        storage_id, directory = self._stage(shard)
        try:
            yield directory, storage_id
        except BaseException:
            if self._dist.rank == 0:
                self._discard(directory)
            raise
        self._publish(storage_id, directory, self._merge(metadata or {}) if shard else metadata or {})
        if shard:
            self._dist.allgather(None)

    def upload(
        self,
        ckpt_dir: str | os.PathLike[str] | None,
        metadata: Mapping[str, Any] | None = None,
        *,
        shard: bool = False,
        selector: Selector | None = None,
    ) -> str:
        """Store the files of a directory as a checkpoint, and return its storage id.

        Args:
            ckpt_dir: the directory; with ``shard``, None in processes that have no files.
            metadata: any values that JSON can represent, among them ``steps_completed``.
            shard: whether all processes of the trial take part; otherwise only rank 0 may call this.
            selector: function that gets a relative path and returns whether to store that file.  Paths of directories
                end with a slash.

        Raises:
            RuntimeError: another process than rank 0 calls this, no process has a directory, or several have the same
                file or different metadata.
            ValueError: ``steps_completed`` is missing.
        """
        if not shard:
            self._check_chief("upload")
            if ckpt_dir is None:
                raise RuntimeError(
                    "cannot call .upload(ckpt_dir=None, shard=False), which would result in doing nothing at all"
                )
        elif not any(self._dist.allgather(ckpt_dir is not None)):
            raise RuntimeError(
                "cannot call .upload(ckpt_dir=None, shard=True), from all ranks; at least one rank must have a valid "
                "ckpt_dir"
            )
        storage_id, directory = self._stage(shard)
        source = None if ckpt_dir is None else Path(ckpt_dir)
        try:
            self._copy_own(source, directory, selector, shard)
            merged = self._merge(metadata or {}) if shard else metadata or {}
        except BaseException:
            if self._dist.rank == 0:
                self._discard(directory)
            raise
        self._publish(storage_id, directory, merged)
        if shard:
            self._dist.allgather(None)
        return storage_id

    def _copy_own(self, source: Path | None, target: Path, selector: Selector | None, shard: bool) -> None:
        """Copy the files of this process.  If processes share a directory, the lowest rank copies each file."""
        files = [] if source is None else _selected(source, selector)
        if shard:
            identity = None if source is None else (source.stat().st_dev, source.stat().st_ino)
            everyone = self._dist.allgather((identity, files))
            conflicts = _conflicts(everyone)
            # Files with one name are no conflict if they are equal.
            own = {path: _digest(source / path) for path in files if path in conflicts and source is not None}
            digests = self._dist.allgather(own) if conflicts else []
            for path, (one, other) in conflicts.items():
                if len({each[path] for each in digests if path in each}) > 1:
                    raise RuntimeError(
                        f"refusing to upload with files conflicts: {path} is uploaded by ranks {one} and {other}"
                    )
            before = {path for _, others in everyone[: self._dist.rank] for path in others}
            files = [path for path in files if path not in before]
        if source is not None:
            _copy(source, target, files)

    def _merge(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metadata of all processes together."""
        merged: dict[str, Any] = {}
        conflicts: list[str] = []
        for own in self._dist.allgather(dict(metadata)):
            _merge_into(merged, own, "", conflicts)
        if conflicts:
            raise RuntimeError(f"refusing to upload with metadata conflicts: {', '.join(sorted(set(conflicts)))}")
        return merged

    def _stage(self, shard: bool) -> tuple[str, Path]:
        """Return a storage id and an empty directory that rank 0 has created."""
        staged = None
        if self._dist.rank == 0:
            staged = str(uuid.uuid4()), tempfile.mkdtemp(prefix=_STAGED, dir=self._top())
        if shard:
            staged = self._dist.broadcast(staged)
        storage_id, directory = staged or ("", "")
        return storage_id, Path(directory)

    def _top(self) -> Path:
        """Return the directory in which checkpoints are written.  Links to its files need no space."""
        return self._trial.directory

    def _publish(self, storage_id: str, directory: Path, metadata: Mapping[str, Any]) -> None:
        if "steps_completed" not in metadata:
            if self._dist.rank == 0:
                self._discard(directory)
            raise ValueError(
                "metadata for reported checkpoints, in the current implementation, requires a 'steps_completed' item, "
                "which has not been provided"
            )
        if self._dist.rank:
            return
        (directory / METADATA).write_text(json.dumps(dict(metadata), indent=2))
        self._store(Identity(storage_id, int(metadata["steps_completed"])), directory)

    def _store(self, identity: Identity, directory: Path) -> None:
        assert self._recorder is not None  # noqa: S101
        self._recorder.store(identity, directory)

    def _discard(self, directory: Path) -> None:
        remove_tree(directory.parent, directory.name, ignore_errors=True)

    def _check_chief(self, name: str) -> None:
        if self._dist.rank:
            raise RuntimeError(
                f"cannot call CheckpointContext.{name}(shard=False) from non-chief worker (rank={self._dist.rank})"
            )

    # -- restoring ------------------------------------------------------------------------------

    @contextmanager
    def restore_path(
        self,
        storage_id: str,
        download_mode: DownloadMode = DownloadMode.LocalWorkersShareDownload,
        *,
        selector: Selector | None = None,
    ) -> Iterator[Path]:
        """Yield a directory with the files of a checkpoint.  Do not change them.

        Args:
            storage_id: id from ``info.latest_checkpoint``, `store_path` or `upload`.
            download_mode: whether all processes of the machine call this in step.
            selector: function that gets a relative path and returns whether that file is needed.  If it is given, only
                those files are in the directory.

        Raises:
            CheckpointError: the checkpoint does not exist or is damaged.
        """
        if self._is_alone(download_mode):
            with self._fetch_selected(storage_id, selector) as path:
                yield path
        elif self._dist.local_rank == 0:
            with self._fetch_selected(storage_id, selector) as path:
                self._dist.broadcast(str(path))
                try:
                    yield path
                finally:
                    self._dist.gather(None)
        else:
            path = Path(self._dist.broadcast(None))
            try:
                yield path
            finally:
                self._dist.gather(None)

    def download(
        self,
        storage_id: str,
        ckpt_dir: str | os.PathLike[str],
        download_mode: DownloadMode = DownloadMode.LocalWorkersShareDownload,
        *,
        selector: Selector | None = None,
    ) -> None:
        """Copy the files of a checkpoint into a directory, which is created if it does not exist.

        The arguments are those of `restore_path`.

        Raises:
            CheckpointError: the checkpoint does not exist or is damaged.
        """
        if self._is_alone(download_mode) or self._dist.local_rank == 0:
            with self._fetch(storage_id) as path:
                _copy(path, Path(ckpt_dir), [name for name in _selected(path, selector) if name not in _OWN])
        if not self._is_alone(download_mode):
            self._dist.allgather(None)

    def get_metadata(self, storage_id: str) -> dict[str, Any]:
        """Return the metadata of a checkpoint, or an empty dictionary if it has none.

        Raises:
            CheckpointError: the checkpoint does not exist or is damaged.
        """
        with self._fetch(storage_id) as path:
            try:
                found: dict[str, Any] = json.loads((path / METADATA).read_text())
            except FileNotFoundError:
                return {}
            return found

    def delete(self, storage_id: str) -> None:
        """Delete a checkpoint of this trial.

        Ashwood deletes older checkpoints of a trial by itself, see ``checkpoint_storage`` of the experiment file.

        Raises:
            CheckpointError: the trial has no such checkpoint.
        """
        stored = None if self._recorder is None else self._recorder.stored.pop(storage_id, None)
        if stored is not None and self._recorder is not None:
            self._recorder.delete(stored)
            name = stored.name
        else:
            name = self._name_of(storage_id)
        if name is not None:
            self._storage().delete(name)

    def _is_alone(self, mode: DownloadMode) -> bool:
        return DownloadMode(mode) is DownloadMode.NoSharedDownload or self._dist.size == 1

    @contextmanager
    def _fetch_selected(self, storage_id: str, selector: Selector | None) -> Iterator[Path]:
        with self._fetch(storage_id) as path:
            if selector is None:
                yield path
                return
            with tempfile.TemporaryDirectory(prefix=_STAGED) as directory:
                _copy(path, Path(directory), _selected(path, selector))
                yield Path(directory)

    @contextmanager
    def _fetch(self, storage_id: str) -> Iterator[Path]:
        latest, path = latest_identity(self._trial), self._trial.checkpoint
        if latest is not None and path is not None and latest.storage_id == storage_id:
            yield path
            return
        stored = None if self._recorder is None else self._recorder.stored.get(storage_id)
        if stored is not None and stored.name is None:
            yield stored.directory
            return
        name = self._name_of(storage_id) if stored is None else stored.name
        with self._open(name or "") as found:
            yield found

    def _open(self, name: str) -> AbstractContextManager[Path]:
        job = self._trial._attempt.job
        return self._storage().fetch(name, CheckpointInfo(experiment=job.experiment, draw=draw_of(job)))

    def _name_of(self, storage_id: str) -> str:
        """Return the name of a checkpoint that an earlier process of the trial has stored."""
        for stored in reversed(self._storage().complete(self._trial.id)):
            with self._open(stored.name) as path:
                if Identity.read(path, stored.name).storage_id == storage_id:
                    return stored.name
        raise CheckpointError(
            f"trial {self._trial.id} has no checkpoint {storage_id!r}: it was deleted by the policy of "
            "checkpoint_storage (save_trial_latest, save_trial_best, save_experiment_best), or belongs to another trial"
        )

    def _storage(self) -> Storage:
        return open_storage(self._trial._attempt.job.checkpoints)


class DummyCheckpointContext(CheckpointContext):
    """A context outside an experiment, which stores checkpoints in a directory."""

    def __init__(self, dist: DistributedContext, directory: Path) -> None:
        self._dist = dist
        self._recorder = None
        self._directory = directory

    def _top(self) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory

    def _store(self, identity: Identity, directory: Path) -> None:
        directory.rename(self._directory / identity.storage_id)

    @contextmanager
    def _fetch(self, storage_id: str) -> Iterator[Path]:
        yield self._directory / self._name_of(storage_id)

    def _name_of(self, storage_id: str) -> str:
        if not (self._directory / storage_id).is_dir():
            raise CheckpointError(f"there is no checkpoint {storage_id!r} in {self._directory}")
        return storage_id

    def delete(self, storage_id: str) -> None:
        """Delete a checkpoint."""
        remove_tree(self._directory, self._name_of(storage_id))


def _selected(top: Path, selector: Selector | None) -> list[str]:
    """Return the relative paths of files and directories that a selector wants; directories end with a slash."""
    paths = []
    for folder, folders, files in os.walk(top, followlinks=True):
        prefix = "" if Path(folder) == top else f"{Path(folder).relative_to(top).as_posix()}/"
        paths += [f"{prefix}{name}/" for name in folders] + [f"{prefix}{name}" for name in files]
    return sorted(path for path in paths if selector is None or selector(path))


def _copy(source: Path, target: Path, paths: list[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.endswith("/"):
            (target / path).mkdir(parents=True, exist_ok=True)
        else:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / path, target / path)


def _conflicts(everyone: list[tuple[Any, list[str]]]) -> dict[str, tuple[int, int]]:
    """Return the files that processes store from different directories, each with the first two of these processes.

    Args:
        everyone: identity of the directory, and relative paths of the files, of each process.
    """
    owners: dict[str, int] = {}
    found: dict[str, tuple[int, int]] = {}
    for rank, (identity, paths) in enumerate(everyone):
        for path in paths:
            if not path.endswith("/") and everyone[owner := owners.setdefault(path, rank)][0] != identity:
                found.setdefault(path, (owner, rank))
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _merge_into(merged: dict[str, Any], own: Mapping[str, Any], prefix: str, conflicts: list[str]) -> None:
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key, {}), dict):
            _merge_into(merged.setdefault(key, {}), value, f"{prefix}{key}/", conflicts)
        elif key in merged and merged[key] != value:
            conflicts.append(f"{prefix}{key}")
        else:
            merged[key] = value
