"""Describe exit codes of processes for users."""

from __future__ import annotations

import signal

_HINTS = {
    signal.SIGKILL: "perhaps out of memory",
    signal.SIGSEGV: "a segmentation fault in native code",
    signal.SIGABRT: "native code called abort()",
    signal.SIGBUS: "a bus error in native code, or shared memory is full",
    signal.SIGILL: "native code with an instruction that this CPU does not have",
    signal.SIGFPE: "an arithmetic error in native code",
}


def describe_exit(code: int, process: str) -> str:
    """Return a line about an exit code.  A negative code is a signal, as in `subprocess.Popen.returncode`."""
    if code >= 0:
        return f"{process} ended with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"{process} was killed by signal {-code}"
    hint = f": {_HINTS[number]}" if number in _HINTS else ""
    return f"{process} was killed by {number.name}{hint}"
