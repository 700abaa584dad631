"""The connection between the processes of a command and the worker that started it: one JSON message per line.

The worker listens on a Unix socket, whose path is in the environment variable `VARIABLE`.  So every descendant of the
command can connect, even if a launcher has closed all inherited descriptors.  `get_trial` connects.  A process joins
when it first loops or reports; a launcher that only reads hyperparameters does not join.  Messages, as in
`ashwood.trial.channel`:

===========================  ==========================================================================
process to worker
===========================  ==========================================================================
hello RANK PID               answer to job; RANK is null if no launcher has numbered the processes
join                         this process trains its rank from now on
report …, checkpoint …,      from rank 0, for the driver; also warning
alive …, phase …
announce …                   from rank 0, for the other ranks; see `ashwood.trial.ranks`
next                         from another rank: send the announcements that it has not received yet
outcome MESSAGE ERROR        how the attempt ended in this process; ERROR: whether an exception ended
                             it; or `RETURNED`, then how the attempt ends if the command succeeds,
                             and messages that the driver gets before that
===========================  ==========================================================================

===========================  ==========================================================================
worker to process
===========================  ==========================================================================
job JOB                      sent first, with descriptors that the process must hold until it ends
joined                       answer to join
refused PID RANK             answer to join: process PID already trains as that rank
continue …, finish …         to rank 0, from the driver; also suspend and best
announced LIST               answer to next, when there are announcements
over                         answer to next: rank 0 has ended
===========================  ==========================================================================
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.trial.api import Trial
from ashwood.trial.attempt import Attempt, Ended, Failed, Leave, Returned
from ashwood.trial.channel import Channel, DriverLink, Link, Message, ReportAnswer
from ashwood.trial.job import WorkerJob
from ashwood.trial.ranks import FollowingAttempt, LeadingAttempt
from ashwood.trial.run import cause_of, describe, message_of, outcome_of, storage_trouble

VARIABLE = "ASHWOOD_TRIAL"
"""Environment variable with the path of the socket on which the worker serves the processes of its command."""
RETURNED = "returned"
"""Outcome of a process whose training code has ended by itself: the exit code of the command decides what follows."""
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""Environment variables in which launchers number the processes that they start."""
_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "LOCAL_RANK")
_CHUNK = 1 << 16
_MOST_DESCRIPTORS = 253
"""Most descriptors that Linux sends with one message, for the worker lock and the locks of GPUs."""


class _Connection(Channel):
    """A channel to the worker that also receives descriptors, and keeps them open."""

    def _read(self, flags: int) -> None:
        try:
            # `socket.recv_fds` ignores its ``flags`` argument, so recvmsg() is called directly.
            data, attached, _, _ = self._socket.recvmsg(_CHUNK, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4), flags)
        except BlockingIOError:
            return
        except OSError:
            data, attached = b"", []
        for _, _, numbers in attached:
            descriptors = array("i")
            descriptors.frombytes(numbers[: len(numbers) // 4 * 4])
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
        self._take(data)


class _Rank:
    """Lets a process join its command as a rank when it first loops or reports."""

    def __init__(self, connection: Channel) -> None:
        self.connection = connection
        self.joined = False

    def join(self) -> None:
        """Join as the process that trains this rank, unless it has joined already.

        Raises:
            TrainingCodeError: another process already trains this rank.
        """
        if self.joined:
            return
        self.connection.send("join")
        match self.connection.receive():
            case ["joined"]:
                self.joined = True
            case ["refused", process, rank]:
                raise TrainingCodeError(
                    f"process {process} of this command already trains the trial as rank {rank}. If several processes "
                    "train a trial together, set RANK in each, from 0, before they call ashwood.get_trial(). "
                    "A process that only needs the hyperparameters can read trial.hparams, but must not loop or report"
                )
            case _:
                raise Leave  # The worker has ended.


class _CommandLink(DriverLink):
    """The link of rank 0: to the driver, through the worker."""

    def __init__(self, part: _Rank) -> None:
        super().__init__(part.connection)
        self._part = part
        # Messages that the driver gets if the command succeeds, or None before the end of the training code.
        self._last: list[Message] | None = None

    def keep(self) -> list[Message]:
        """Keep reports and checkpoints from now on, in the list that is returned, and end the trial at its target."""
        self._last = []
        return self._last

    def started(self, length: int) -> None:
        """Send nothing: the worker tells the driver when the first process connects."""

    def reported(self, length: int, metrics: dict[str, float]) -> None:
        """Send a report of the training code to the driver."""
        if self._last is not None:
            self._last.append(["report", length, metrics])
            return
        self._part.join()
        super().reported(length, metrics)

    def saved(self, length: int, name: str, metrics: Mapping[str, float], size: int) -> None:
        """Send the name and the size of a checkpoint."""
        if self._last is not None:
            self._last.append(["checkpoint", length, name, dict(metrics), size])
            return
        super().saved(length, name, metrics, size)

    def suspended(self) -> bool:
        """Return whether the trial must save and end; do not wait for a message."""
        if self._last is None:
            self._part.join()
        return super().suspended()

    def answer(self) -> ReportAnswer | None:
        """Wait for the answer to the report at the target and return it, or None if the trial is suspended."""
        if self._last is not None:
            return ReportAnswer(None, save=True)
        self._part.join()
        return super().answer()

    def announce(self, *announcement: Any) -> None:
        """Send the next action of this rank to the other ranks."""
        if self._part.joined:
            self._part.connection.send("announce", announcement)


class _FollowerLink(Link):
    """The link of any other rank, which sends nothing and follows the announcements of rank 0."""

    def __init__(self, part: _Rank) -> None:
        self._part = part
        self._announced: deque[Message] = deque()

    def next(self) -> Message | None:
        """Wait for the next announcement and return it, or None if rank 0 has ended."""
        self._part.join()
        if not self._announced:
            self._part.connection.send("next")
            match self._part.connection.receive():
                case ["announced", announcements]:
                    self._announced.extend(announcements)
                case _:
                    return None
        return self._announced.popleft()

    def put_back(self, announcement: Message) -> None:
        """Let the following call of `next` return an announcement again."""
        self._announced.appendleft(announcement)


def connect(path: str) -> Trial:
    """Return the trial of the command that this process belongs to.

    Raises:
        TrainingCodeError: no worker answers at ``path``.
    """
    connection, job = _greet(path)
    rank = _number(RANKS)
    # If the trial trains on several machines, the first process on each takes the messages of the driver, and leads the
    # other processes on its machine.
    local_rank = rank if job.world_size == 1 else _number(_LOCAL_RANKS)
    if rank is not None:
        job = job._replace(rank=rank, world_size=max(_number(_SIZES) or 1, rank + 1))
    connection.send("hello", local_rank, os.getpid())
    part = _Rank(connection)
    if local_rank:
        follower = _FollowerLink(part)
        trial = Trial(job, follower, FollowingAttempt(job, follower, follower))
        _at_exit(partial(_conclude, trial, None, connection, os.getpid()))
    else:
        link = _CommandLink(part)
        attempt = Attempt(job, link) if local_rank is None else LeadingAttempt(job, link, link.announce)
        trial = Trial(job, link, attempt)
        _at_exit(partial(_conclude, trial, link, connection, os.getpid()))
    return trial


def _greet(path: str) -> tuple[_Connection, WorkerJob]:
    cause = None
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
        connection = _Connection(sock)
        if (message := connection.receive()) is not None:
            return connection, WorkerJob(*message[1])
    except OSError as error:
        cause = error
    sock.close()
    raise TrainingCodeError(
        f"{VARIABLE} is set, but no worker of Ashwood answers at {path}: the command that this process belongs to has "
        "ended, or the socket is not visible here (in a container, mount its directory). To train without Ashwood, "
        f"unset {VARIABLE}"
    ) from cause


def _number(variables: tuple[str, ...]) -> int | None:
    for name in variables:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return None


def _at_exit(function: Callable[[], None]) -> None:
    # Exit handlers run in reverse order of registration.  This one is registered before those of the training code, so
    # it runs after them, and their reports still count.
    if "multiprocessing" in sys.modules and sys.modules["multiprocessing"].parent_process() is not None:
        from multiprocessing.util import Finalize  # Children of multiprocessing run finalizers, not atexit handlers.

        _keep_last_error()
        Finalize(None, function, exitpriority=0)
    else:
        atexit.register(function)


def _keep_last_error() -> None:
    """Store the exception that ends a child of multiprocessing in ``sys.last_value``.

    Since Python 3.13, exit handlers of such a child run after the exception was printed, when it is no longer
    available.
    """
    import traceback

    print_exc = traceback.print_exc

    def keep(*arguments: Any, **options: Any) -> None:
        error = sys.exc_info()[1]
        frames = None if error is None else error.__traceback__
        if frames is not None and frames.tb_frame.f_code.co_name == "_bootstrap":
            sys.last_value = error
        print_exc(*arguments, **options)

    traceback.print_exc = keep


def _conclude(trial: Trial, link: _CommandLink | None, connection: Channel, process: int) -> None:
    """Send the outcome of the attempt in this process to the worker, which sees only the launcher's exit code.

    Args:
        trial: trial of this process.
        link: its link to the driver, or None if it followed another rank.
        connection: its connection with the worker.
        process: id of the process that connected. Its forks inherit this exit handler, but send nothing.
    """
    if os.getpid() != process:
        return
    try:
        sys.stdout.flush()
    except OSError:
        # If the disk is full, output is lost, but the outcome is sent.  Python flushes stdout again when it exits, and
        # a second error would change the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    error = sys.exc_info()[1] or getattr(sys, "last_value", None)  # The exception that ended this process, or None.
    if error is None or isinstance(error, SystemExit):
        try:
            connection.send("outcome", _outcome(trial, link), False)
            return
        except Exception as failure:  # noqa: BLE001 - such as a full disk when the last checkpoint is saved
            error = failure
    outcome = storage_trouble(error) or Failed(describe(error), cause_of(error, trial.length))
    connection.send("outcome", message_of(outcome), True)


def _outcome(trial: Trial, link: _CommandLink | None) -> Message:
    """Return how the attempt ended in this process, whose exit code is unknown here, as a message."""
    if link is None:
        return message_of(Ended(trial.length))
    # The exit code of the command decides whether code that has ended by itself has succeeded.
    last = None if trial._attempt.at_end is None else link.keep()
    ended = outcome_of(trial)
    message = message_of(ended)
    if message[0] == "again":
        message.append(link.answers)
    return message if last is None and not isinstance(ended, Returned) else [RETURNED, message, last or []]
