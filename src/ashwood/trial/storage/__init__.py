"""Where checkpoints are: a local directory, or anything that fsspec knows a URL for.

Local storage needs the standard library alone; fsspec is imported when a remote one is first used.
"""

from __future__ import annotations

import os
from pathlib import Path

from ashwood.trial.storage.local import LocalStorage
from ashwood.trial.storage.manifest import MANIFEST, About, digest_of_draw
from ashwood.trial.storage.patience import BRIEF, ONCE, RETRY_SECONDS, Patience
from ashwood.trial.storage.port import Leftover, Storage, Stored, Write, checkpoint_name, named_position

__all__ = [
    "BRIEF",
    "MANIFEST",
    "ONCE",
    "RETRY_SECONDS",
    "About",
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
    """Return the storage at a directory or URL; nothing is read or written yet.

    Options that its file system takes may follow a URL: ``s3://bucket/prefix?endpoint_url=https://host``.
    Calls of a remote storage that fail are tried again as long as ``patience`` says.
    """
    text = os.fspath(url)
    if is_remote(text):
        from ashwood.trial.storage.remote import RemoteStorage  # most workers have no use for it

        return RemoteStorage(text, patience)
    return LocalStorage(Path(text.removeprefix(_LOCAL)).absolute())


def is_remote(url: str) -> bool:
    """Whether it is a URL of something else than this machine's directories."""
    return "://" in url and not url.startswith(_LOCAL)


def join_url(url: str, folder: str) -> str:
    """The storage at a folder of another."""
    base, mark, options = url.partition("?") if is_remote(url) else (url, "", "")
    return f"{base.rstrip('/')}/{folder}{mark}{options}"
