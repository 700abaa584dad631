"""Logs that lose their middle while processes append to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ashwood.checkpoints import limited
from ashwood.checkpoints.limited import find_gap, read_pieces, trim

LIMIT = 100_000
PRINTER = "import os, sys\nfor n in range(60000): os.write(1, b'%s %d\\n' % (sys.argv[1].encode(), n))"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "trial-0.log"
    log.write_bytes(b"--- the header\n")
    return log


def append(log: Path, text: str) -> None:
    with log.open("ab") as file:
        file.write(text.encode())


def lines(first: int, last: int) -> str:
    return "".join(f"{number:09}\n" for number in range(first, last))


def can_collapse(log: Path) -> bool:
    with log.open("r+b") as file:
        file.write(bytes(12288))
        file.flush()
        return limited._collapse(file.fileno(), 4096, 4096)


def copies(before: Callable[[], object] = lambda: None) -> Callable[..., bool]:
    """Stands for a file system that removes no part of a file; ``before`` is called before it is copied."""

    def collapse(*_: object) -> bool:
        before()
        return False

    return collapse


@pytest.mark.parametrize("copied", [False, True])
def test_trimmed_log_keeps_beginning_and_end_and_says_what_is_left_out(
    log: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    if copied:
        monkeypatch.setattr(limited, "_collapse", copies())
    printed = log.read_text()
    assert not trim(log, LIMIT)
    for first in range(0, 50_000, 8_000):
        append(log, lines(first, first + 8_000))
        printed += lines(first, first + 8_000)
        assert trim(log, LIMIT) is (len(printed) > LIMIT)
        assert log.stat().st_size <= LIMIT
    with log.open("rb") as file:
        gap = find_gap(file.fileno(), LIMIT)
    text = log.read_text()
    head, tail = text[: gap.begin], text[gap.begin + 128 :]
    assert printed.startswith(head)
    assert printed.endswith(tail)
    assert min(len(head), len(tail) * 2) > LIMIT // 3
    assert gap.size == len(printed) - len(head) - len(tail)
    assert f"\n[... {gap.size} bytes are left out here: the log has reached max_log_size, 100000 bytes ..." in text
    assert not trim(log, LIMIT)
    assert not trim(log, 10 * LIMIT)


def test_output_during_copy_of_log_end_is_kept(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "_collapse", copies(lambda: append(log, "while it is trimmed\n")))
    append(log, lines(0, 20_000))
    trim(log, LIMIT)
    append(log, "afterwards\n")
    assert log.read_text().endswith(f"{lines(19_990, 20_000)}while it is trimmed\nafterwards\n")


def test_log_that_grows_faster_than_it_is_copied_loses_nothing(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log, lines(0, 20_000))
    pwrite, flood = os.pwrite, iter(range(20_000, 10**9))

    def write(descriptor: int, data: bytes, place: int) -> int:
        append(log, f"{next(flood):09}\n")
        return pwrite(descriptor, data, place)

    with monkeypatch.context() as patch:
        patch.setattr(limited, "_collapse", copies())
        patch.setattr(os, "pwrite", write)
        trim(log, LIMIT)
    last = next(flood)
    assert log.read_text().endswith(lines(last - 50, last))
    trim(log, LIMIT)
    assert log.stat().st_size <= LIMIT
    assert log.read_text().endswith(lines(last - 50, last))


def test_log_of_several_processes_loses_only_the_gap(log: Path) -> None:
    if not can_collapse(log):
        pytest.skip("this file system removes no part of a file")
    log.write_bytes(b"--- the header\n")
    with log.open("ab") as out:
        printers = [subprocess.Popen([sys.executable, "-c", PRINTER, name], stdout=out) for name in "AB"]
    seen, position, trims = b"", 0, 0
    with log.open("rb") as file:
        running = True
        while running:
            running = any(printer.poll() is None for printer in printers)
            trims += trim(log, LIMIT)
            for data, end in read_pieces(file, LIMIT, position):
                seen, position = seen + data, end
        gap = find_gap(file.fileno(), LIMIT)
    assert trims > 1
    assert position == 15 + sum(len(f"A {number}\n") for number in range(60_000)) * 2
    assert log.stat().st_size == position - gap.size + 128
    for name in (b"A", b"B"):
        numbers = [int(line[2:]) for line in seen.splitlines() if line.startswith(name + b" ") and line[2:].isdigit()]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 59_999


def test_reader_that_is_far_behind_continues_after_the_gap(log: Path) -> None:
    append(log, lines(0, 1_000))
    with log.open("rb") as file:
        ((text, position),) = read_pieces(file, LIMIT)
        assert text.decode() == log.read_text()
        append(log, lines(1_000, 20_000))
        trim(log, LIMIT)
        append(log, lines(20_000, 20_010))
        text = b"".join(data for data, _ in read_pieces(file, LIMIT, position))
        in_gap = b"".join(data for data, _ in read_pieces(file, LIMIT, 60_000))
    before, mark, after = text.decode().partition("\n[... ")
    assert before.startswith(lines(1_000, 1_100))
    assert mark + after == in_gap.decode(), "a position in the gap is where it begins"
    assert after.endswith(lines(19_000, 20_010))


def test_link_in_place_of_log_is_not_trimmed(log: Path, tmp_path: Path) -> None:
    append(log, lines(0, 20_000))
    (tmp_path / "link.log").symlink_to(log)
    with pytest.raises(OSError, match="not a regular file"):
        trim(tmp_path / "link.log", LIMIT)
    assert log.stat().st_size > LIMIT


@pytest.mark.parametrize("limit", [-(10**30), -1, 0, 1, 10**30])
def test_extreme_limits_are_bounded(log: Path, limit: int) -> None:
    append(log, lines(0, 20_000))
    printed = log.read_text()
    assert trim(log, limit) is (limit < LIMIT)
    with log.open("rb") as file:
        text = b"".join(data for data, _ in read_pieces(file, limit)).decode()
    assert text == log.read_text()
    assert text[:40_000] == printed[:40_000]
    assert text.endswith(printed[-20_000:])
