"""Two users of one group, for tests that run as root; skipped for others.

The users need no accounts.  What one does runs in a process that is forked from the test: it has imported what it
needs, because another user may not be allowed to read the directories of the interpreter.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

ALICE, BOB = 40_001, 40_002
GROUP = 40_010

T = TypeVar("T")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Return a directory that all users can reach; those of pytest are for the user alone who runs the tests."""
    with tempfile.TemporaryDirectory(prefix="ashwood-users-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def need_root() -> None:
    """Skip the test if it cannot become another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")


def shared_directory(parent: Path, mode: int = 0o2775) -> Path:
    """Make a directory of Alice's that belongs to the group, in one that both users can reach."""
    need_root()
    directory = parent / "shared"
    directory.mkdir()
    os.chown(directory, ALICE, GROUP)
    directory.chmod(mode)
    return directory


def as_user(user: int, do: Callable[[], T], *, umask: int = 0o022) -> T:
    """Return what a function returns that runs as one of the users; an exception is raised here."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads: the child uses none of them
        child = os.fork()
    if not child:
        os.close(reads)
        _run_in_child(user, do, umask, writes)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer, f"the process of user {user} died"
    result, error = pickle.loads(answer)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _run_in_child(user: int, do: Callable[[], object], umask: int, pipe: int) -> NoReturn:
    status = 1
    try:
        os.setgroups([GROUP])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os.umask(umask)
        try:
            answer = pickle.dumps((do(), None))
        except Exception as error:  # noqa: BLE001 - raised by the test's own process
            error.add_note(traceback.format_exc())
            answer = pickle.dumps((None, error))
        with os.fdopen(pipe, "wb") as file:
            file.write(answer)
        status = 0
    finally:
        os._exit(status)  # what the test has yet to do is for its own process
