"""Exchange of Python objects between the processes of a trial on one machine, over a Unix socket."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import struct
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ashwood.checkpoints.scratch import private_directory

_CONNECT_SECONDS = 600.0
"""Seconds that the processes have to start, which includes the imports of their frameworks."""
_POLL_SECONDS = 0.02
_SIZE = struct.Struct("!Q")


class PeerEnded(SystemExit):
    """The process of rank 0 has ended the trial or has failed, so this process ends, too.

    The launcher sees the exit code of rank 0, which says whether the trial failed.
    """

    def __init__(self) -> None:
        super().__init__(0)


def address(number: int) -> str:
    """Return the path of a socket that all processes of this command compute, and no others.

    Args:
        number: number of the group of processes; a process can be in several groups.
    """
    names = ("ASHWOOD_TRIAL", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    key = "|".join([*(os.environ.get(name, "") for name in names), str(number)])
    directory = private_directory(Path(tempfile.gettempdir(), f"ashwood-hub-{os.getuid()}"))
    return str(directory / hashlib.sha256(key.encode()).hexdigest()[:24])


class Chief:
    """The end of rank 0, which is connected with all others."""

    def __init__(self, path: str, size: int) -> None:
        """Wait for ``size - 1`` other processes."""
        self._path = path
        with suppress(FileNotFoundError):  # A process with the same address may have been killed.
            os.unlink(path)  # noqa: PTH108
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(_CONNECT_SECONDS)
        self._peers: dict[int, socket.socket] = {}
        try:
            listener.bind(path)
            listener.listen(size)
            while len(self._peers) < size - 1:
                peer, _ = listener.accept()
                peer.settimeout(None)
                self._peers[_receive(peer)] = peer
        except TimeoutError:
            raise TimeoutError(
                f"only {len(self._peers)} of {size - 1} other processes of this trial have created their "
                f"DistributedContext within {_CONNECT_SECONDS:.0f} seconds"
            ) from None
        finally:
            listener.close()
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108

    def gather(self) -> list[Any]:
        """Return one object of each other process, in the order of their ranks."""
        return [_receive(peer) for _, peer in sorted(self._peers.items())]

    def broadcast(self, thing: Any) -> None:
        """Send an object to each other process."""
        for peer in self._peers.values():
            with suppress(OSError):  # That process has ended; its launcher ends the others.
                _send(peer, thing)

    def close(self) -> None:
        """Close all connections."""
        for peer in self._peers.values():
            peer.close()


class Worker:
    """The end of any other rank."""

    def __init__(self, path: str, rank: int) -> None:
        """Connect with rank 0, as soon as it listens."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(path)
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"rank 0 has not created its DistributedContext within {_CONNECT_SECONDS:.0f} seconds"
                    ) from None
                time.sleep(_POLL_SECONDS)
        _send(self._socket, rank)

    def send(self, thing: Any) -> None:
        """Send an object to rank 0."""
        try:
            _send(self._socket, thing)
        except OSError:
            raise PeerEnded from None

    def receive(self) -> Any:
        """Wait for an object from rank 0."""
        return _receive(self._socket)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _send(sock: socket.socket, thing: Any) -> None:
    data = pickle.dumps(thing)
    sock.sendall(_SIZE.pack(len(data)) + data)


def _receive(sock: socket.socket) -> Any:
    # Both ends are processes of one user: the socket is in a directory that no other user can enter.
    return pickle.loads(_read(sock, _SIZE.unpack(_read(sock, _SIZE.size))[0]))  # noqa: S301


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            piece = sock.recv(min(size - len(data), 1 << 20))
        except ConnectionError:
            piece = b""
        if not piece:
            raise PeerEnded
        data += piece
    return bytes(data)
