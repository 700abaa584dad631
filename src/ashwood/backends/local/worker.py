"""The worker process: it loads the training code once, then runs one job after the other in its slot.

It has a single thread, so that it can fork safely.  It imports little, so that the first job starts soon.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from ashwood.backends.local.load import IMPORT_PATH, code_file, command_of, load, put_first, put_last
from ashwood.backends.local.logs import OutputRedirect, flush, trial_log
from ashwood.backends.local.runners import InlineRunner, Runner, TrainingCode
from ashwood.backends.local.setup import Setup
from ashwood.checkpoints.directory import VARIABLE
from ashwood.checkpoints.sharing import make_shared
from ashwood.errors import TrainingCodeError
from ashwood.trial.channel import Channel
from ashwood.trial.job import WorkerJob
from ashwood.trial.run import describe

_OOM_SCORE = "500"
_ANEW = "ASHWOOD_IMPORT_ANEW"
"""Environment variable of a worker that must import the training code in each attempt's process, after the fork."""


def main() -> None:
    """Run a worker.

    Its setup is on standard input.  Its arguments are the descriptors of its socket and of the locks that it holds.
    """
    environment, own_setup = dict(os.environ), os.dup(0)
    setup = Setup(*json.loads(os.pread(0, os.fstat(0).st_size, 0)))
    wire, *locks = map(int, sys.argv[1:])
    # Forks of this process keep these descriptors.  Programs that training code starts do not get them: a program that
    # outlives its trial would hold the worker lock and the GPUs.
    for descriptor in (wire, *locks):
        os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=wire))
    _settle_in(setup)
    imports_anew = os.environ.pop(_ANEW, None) is not None
    output = OutputRedirect()
    if imports_anew:
        prepared: tuple[Runner, bool] | None = _forked(partial(load, setup.kind, setup.target, setup.workdir)), False
    else:
        prepared = _prepare(setup, channel, locks)
    if prepared is None:
        return
    runner, forks = prepared
    if forks and (done := _obstacle()):
        print(
            f"{setup.target} {done} when it is imported. Such a process cannot be forked, so each attempt imports the "
            "training code again. To save that time, do this in the training function only."
        )
        _begin_anew(environment, own_setup, (wire, *locks))
    # The loaded modules stay for ever, so the garbage collection after each attempt need not examine them.
    gc.freeze()
    channel.send("ready")
    while message := channel.receive():
        if message[0] == "job":
            channel.send(*_attempt(message[1], setup, runner, channel, output))


def _settle_in(setup: Setup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The driver handles Ctrl-C.
    faulthandler.enable()
    with contextlib.suppress(OSError):  # If memory runs out, the kernel should kill a worker rather than the driver.
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # Training code that reads arguments during its import gets those of the script that started the search.
    file = os.path.join(setup.workdir, code_file(setup.kind, setup.target))  # noqa: PTH118 - faster, in each worker
    sys.argv = list(setup.arguments) or [file]
    # This comes after the worker's own imports, because a file in the work directory may have the name of a module that
    # the worker needs.
    put_first(setup.workdir)
    put_last(IMPORT_PATH)


def _prepare(setup: Setup, channel: Channel, locks: Sequence[int]) -> tuple[Runner, bool] | None:
    """Return what runs attempts, and whether it forks this process; or None if the training code cannot be loaded."""
    command = setup.target if setup.kind == "command" else None
    if command is None:
        try:
            function = load(setup.kind, setup.target, setup.workdir)
            command = command_of(function, setup.kind, setup.target)
        except TrainingCodeError as error:
            channel.send("cannot_load", str(error))
            return None
        except BaseException as error:  # noqa: BLE001 - the training code may also call sys.exit() during its import
            hint = ""
            if isinstance(error, SystemExit) and not setup.arguments:
                hint = (
                    " (if it reads command-line arguments: workers import it without any, so read them under "
                    "'if __name__ == \"__main__\":')"
                )
            channel.send("cannot_load", f"the training code {setup.target} can't be imported{hint}: {describe(error)}")
            return None
    if command is not None:
        from ashwood.backends.local.children import CommandRunner  # It imports much that other workers do not need.

        return CommandRunner(command, setup.workdir, locks, setup.others), False
    if setup.process_per_attempt:
        return _forked(lambda: function), True
    return InlineRunner(function), False


def _obstacle() -> str | None:
    from ashwood.backends.local.forking import obstacle

    return obstacle()


def _begin_anew(environment: Mapping[str, str], setup: int, inherited: Sequence[int]) -> NoReturn:
    """Execute the worker program again in this process, which frees everything that the training code's import holds.

    An import can start threads and use a GPU, and neither can be undone otherwise.  The process keeps its number, its
    process group, its socket and its locks, so the driver need not know.
    """
    flush(sys.stdout, sys.stderr)
    os.dup2(setup, 0)
    kept = {0, 1, 2, *inherited}
    for descriptor in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # The descriptor of the listing itself is closed by now.
            os.set_inheritable(descriptor, descriptor in kept)
    os.execve(sys.executable, sys.orig_argv, {**environment, _ANEW: "1"})  # noqa: S606


def _forked(load_code: Callable[[], TrainingCode]) -> Runner:
    from ashwood.backends.local.children import ForkRunner  # It imports much that other workers do not need.

    return ForkRunner(load_code)


def _attempt(
    fields: dict[str, object], setup: Setup, runner: Runner, channel: Channel, output: OutputRedirect
) -> list[object]:
    job = WorkerJob(**setup.common, **fields)  # type: ignore[arg-type]
    log = trial_log(setup.logs, job.trial)
    begins = f", from length {job.length}" if job.length else ""
    whose = f"experiment {job.experiment}, " if job.experiment else ""
    ends = "" if job.open_ended else f", to length {job.target}"
    output.enter(log, f"{whose}trial {job.trial}, attempt {job.attempt}{begins}{ends}")
    former = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = job.trial_directory
    with contextlib.suppress(OSError):  # `Trial.directory` and commands try again and report the error.
        make_shared(Path(job.trial_directory))
    try:
        return runner(job, channel, log)
    finally:
        output.leave()
        gc.collect()
        os.chdir(setup.workdir)
        if job.world_size == 1:  # With several processes, another one may still write into it.
            with contextlib.suppress(OSError):  # A directory with files is kept.
                os.rmdir(job.trial_directory)  # noqa: PTH106 - as it is text
        if former is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = former
