"""Training code for tests of backends, whose behaviour and errors are set by hyperparameters."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ashwood.errors import StorageUnreachable
from ashwood.trial import Trial, get_trial


def train(trial: Trial) -> None:
    """Report a ``loss`` of 1 / length after each epoch, with the behaviour that the hyperparameters select.

    ``{"save": False}`` saves no checkpoints.  ``{"do": NAME, "at": EPOCH}`` calls the entry NAME of
    `MISDEEDS` before the report of an epoch.  ``{"seconds": S}`` sets the duration of each epoch.  The module is
    also a command: ``python -m ashwood.testing.training``.
    """
    hparams = trial.hparams
    for epoch in trial.epochs():
        time.sleep(hparams.get("seconds", 0))
        if hparams.get("do") and epoch == hparams.get("at", 0):
            MISDEEDS[hparams.do](trial)
        if hparams.get("save", True):
            trial.report(loss=1 / (epoch + 1), checkpoint=_saver(epoch + 1))
        else:
            trial.report(loss=1 / (epoch + 1))


def _saver(length: int) -> Callable[[Path], object]:
    return lambda directory: (directory / "length").write_text(str(length))


def _raise(_trial: Trial) -> None:
    raise ValueError("the training code raised this")


def _fork(trial: Trial) -> None:
    """Start a child that ignores SIGTERM, and write its process id to the file ``hparams["pid_file"]``."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
    Path(trial.hparams.pid_file).write_text(str(child))


def _tell(trial: Trial) -> None:
    """Write the id of this process to the file ``hparams["pid_file"]``, then wait for a file ``hparams["until"]``."""
    Path(trial.hparams.pid_file).write_text(str(os.getpid()))
    while trial.hparams.get("until") and not Path(trial.hparams.until).exists():
        time.sleep(0.01)


def _hang(trial: Trial) -> None:
    """Write the id of this process to the file ``hparams["pid_file"]``, then hang in C with Python's lock held."""
    Path(trial.hparams.pid_file).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(3600)


def _swallow(trial: Trial) -> None:
    """Write the id of this process to the file ``hparams["pid_file"]``, then catch all exceptions for ever."""
    Path(trial.hparams.pid_file).write_text(str(os.getpid()))
    while True:
        try:
            time.sleep(0.05)  # Without this pause, the driver would get too many reports.
            trial.report(loss=0.0)
            trial.stop()
        except BaseException:  # noqa: BLE001, S110
            pass


def _lack_space(_trial: Trial) -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise RuntimeError("the library can't write its file") from error


def _lose_storage(_trial: Trial) -> None:
    try:
        raise StorageUnreachable("can't upload s3://bucket/x: the token has expired")
    except StorageUnreachable as error:
        raise RuntimeError("the library can't save") from error


MISDEEDS: dict[str, Callable[[Trial], Any]] = {
    "raise": _raise,
    "sys_exit": lambda _: sys.exit(3),
    "os_exit": lambda _: os._exit(3),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "invalid": lambda trial: trial.invalid_hparams("they make no sense"),
    "stop": lambda trial: trial.stop(),
    "return": lambda _: None,
    "fork": _fork,
    "tell": _tell,
    "hang": _hang,
    "swallow": _swallow,
    "lack_space": _lack_space,
    "lose_storage": _lose_storage,
}
"""Ways in which training code can fail or misbehave, by name."""

if __name__ == "__main__":
    train(get_trial())
