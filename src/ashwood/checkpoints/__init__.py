"""Checkpoint storage: a local directory, or any URL that fsspec supports.

Local storage needs only the standard library.  fsspec is imported at the first use of a remote storage.  The modules
`directory`, `limited`, `regular`, `sharing` and `trees` handle all files of an experiment that workers and the driver
share.  They are here because both sides may import this package.
"""

from __future__ import annotations

import os
from pathlib import Path

from ashwood.checkpoints.local import LocalStorage
from ashwood.checkpoints.manifest import MANIFEST, CheckpointInfo, digest_of_draw
from ashwood.checkpoints.patience import BRIEF, ONCE, RETRY_SECONDS, Patience
from ashwood.checkpoints.port import Leftover, Storage, Stored, Write, checkpoint_name, named_position

__all__ = [
    "BRIEF",
    "MANIFEST",
    "ONCE",
    "RETRY_SECONDS",
    "CheckpointInfo",
    "Leftover",
    "Patience",
    "Storage",
    "Stored",
    "Write",
    "checkpoint_name",
    "digest_of_draw",
    "is_remote",
    "join_url",
    "named_position",
    "open_storage",
]

_LOCAL = "file://"


def open_storage(url: str | os.PathLike[str], patience: Patience = BRIEF) -> Storage:
    """Return the storage at a directory or URL, without reading or writing anything.

    Options of the file system can follow a URL: ``s3://bucket/prefix?endpoint_url=https://host``.  Calls of a remote
    storage that fail are repeated for the time that ``patience`` allows.
    """
    text = os.fspath(url)
    if is_remote(text):
        from ashwood.checkpoints.remote import RemoteStorage  # imported here, because most workers do not use it

        return RemoteStorage(text, patience)
    return LocalStorage(Path(text.removeprefix(_LOCAL)).absolute())


def is_remote(url: str) -> bool:
    """Return whether a storage is a URL other than ``file://``, so not a directory of this machine."""
    return "://" in url and not url.startswith(_LOCAL)


def join_url(url: str, folder: str) -> str:
    """Return the directory or URL of a folder in a storage; options of a URL are kept."""
    base, mark, options = url.partition("?") if is_remote(url) else (url, "", "")
    return f"{base.rstrip('/')}/{folder}{mark}{options}"
