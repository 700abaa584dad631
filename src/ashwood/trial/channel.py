"""The wire between a driver and a worker: JSON, a message a line, over one socket.

A message is an array: its kind, then its arguments.  NaN and infinities are legal numbers.

====================  ================================================================
driver to worker
====================  ================================================================
job JOB               train; JOB holds the fields of `ashwood.trial.job.Job`
go TARGET             answer to a report at the target: train on to TARGET
finish SAVE           answer to a report at the target: save if SAVE, then let go
suspend               at any time: save as soon as the code can, then let go
best LOSS             at any time: the lowest loss of the experiment's checkpoints
====================  ================================================================

===============================  =====================================================
worker to driver
===============================  =====================================================
ready                            the training code is loaded
cannot_load ERROR                it can't be loaded: a user's mistake
group GROUP                      this job runs in a process group of its own
joined GROUP                     a process of this job runs in another process group
started LENGTH                   training begins
report LENGTH METRICS            never answered, except at the target with the search's metric
alive LONGEST                    steps were finished since the last of these, or a transfer made
                                 progress; LONGEST: seconds of the longest step so far
phase PHASE DIRECTORY            what the trial does from now on, a `Phase`; DIRECTORY: where
                                 training code writes a checkpoint to
checkpoint LENGTH NAME METRICS   a complete checkpoint is in the storage; METRICS: what
                                 was reported at LENGTH
warning MESSAGE                  the training code probably has a mistake
ended LENGTH                     the last of a job is one of these
failed ERROR CAUSE               CAUSE: see `ashwood.experiment.events.AttemptFailed`; may be missing
unusable ERROR                   no trial of this search can train with this code
no_space ERROR                   a disk is full, or a quota is used up
no_storage ERROR                 the storage of checkpoints cannot be used
invalid WHY
stopped
damaged NAME WHY                 the checkpoint to start from is damaged or missing; nothing was trained
===============================  =====================================================

Only the last message of a job frees the worker for another, and the driver sends no job
before; so whatever comes between them is a late word about the old job, and is dropped.

The processes of a command speak to their worker, which passes messages on; see `ashwood.trial.command`.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple, Protocol

Message = list[Any]

encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_CHUNK = 1 << 16


class Channel:
    """The worker's end.  Reads only when asked to; a driver that is gone reads as silence and ``gone``."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._tail = b""
        self._inbox: deque[Message] = deque()
        self.gone = False

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, *message: Any) -> None:
        """Send one message; waits only while the driver is far behind."""
        self._send(encode(message).encode() + b"\n")

    def forward(self, lines: bytes) -> None:
        """Send messages that are encoded already, each with its line end."""
        self._send(lines)

    def end_line(self) -> None:
        """End what a child may have left half-said when it died."""
        self._send(b"\n")

    def receive(self) -> Message | None:
        """The next message, waiting for it; None: the driver is gone."""
        while not self._inbox and not self.gone:
            self._read(0)
        return self._inbox.popleft() if self._inbox else None

    def poll(self) -> Message | None:
        """The next message that is there already."""
        if not self._inbox and not self.gone:
            self._read(socket.MSG_DONTWAIT)
        return self._inbox.popleft() if self._inbox else None

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            self.gone = True

    def _read(self, flags: int) -> None:
        try:
            data = self._socket.recv(_CHUNK, flags)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        *lines, self._tail = (self._tail + data).split(b"\n")
        self._inbox.extend(json.loads(line) for line in lines)


class Phase(StrEnum):
    """What a trial does, as far as that tells how long it may show no progress."""

    FETCHING = "fetching"
    """The checkpoint to start from is fetched and verified."""
    TRAINING = "training"
    WRITING = "writing"
    """Training code writes a checkpoint."""
    STORING = "storing"
    """A checkpoint that is written is put into the storage."""


class Verdict(NamedTuple):
    """What the search answers to a report at the target.

    Attributes:
        target: train on to this total length; None: let go of the trial.
        save: save the trial before letting go of it.
    """

    target: int | None
    save: bool


class Link(Protocol):
    """What a trial needs of the driver."""

    def started(self, length: int) -> None:
        """Training begins at a total length."""
        ...

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Training code reported metrics."""
        ...

    def saved(self, length: int, name: str, metrics: Mapping[str, float]) -> None:
        """A complete checkpoint is in the storage; ``metrics`` were reported at its length."""
        ...

    def warned(self, message: str) -> None:
        """The training code probably has a mistake."""
        ...

    def alive(self, longest: float) -> None:
        """Tell that the trial makes progress; its longest step so far took ``longest`` seconds."""
        ...

    def phase(self, phase: Phase, directory: str = "") -> None:
        """Tell what the trial does from now on; ``directory``: where training code writes a checkpoint to."""
        ...

    def suspended(self) -> bool:
        """Whether the trial is to be saved and let go of as soon as it can; doesn't wait."""
        ...

    def best(self) -> float:
        """Return the lowest loss of the experiment's checkpoints as far as the driver has said, or infinity."""
        ...

    def verdict(self) -> Verdict | None:
        """The answer to the report at the target, waiting for it; None: the trial is suspended."""
        ...


class DriverLink:
    """A link to a driver at the other end of a channel.

    Attributes:
        answers: how many answers to reports at the target were used.
    """

    def __init__(self, channel: Channel) -> None:
        self.answers = 0
        self._channel = channel
        self._early: deque[Message] = deque()
        self._suspended = False
        self._best = inf

    def started(self, length: int) -> None:
        """Training begins at a total length."""
        self._channel.send("started", length)

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Training code reported metrics."""
        self._channel.send("report", length, metrics)

    def saved(self, length: int, name: str, metrics: Mapping[str, float]) -> None:
        """A complete checkpoint is in the storage; ``metrics`` were reported at its length."""
        self._channel.send("checkpoint", length, name, metrics)

    def warned(self, message: str) -> None:
        """The training code probably has a mistake."""
        self._channel.send("warning", message)

    def alive(self, longest: float) -> None:
        """Tell that the trial makes progress; its longest step so far took ``longest`` seconds."""
        self._channel.send("alive", longest)

    def phase(self, phase: Phase, directory: str = "") -> None:
        """Tell what the trial does from now on; ``directory``: where training code writes a checkpoint to."""
        self._channel.send("phase", phase, directory)

    def suspended(self) -> bool:
        """Return whether the trial was told to suspend, now or before, or the driver is gone."""
        while not self._suspended and (message := self._channel.poll()):
            if message[0] == "suspend":
                self._suspended = True
            elif message[0] == "best":
                self._best = message[1]
            else:
                self._early.append(message)  # where several train together, another may have asked before
        return self._suspended or self._channel.gone

    def best(self) -> float:
        """Return the lowest loss of the experiment's checkpoints as far as the driver has said, or infinity."""
        self.suspended()  # reads what has arrived
        return self._best

    def verdict(self) -> Verdict | None:
        """The answer to the report at the target, waiting for it; None: the trial is suspended."""
        if self._suspended:
            return None
        while True:
            match self._early.popleft() if self._early else self._channel.receive():
                case ["go", target]:
                    self.answers += 1
                    return Verdict(target, save=False)
                case ["finish", save]:
                    self.answers += 1
                    return Verdict(None, save=save)
                case ["best", loss]:
                    self._best = loss
                case _:
                    return None
