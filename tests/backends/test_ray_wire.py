"""Messages and directories that are sent between machines."""

import math
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.backends.port import Abort, ContinueAttempt, Finish, StartAttempt, Suspend
from ashwood.backends.ray.transfer import pack_directory, unpack_directory
from ashwood.backends.ray.wire import Hello, Wire, packed, unpacked
from ashwood.experiment.events import AttemptStarted, ValidationReported

HELLO = Hello(3, 0, "10.0.0.1/abc", "abc", "10.0.0.1", 4711, 99, "1.0", "3.11.7")


def connection(on_full: Callable[[bool], None] | None = None) -> tuple[Wire, Wire]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return Wire(ours, on_full), Wire(theirs)


@pytest.fixture
def ends() -> Iterator[tuple[Wire, Wire]]:
    ours, theirs = connection()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "record",
    [
        StartAttempt(1, 2, 3, {"lr": 0.1, "nested": {"a": [1, None]}}, 5, 6, "trial-1/length-6-attempt-1"),
        ContinueAttempt(1, 2, 3),
        Finish(1, 2, save=True),
        Suspend(1, 2),
        Abort(1, 2),
        AttemptStarted(1, 2, 3, 4, "node"),
        ValidationReported(1, 2, 3, {"loss": math.inf, "☃": 0.1 + 0.2}),
    ],
)
def test_commands_and_events_round_trip(ends: tuple[Wire, Wire], record: object) -> None:
    ours, theirs = ends
    ours.send(packed(record))  # type: ignore[arg-type]
    (message,) = theirs.receive(wait=True)
    assert unpacked(message) == record
    assert type(unpacked(message)) is type(record)


def test_large_and_many_messages_arrive_in_order(ends: tuple[Wire, Wire]) -> None:
    ours, theirs = ends
    ours.send(*([number] for number in range(1000)), ["x" * 300_000])
    received: list[object] = []
    while len(received) < 1001:
        received += theirs.receive(wait=True)
    assert received == [*([number] for number in range(1000)), ["x" * 300_000]]


MANY = [["delivered", f"checkpoint-{number}", "x" * 60_000] for number in range(200)]
"""More messages than the buffers of a connection hold."""


def test_send_does_not_block_if_other_end_reads_nothing(full: list[bool], buffering: tuple[Wire, Wire]) -> None:
    ours, theirs = buffering
    for message in MANY:
        ours.send(message)
    assert full == [True]
    received: list[object] = []
    while len(received) < len(MANY):
        ours.flush()
        received += theirs.receive()
    assert received == MANY
    assert full == [True, False]
    assert not ours.gone


def test_connection_is_closed_if_other_end_takes_nothing_for_long(
    full: list[bool], buffering: tuple[Wire, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = buffering
    for message in MANY:
        ours.send(message)
    monkeypatch.setattr("ashwood.backends.ray.wire._SILENCE_SECONDS", 0)
    ours.flush()
    assert full == [True, False]
    assert ours.receive(wait=True) == []
    assert ours.gone
    while theirs.receive(wait=True):
        pass
    assert theirs.gone


@pytest.fixture
def full() -> list[bool]:
    return []


@pytest.fixture
def buffering(full: list[bool]) -> Iterator[tuple[Wire, Wire]]:
    ours, theirs = connection(full.append)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_gone_is_set_at_end_of_connection_only(ends: tuple[Wire, Wire]) -> None:
    ours, theirs = ends
    assert theirs.receive() == []
    assert not theirs.gone
    ours.send(["last"])
    ours.close()
    assert theirs.receive(wait=True) == [["last"]]
    assert theirs.receive(wait=True) == []
    assert theirs.gone


def test_greeted_accepts_token_and_keeps_later_messages(ends: tuple[Wire, Wire]) -> None:
    ours, theirs = ends
    ours.send(["hello", "secret", HELLO], ["broken", "x"])
    assert until_greeted(theirs) == HELLO
    assert theirs.receive(wait=True) == [["broken", "x"]]


@pytest.mark.parametrize(
    "sent",
    [
        b'["hello","wrong",[3]]\n',
        b'["hello","secret",[3]]\n',
        b'["job","secret"]\n',
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\n",
        b"[" * 9_000 + b"\n",
        b"x" * 40_000,
        b"",
    ],
)
def test_greeted_rejects_invalid_hello(sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stranger = socket.create_connection(server.getsockname())
        wire = Wire(server.accept()[0])
    with stranger:
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)
        with pytest.raises(PermissionError):
            until_greeted(wire)
    wire.close()


def until_greeted(wire: Wire) -> Hello:
    while (about := wire.greeted("secret")) is None:
        pass
    return about


files = st.dictionaries(
    st.sampled_from(["model.pt", "deep/er/optimizer.bin", "deep/empty", "ü ☃"]), st.binary(max_size=2000), max_size=4
)


@given(files, st.integers(1, 5000))
def test_directory_round_trips_through_pack_and_unpack(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes], cut: int
) -> None:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name, data in content.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    stream = b"".join(pack_directory(source))
    unpack_directory((stream[at : at + cut] for at in range(0, len(stream), cut)), target)
    there = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert there == content


def test_pack_directory_keeps_inner_links_and_copies_outside_files(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for directory in (source / "step" / "empty", target):
        directory.mkdir(parents=True)
    (source / "step" / "model").write_text("weights")
    (tmp_path / "elsewhere").write_text("words")
    (source / "last").symlink_to("step")
    (source / "words").symlink_to(tmp_path / "elsewhere")
    unpack_directory(pack_directory(source), target)
    assert (target / "last").readlink() == Path("step")
    assert (target / "step" / "empty").is_dir()
    assert ((target / "words").is_symlink(), (target / "words").read_text()) == (False, "words")


def test_pack_directory_ends_if_reader_stops_early(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(1 << 25))
    chunks = pack_directory(tmp_path)
    assert len(next(chunks)) > 0
    chunks.close()  # type: ignore[attr-defined]


def test_pack_directory_raises_if_directory_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(pack_directory(tmp_path / "missing"))
