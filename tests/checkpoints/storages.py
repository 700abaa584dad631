"""Storages to test: a local one, and fsspec's memory in place of a remote one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from ashwood.checkpoints import Write, open_storage
from ashwood.checkpoints.port import Storage

NAME = "trial-3/length-4-attempt-1"


class Files:
    """What lies in a storage, behind its back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(self._path(path))
        return data

    def write(self, path: str, data: bytes) -> None:
        self._fs.makedirs(self._path(path).rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(self._path(path), data)

    def remove(self, path: str) -> None:
        self._fs.rm_file(self._path(path))

    def list(self) -> list[str]:
        self._fs.invalidate_cache()
        try:
            found: list[Any] = self._fs.find(self._root)
        except FileNotFoundError:
            return []
        return sorted(path.removeprefix(f"{self._root}/") for path in found)


def writes(**files: str | bytes) -> Write:
    """A checkpoint callable; ``__`` in a name stands for a slash, and each file ends in .pt."""

    def write(directory: Path) -> None:
        for name, content in files.items():
            file = directory / f"{name.replace('__', '/')}.pt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def contents(storage: Storage, name: str) -> dict[str, bytes]:
    """What a checkpoint holds, the manifest left out."""
    with storage.fetch(name) as directory:
        return {
            str(path.relative_to(directory)): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file() and path.name != "ashwood-checkpoint.json"
        }


__all__ = ["NAME", "Files", "contents", "open_storage", "writes"]
