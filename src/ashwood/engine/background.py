"""Calls that may wait for another machine run in threads, so that the driver's thread can renew its lease."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

_T = TypeVar("_T")

_BEAT_SECONDS = 0.5


def in_background(call: Callable[[], _T]) -> Future[_T]:
    """Start a call in a thread and return its future.

    The process does not wait for the thread when it exits, so a call that never returns does no harm.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again when the result is read
            future.set_exception(error)

    Thread(target=run, name="ashwood-background", daemon=True).start()
    return future


def while_beating(call: Callable[[], _T], beat: Callable[[], None]) -> _T:
    """Return the result of a call, and call ``beat`` twice a second until there is one."""
    future = in_background(call)
    while not wait([future], _BEAT_SECONDS).done:
        beat()
    return future.result()
