"""Run attempts in children of the worker: in a fork, or in a shell command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import nan
from pathlib import Path
from typing import IO, Any

from ashwood.backends.local import reaper
from ashwood.backends.local.command import fill_in
from ashwood.backends.local.exits import describe_exit
from ashwood.backends.local.logs import flush, summary, tail
from ashwood.backends.local.runners import TrainingCode, train
from ashwood.backends.local.scratch import scratch_file
from ashwood.backends.local.server import CommandServer
from ashwood.backends.local.sockets import sweep
from ashwood.checkpoints.sharing import make_shared
from ashwood.errors import TrainingCodeError
from ashwood.trial.attempt import Damaged, Ended, Failed, Outcome, Returned, StorageTrouble, without_result
from ashwood.trial.channel import Channel, Message, Phase, encode
from ashwood.trial.command import RANKS, RETURNED, VARIABLE
from ashwood.trial.job import WorkerJob
from ashwood.trial.run import describe, failure_of, message_of, with_checkpoint


class ForkRunner:
    """Runs each attempt in a fork of the worker.  When the fork ends, its memory and GPU are free again."""

    def __init__(self, load: Callable[[], TrainingCode]) -> None:
        """Make the runner; ``load`` is called in each child and returns the training code."""
        self._load = load

    def __call__(self, job: WorkerJob, channel: Channel, log: Path, /) -> Message:
        """Call the training function in a child, and wait until the child and its children have ended."""
        # The driver considers the slot free when it receives the last message. So the child writes that message to a
        # file, and the worker sends it only after the child and its process group have ended.
        with scratch_file() as outcome:
            child = os.fork()
            if child == 0:
                self._train(job, channel, log, outcome)
            code = _await_group(child)
            message = _read(outcome)
        if message is None or code != 0:
            channel.send_lines(b"\n")  # The child may have died while it sent a message; this ends its line.
            return ["AttemptFailed", describe_exit(code, "the process of the trial") + tail(log)]
        return message

    def _train(self, job: WorkerJob, channel: Channel, log: Path, outcome: IO[bytes]) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            _announce(channel)
            result = self._result(job, channel, log)
            flush(sys.stdout, sys.stderr)
            outcome.write(encode(message_of(result)).encode())
            outcome.flush()
            code = 0
        finally:
            # Not sys.exit(): the child must not run the worker's exit handlers, nor return into the worker's loop.
            os._exit(code)

    def _result(self, job: WorkerJob, channel: Channel, log: Path) -> Outcome:
        try:
            function = self._load()
        except BaseException as error:  # noqa: BLE001 - the training code may also call sys.exit() during its import
            return Failed(f"the training code can't be imported: {describe(error)}")
        return train(function, job, channel, log)


class CommandRunner:
    """Runs each attempt in a shell command."""

    def __init__(
        self, command: str, workdir: str, inherited: Sequence[int] = (), others: Mapping[str, Any] | None = None
    ) -> None:
        """Make the runner.

        Args:
            command: the command, with placeholders.
            workdir: directory that it runs in.
            inherited: descriptors that its processes hold for as long as they live.
            others: values of placeholders, as in `ashwood.backends.local.setup.Setup`.
        """
        self._command = command
        self._others = others or {}
        self._workdir = workdir
        self._inherited = inherited
        sweep()

    def __call__(self, job: WorkerJob, channel: Channel, log: Path, /) -> Message:
        """Run the command until it exits.  Run it again while it ends before the target that the search has set."""
        pending: list[Message] = []

        def suspended() -> bool:
            pending.extend(iter(channel.poll, None))
            return channel.gone or ["suspend"] in pending

        while True:
            if suspended():
                return message_of(Ended(job.length))
            try:
                others = {
                    **self._others,
                    "trial.id": job.trial,
                    "trial.seed": job.seed,
                    "trial.directory": job.trial_directory,
                }
                command = fill_in(self._command, job.hparams, others)
                make_shared(Path(job.trial_directory))
            except TrainingCodeError as error:
                return message_of(Failed(str(error)))
            except OSError as error:
                return message_of(failure_of(error, "Cannot make the directory of the trial: "))
            if job.checkpoint is not None:
                channel.send("phase", Phase.FETCHING, "")
            match with_checkpoint(job, partial(self._run, command, channel, pending, log), suspended):
                case [["again", fields, _], left]:
                    job, pending = WorkerJob(*fields), left
                case Failed() | StorageTrouble() | Damaged() as outcome:
                    return message_of(outcome)
                case [message, _]:
                    return message

    def _run(
        self, command: str, channel: Channel, pending: list[Message], log: Path, job: WorkerJob, /
    ) -> tuple[Message, list[Message]] | Failed:
        """Run the command once; return the last message, and the driver's messages that it has not used."""
        try:
            server = CommandServer(channel, job, pending, self._inherited)
        except OSError as error:
            return Failed(f"Cannot make a socket for the processes of the command: {error}")
        channel.send("phase", Phase.TRAINING, "")
        with server:
            process = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", command],
                cwd=self._workdir,
                env=_environment(job, server.path),
                stdin=subprocess.DEVNULL,
                pass_fds=self._inherited,
                process_group=0,
                preexec_fn=partial(_announce, channel),
            )
            server.serve(process.pid)
            process.returncode = code = _await_group(process.pid)
            server.finish(killed=code < 0)
            message = _last_message(server, code, job, log, channel)
            return message, server.unused(message[2]) if message[0] == "again" else []


def _last_message(server: CommandServer, code: int, job: WorkerJob, log: Path, channel: Channel) -> Message:
    """Return the last message of a job whose command has ended, and send the messages before it."""
    for message in (server.outcome, server.error):
        if message is not None and message[0] in ("HparamsInvalid", "TrialStopped", "StorageFailed"):
            return message
    error = server.lost if server.error is None else server.error[1].partition("\n")[0]
    cause = [] if server.error is None else server.error[2:]
    if server.gave_up:
        if error is not None:
            return ["AttemptFailed", error + tail(log)]
    elif code != 0:
        why = summary(log, raised=server.outcome is None) if server.error is None else error
        exit_ = ": ".join(filter(None, (describe_exit(_unshelled(code), "the command"), why)))
        return ["AttemptFailed", exit_ + tail(log), *cause]
    if error is not None:
        return ["AttemptFailed", error + tail(log), *cause]
    if server.outcome is not None and server.outcome[0] == RETURNED:
        for each in server.outcome[2]:
            channel.send(*each)
        return list(server.outcome[1])
    if server.outcome is not None:
        return server.outcome
    if job.open_ended:
        return message_of(Returned())
    if job.max_length == 1 and not job.halving:
        # Files of Determined write max_length: 1 if a trial is one run of a program, which need not report anything.
        warning = without_result(job)
        channel.send("warning", warning)
        channel.send("report", job.target, {job.metric: nan})
        return message_of(Ended(job.target))
    return [
        "AttemptFailed",
        "the command ended without a report: its program must call ashwood.get_trial() and report "
        f"{job.metric!r}" + tail(log),
    ]


def _environment(job: WorkerJob, socket: str) -> dict[str, str]:
    # ``python`` in a command is the one that runs Ashwood, even if its virtual environment is not active.
    path = filter(None, (str(Path(sys.executable).parent), os.environ.get("PATH")))
    # Ashwood may itself run under a launcher. On several machines RANK is what Ashwood set for this one.
    foreign = RANKS if job.world_size == 1 else set(RANKS) - {"RANK"}
    return {name: value for name, value in os.environ.items() if name not in foreign} | {
        "PATH": os.pathsep.join(path),
        VARIABLE: socket,
        "ASHWOOD_HPARAMS": json.dumps(job.hparams),
        "ASHWOOD_SEED": str(job.seed),
    }


def _unshelled(code: int) -> int:
    """Return the exit code of a command, given the exit code of its shell: 128 + n after signal n."""
    return 128 - code if 128 < code <= 128 + signal.NSIG else code


def _read(outcome: IO[bytes]) -> Message | None:
    data = os.pread(outcome.fileno(), os.fstat(outcome.fileno()).st_size, 0)
    message: Message | None = json.loads(data) if data else None
    return message


def _announce(channel: Channel) -> None:
    """Report this process, a process group leader, to the driver, and exit if the driver is gone.

    The child calls this before it does anything else.  If the worker called it, the worker could be killed between the
    fork and the report.  Then the driver would not know of a process group that still runs.
    """
    channel.send("group", os.getpid())
    if channel.gone:
        os._exit(1)


def _await_group(leader: int) -> int:
    """Wait for a child to end, kill the rest of its process group, and return its exit code."""
    if hasattr(os, "waitid"):
        # WNOWAIT leaves the child a zombie, so its number, which is also the group's, cannot be reused before the group
        # is killed.
        os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
        reaper.signal_group(leader)
        return os.waitstatus_to_exitcode(os.waitpid(leader, 0)[1])
    code = os.waitstatus_to_exitcode(os.waitpid(leader, 0)[1])
    reaper.signal_group(leader)
    return code
