"""Files that could have been replaced by a link or a pipe."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ashwood.checkpoints.regular import open_to_append, open_to_read


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


OTHERS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "link": lambda path: path.symlink_to(__file__),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "device": lambda path: path.symlink_to("/dev/null"),
    "directory": Path.mkdir,
    "socket": make_socket,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("open_it", [open_to_read, open_to_append])
def test_only_regular_files_are_opened_and_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], open_it: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trial-1.log"
    make(path)
    with pytest.raises(OSError, match=r"regular file|Is a directory"):
        open_it(path)
    assert not (tmp_path / "nowhere").exists()


def test_regular_file_is_appended_to_and_read(tmp_path: Path) -> None:
    for text in (b"a", b"b"):
        with open_to_append(tmp_path / "log") as file:
            file.write(text)
    with open_to_read(tmp_path / "log") as file:
        assert file.read() == b"ab"
