"""Check of SQLite's write-ahead log: damage is found, and undamaged logs are accepted."""

from __future__ import annotations

import gc
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from ashwood.errors import EventLogError
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.eventlog.wal import wal_of
from ashwood.testing.records import edge_case_entries, full_spec

COMMITS = 40

PRELUDE = """
import os, sys
from pathlib import Path
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.testing.records import full_spec, edge_case_entries

store = SqliteStore(Path(sys.argv[1]))
log = store.log(store.create(full_spec(), at=1.0))
run = store._connection.execute
"""
APPEND = f"for _ in range({COMMITS}): log.append(edge_case_entries())\n"
DIE = "os._exit(0)"


class Killed(NamedTuple):
    """Contents of the database file and the write-ahead log of a store whose process was killed."""

    main: bytes
    wal: bytes

    def write(self, path: Path, wal: bytes | None = None) -> None:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        path.write_bytes(self.main)
        wal_of(path).write_bytes(self.wal if wal is None else wal)


def killed(directory: Path, code: str) -> Killed:
    path = directory / "killed.db"
    subprocess.run([sys.executable, "-c", PRELUDE + code + DIE, path], check=True)
    return Killed(path.read_bytes(), wal_of(path).read_bytes())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return killed(tmp_path_factory.mktemp("killed"), APPEND)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ashwood.db"


def length(path: Path, *, allow_damage: bool = False) -> int:
    with closing(SqliteStore(path, allow_damage=allow_damage)) as opened:
        return sum(1 for _ in opened.log(1).read()) if opened.experiments() else 0


def frame_of(at: int) -> int:
    return (at - 32) // 4120 + 1


def test_log_of_killed_process_is_read(store: Killed, path: Path) -> None:
    store.write(path)
    assert length(path) == COMMITS * len(edge_case_entries())


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bit_in_a_frame_is_damage(store: Killed, path: Path, seed: int) -> None:
    draw = random.Random(seed)
    at = draw.randrange(32, len(store.wal) * 3 // 4)
    damaged = bytearray(store.wal)
    damaged[at] ^= 1 << draw.randrange(8)
    check_is_damage(store, path, bytes(damaged), frame_of(at))


@pytest.mark.parametrize("size", [8, 24, 4120, 3 * 4120])
@pytest.mark.parametrize("number", [1, 50])
def test_zeros_in_a_frame_are_damage(store: Killed, path: Path, size: int, number: int) -> None:
    begin = 32 + (number - 1) * 4120
    damaged = store.wal[:begin] + bytes(size) + store.wal[begin + size :]
    check_is_damage(store, path, damaged, number)


@pytest.mark.parametrize("at", [0, 3, 9, 13, 16, 23, 24, 31])
def test_changed_header_is_damage(store: Killed, path: Path, at: int) -> None:
    damaged = bytearray(store.wal)
    damaged[at] ^= 1
    check_is_damage(store, path, bytes(damaged), 1)


def check_is_damage(store: Killed, path: Path, damaged: bytes, number: int) -> None:
    store.write(path, damaged)
    for _ in range(2):  # The second time checks that the first one changed nothing.
        with pytest.raises(EventLogError, match=rf"ashwood\.db-wal: frame {number} of \d+ is damaged") as raised:
            SqliteStore(path)
        assert path.read_bytes() == store.main
        assert wal_of(path).read_bytes() == damaged
    known = length(path, allow_damage=True)
    if known:
        assert f"--until {known} for experiment 1" in str(raised.value)
    assert wal_of(path).read_bytes() == damaged


@pytest.mark.parametrize("cut", [1, 4000, 4120, 5000])
def test_torn_tail_is_not_damage(store: Killed, path: Path, cut: int) -> None:
    """A crash can leave the last commit incomplete at any byte."""
    store.write(path, store.wal[:-cut])
    assert length(path) == (COMMITS - 1) * len(edge_case_entries())


def test_damaged_last_commit_is_reported_as_unverified(store: Killed, path: Path) -> None:
    """A crash during the last commit can leave the same bytes, so this is not reported as damage."""
    damaged = bytearray(store.wal)
    damaged[-5000] ^= 1
    store.write(path, bytes(damaged))
    with closing(SqliteStore(path)) as opened:
        assert opened.log(1).last() == (COMMITS - 1) * len(edge_case_entries())
        assert opened.unverified is not None
    with closing(SqliteStore(path)) as opened:
        assert opened.unverified is None


@pytest.mark.parametrize(
    "before",
    [
        # Frames of a large transaction that was rolled back follow those of a short one.
        "run('PRAGMA cache_size = 1'); run('BEGIN'); run('CREATE TABLE x (y)')\n"
        "for _ in range(100): run('INSERT INTO x VALUES (zeroblob(9000))')\n"
        "run('ROLLBACK')\n",
        # Frames of an earlier generation follow those of the present one.
        f"{APPEND}{APPEND}assert run('PRAGMA wal_checkpoint(RESTART)').fetchone()[0] == 0\n",
    ],
    ids=["rolled back", "restarted"],
)
def test_unused_frames_after_the_log_are_not_damage(tmp_path: Path, path: Path, before: str) -> None:
    files = killed(tmp_path, f"{before}log.append(edge_case_entries())\nassert log.last() % 6 == 0\n")
    assert len(files.wal) > 50 * 4120
    files.write(path)
    assert length(path) % len(edge_case_entries()) == 0
    assert length(path) > 0


def test_copy_made_while_the_log_was_restarted_is_not_damage(tmp_path: Path, path: Path) -> None:
    """Such a copy can contain old frames between new ones."""
    both = killed(
        tmp_path,
        f"{APPEND}{APPEND}"
        f"Path(sys.argv[1]).with_suffix('.old').write_bytes(Path(sys.argv[1] + '-wal').read_bytes())\n"
        f"assert run('PRAGMA wal_checkpoint(RESTART)').fetchone()[0] == 0\n{APPEND}",
    )
    earlier = (tmp_path / "killed.old").read_bytes()
    begin, end = 32 + 20 * 4120, 32 + 60 * 4120
    both.write(path, both.wal[:begin] + earlier[begin:end] + both.wal[end:])
    assert length(path) % len(edge_case_entries()) == 0


def test_opening_during_writes_of_another_process_finds_no_damage(path: Path) -> None:
    code = f"{PRELUDE}print('ready', flush=True)\nwhile True: log.append(edge_case_entries())\n"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            lengths = []
            for _ in range(50):
                with closing(SqliteStore(path)) as store:
                    lengths.append(store.log(1).last())
        finally:
            writer.kill()
    assert lengths == sorted(lengths)


def test_wal_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE theirs (x)")
        with pytest.raises(EventLogError, match="another program"):
            SqliteStore(path)


def test_file_that_is_not_a_write_ahead_log_is_damage(store: Killed, path: Path) -> None:
    for content in (b"x" * 100_000, bytes(100_000), random.Random(1).randbytes(100_000), store.main * 2):
        store.write(path, content)
        with pytest.raises(EventLogError, match=r"ashwood\.db-wal: frame 1 of \d+ is damaged"):
            SqliteStore(path)
    for content in (b"", store.wal[:31], store.wal[:32], store.wal[:4000]):
        store.write(path, content)
        assert length(path) == 0


def test_opening_keeps_locks_of_other_connections_of_the_process(path: Path) -> None:
    """Closing a file releases all locks of the process on it, so the check must not close a file that SQLite locks."""
    code = (
        "import sqlite3, sys\n"
        "other = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "other.execute('BEGIN IMMEDIATE')\n"
    )
    with closing(SqliteStore(path)) as opened:
        opened.create(full_spec(), at=1.0)
        opened._connection.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            SqliteStore(path).close()
        done = subprocess.run([sys.executable, "-c", code, path], check=False, capture_output=True, text=True)
        assert "database is locked" in done.stderr
        opened._connection.execute("ROLLBACK")


def test_descriptors_of_deleted_shm_files_are_closed(tmp_path: Path) -> None:
    gc.collect()  # Files that other tests left to the collector would be closed meanwhile.
    before = open_files()
    for number in range(5):
        path = tmp_path / f"{number}.db"
        with closing(SqliteStore(path)) as opened:
            opened.create(full_spec(), at=1.0)
            SqliteStore(path).close()
        path.unlink()
    assert open_files() == before


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
