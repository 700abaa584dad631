"""What a process's exit says, for people."""

from __future__ import annotations

import signal

_HINTS = {
    signal.SIGKILL: "perhaps out of memory",
    signal.SIGSEGV: "a segmentation fault in native code",
    signal.SIGABRT: "native code gave up",
    signal.SIGBUS: "a bus error in native code, or shared memory is full",
    signal.SIGILL: "native code that this CPU can't run",
    signal.SIGFPE: "an arithmetic error in native code",
}


def describe_exit(code: int, process: str) -> str:
    """One line about an exit code; negative numbers are signals, as in `subprocess.Popen.returncode`."""
    if code >= 0:
        return f"{process} ended with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"{process} was killed by signal {-code}"
    hint = f": {_HINTS[number]}" if number in _HINTS else ""
    return f"{process} was killed by {number.name}{hint}"
