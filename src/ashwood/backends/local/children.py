"""Attempts in children of the worker: in one forked from it, or in a command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from ashwood.backends.local.command import fill_in
from ashwood.backends.local.exits import describe_exit
from ashwood.backends.local.logs import last_line, tail
from ashwood.backends.local.runners import TrainingCode, train
from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import Damaged, Ended, Failed
from ashwood.trial.channel import Channel, DriverLink, Message, encode
from ashwood.trial.current import VARIABLE
from ashwood.trial.job import Job
from ashwood.trial.run import message_of, with_checkpoint


class Forked:
    """In a child of the worker, which has the training code imported: when it is gone, so is all it held."""

    def __init__(self, function: TrainingCode) -> None:
        self._function = function

    def __call__(self, job: Job, channel: Channel, log: Path, /) -> Message:
        """Call the training function in a child, and wait until the child and its children are gone."""
        with tempfile.TemporaryFile() as outcome:
            child = os.fork()
            if child == 0:
                self._train(job, channel, outcome)
            with suppress(OSError):  # both sides do it, so neither has to wait for the other
                os.setpgid(child, child)
            channel.send("group", child)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            _kill_group(child)
            message = _read(outcome)
        if message is None or code != 0:
            channel.end_line()
            return ["failed", describe_exit(code, "the process of the trial") + tail(log)]
        return message

    def _train(self, job: Job, channel: Channel, outcome: IO[bytes]) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            result = train(self._function, job, channel)
            sys.stdout.flush()
            outcome.write(encode(message_of(result)).encode())
            outcome.flush()
            code = 0
        finally:
            os._exit(code)


class Command:
    """In a shell command, started anew for each attempt."""

    def __init__(self, command: str, workdir: str) -> None:
        self._command = command
        self._workdir = workdir

    def __call__(self, job: Job, channel: Channel, log: Path, /) -> Message:
        """Run the command until it exits, again as long as it ends early and the search wants more."""
        while True:
            if DriverLink(channel).suspended():  # the command couldn't see it: it is read already
                return message_of(Ended(job.length))
            try:
                command = fill_in(self._command, job.hparams)
            except TrainingCodeError as error:
                return message_of(Failed(str(error)))
            match with_checkpoint(job, partial(self._run, command, channel, log)):
                case ["again", fields]:
                    job = Job(*fields)
                case Failed() | Damaged() as outcome:
                    return message_of(outcome)
                case message:
                    return message

    def _run(self, command: str, channel: Channel, log: Path, job: Job, /) -> Message:
        with tempfile.TemporaryFile() as job_file, tempfile.TemporaryFile() as outcome:
            job_file.write(encode(job).encode())
            job_file.flush()
            descriptors = (channel.fileno(), job_file.fileno(), outcome.fileno())
            process = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", command],
                cwd=self._workdir,
                env=_environment(job, descriptors),
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                process_group=0,
            )
            channel.send("group", process.pid)
            code = process.wait()
            _kill_group(process.pid)
            message = _read(outcome)
        if message is not None and message[0] in ("invalid", "stopped"):
            return message
        if code != 0:
            channel.end_line()
            return ["failed", describe_exit(_unshelled(code), "the command") + last_line(log) + tail(log)]
        if message is None:
            return [
                "failed",
                "the command ended without a word: its program has to call ashwood.get_trial() and to report "
                f"{job.metric!r} there" + tail(log),
            ]
        return message


def _environment(job: Job, descriptors: Iterable[int]) -> dict[str, str]:
    # ``python`` in a command is the one that runs Ashwood, also where nobody activated its environment.
    path = filter(None, (str(Path(sys.executable).parent), os.environ.get("PATH")))
    return os.environ | {
        "PATH": os.pathsep.join(path),
        VARIABLE: ",".join(map(str, descriptors)),
        "ASHWOOD_HPARAMS": json.dumps(job.hparams),
        "ASHWOOD_SEED": str(job.seed),
    }


def _unshelled(code: int) -> int:
    """An exit code of a shell, which adds 128 to the number of the signal that ended its command."""
    return 128 - code if 128 < code <= 128 + signal.NSIG else code


def _read(outcome: IO[bytes]) -> Message | None:
    data = os.pread(outcome.fileno(), os.fstat(outcome.fileno()).st_size, 0)
    message: Message | None = json.loads(data) if data else None
    return message


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
