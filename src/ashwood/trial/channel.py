"""The protocol between a driver and a worker: JSON messages, one on each line of a socket.

A message is an array: its kind, then its arguments.  Numbers may be NaN or infinite.

====================  ================================================================
driver to worker
====================  ================================================================
job JOB               train; JOB holds the fields of `ashwood.trial.job.WorkerJob`
continue TARGET       answer to a report at the target: continue to TARGET
finish SAVE           answer to a report at the target: save if SAVE, then end the attempt
suspend               at any time: save as soon as the code can, then end the attempt
best LOSS             at any time: the lowest loss of the experiment's checkpoints
====================  ================================================================

===============================  =====================================================
worker to driver
===============================  =====================================================
ready                            the training code is loaded
cannot_load ERROR                the training code can't be loaded
group GROUP                      this job runs in a process group of its own
joined GROUP                     a process of this job runs in another process group
started LENGTH                   training begins
report LENGTH METRICS            answered only at the target, if the search's metric is included
alive LONGEST                    steps were finished since the last of these, or a transfer made
                                 progress; LONGEST: seconds of the longest step so far
phase PHASE DIRECTORY            the trial's activity from now on, a `Phase`; DIRECTORY: the
                                 directory to which training code writes a checkpoint
checkpoint LENGTH NAME METRICS SIZE   a complete checkpoint is in the storage; METRICS: those
                                 reported at LENGTH; SIZE: bytes of its files
warning MESSAGE                  the training code probably has a mistake
unusable ERROR                   no trial of this search can train with this code
AttemptEnded LENGTH              the last message of a job has the name of the event that it
AttemptFailed ERROR CAUSE        becomes, and the fields of the event after trial and attempt;
StorageFailed ERROR CAUSE        the CAUSE of AttemptFailed may be missing; see
HparamsInvalid WHY               `ashwood.experiment.events.FinalEvent`
TrialStopped
CheckpointDamaged NAME WHY
===============================  =====================================================

Only the last message of a job frees the worker, and the driver sends no other job before it.
So a message that arrives between two jobs belongs to the former one and is dropped.

The processes of a command connect to their worker, which passes messages on; see `ashwood.trial.command`.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple

Message = list[Any]

encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_CHUNK = 1 << 16


class Channel:
    """The worker's end of the connection.  It reads only when it is asked to.

    Attributes:
        gone: whether the driver has closed the connection or died.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._tail = b""
        self._inbox: deque[Message] = deque()
        self.gone = False

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, *message: Any) -> None:
        """Send a message; wait only if the driver has many messages to read."""
        self.send_lines(encode(message).encode() + b"\n")

    def send_lines(self, lines: bytes) -> None:
        """Send messages that are already encoded, each with its line end."""
        try:
            self._socket.sendall(lines)
        except OSError:
            self.gone = True

    def receive(self) -> Message | None:
        """Wait for the next message and return it, or None if the driver is gone."""
        while not self._inbox and not self.gone:
            self._read(0)
        return self._inbox.popleft() if self._inbox else None

    def poll(self) -> Message | None:
        """Return the next message if one has arrived, otherwise None."""
        if not self._inbox and not self.gone:
            self._read(socket.MSG_DONTWAIT)
        return self._inbox.popleft() if self._inbox else None

    def _read(self, flags: int) -> None:
        try:
            data = self._socket.recv(_CHUNK, flags)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Store the messages in received bytes; no bytes mean that the driver is gone."""
        if not data:
            self.gone = True
            return
        *lines, self._tail = (self._tail + data).split(b"\n")
        self._inbox.extend(json.loads(line) for line in lines)


class Phase(StrEnum):
    """Activity of a trial, which determines for how long it may show no progress."""

    FETCHING = "fetching"
    """The checkpoint that the trial starts from is fetched and verified."""
    TRAINING = "training"
    WRITING = "writing"
    """Training code writes a checkpoint."""
    STORING = "storing"
    """A written checkpoint is moved to the storage."""


class ReportAnswer(NamedTuple):
    """The answer of the search to a report at the target.

    Attributes:
        target: total length to which the trial continues, or None if the attempt ends.
        save: whether to save a checkpoint before the attempt ends.
    """

    target: int | None
    save: bool


class Link:
    """The connection of a trial with its driver.  This base class is for trials without a driver."""

    def started(self, length: int) -> None:
        """Inform the driver that training begins at a total length."""

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Inform the driver about the metrics that training code reported."""

    def saved(self, length: int, name: str, metrics: Mapping[str, float], size: int) -> None:
        """Inform the driver that the storage has a complete checkpoint of ``size`` bytes.

        ``metrics`` were reported at its length.
        """

    def warned(self, message: str) -> None:
        """Inform the driver that the training code probably has a mistake."""

    def alive(self, longest: float) -> None:
        """Inform the driver that the trial makes progress; its longest step so far took ``longest`` seconds."""

    def phase(self, phase: Phase, directory: str = "") -> None:
        """Inform the driver about the trial's new activity, and the directory to which a checkpoint is written."""

    def suspended(self) -> bool:
        """Return whether the trial must save and end as soon as it can, without waiting."""
        return False

    def best(self) -> float:
        """Return the lowest loss of the experiment's checkpoints as far as the driver has said, or infinity."""
        return inf

    def answer(self) -> ReportAnswer | None:
        """Wait for the answer to the report at the target, and return it, or None if the trial is suspended."""
        return None


class DriverLink(Link):
    """A link to a driver at the other end of a channel.

    Attributes:
        answers: number of answers to reports at the target so far.
    """

    def __init__(self, channel: Channel) -> None:
        self.answers = 0
        self._channel = channel
        self._early: deque[Message] = deque()
        self._suspended = False
        self._best = inf

    def started(self, length: int) -> None:
        """Send the length at which training begins."""
        self._channel.send("started", length)

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Send a report of the training code."""
        self._channel.send("report", length, metrics)

    def saved(self, length: int, name: str, metrics: Mapping[str, float], size: int) -> None:
        """Send the name and the size of a checkpoint."""
        self._channel.send("checkpoint", length, name, metrics, size)

    def warned(self, message: str) -> None:
        """Send a warning about the training code."""
        self._channel.send("warning", message)

    def alive(self, longest: float) -> None:
        """Send a sign of life."""
        self._channel.send("alive", longest)

    def phase(self, phase: Phase, directory: str = "") -> None:
        """Send the trial's activity."""
        self._channel.send("phase", phase, directory)

    def suspended(self) -> bool:
        """Return whether a request to suspend has arrived, now or before, or the driver is gone."""
        while not self._suspended and (message := self._channel.poll()):
            if message[0] == "suspend":
                self._suspended = True
            elif message[0] == "best":
                self._best = message[1]
            else:
                self._early.append(message)  # This is an answer to a report.
        return self._suspended or self._channel.gone

    def best(self) -> float:
        """Return the lowest loss of the experiment's checkpoints as far as the driver has said, or infinity."""
        self.suspended()  # This call reads the messages that have arrived.
        return self._best

    def answer(self) -> ReportAnswer | None:
        """Wait for the answer to the report at the target, and return it, or None if the trial is suspended."""
        if self._suspended:
            return None
        while True:
            match self._early.popleft() if self._early else self._channel.receive():
                case ["continue", target]:
                    self.answers += 1
                    return ReportAnswer(target, save=False)
                case ["finish", save]:
                    self.answers += 1
                    return ReportAnswer(None, save=save)
                case ["best", loss]:
                    self._best = loss
                case _:
                    return None
