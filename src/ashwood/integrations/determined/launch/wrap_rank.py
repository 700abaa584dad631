"""Puts ``[rank=N]`` before each line that a process prints: ``python -m determined.launch.wrap_rank RANK -- COMMAND``.

``RANK`` is a number, or the names of environment variables, separated by commas, of which the first that is set counts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import IO, Any

_USAGE = "usage: python3 -m determined.launch.wrap_rank [--no-redirect-stdio] RANK [--] COMMAND..."


def main(args: list[str]) -> int:
    """Run a command, and return its exit code.

    Raises:
        SystemExit: the rank or the command is missing.
    """
    args = [arg for place, arg in enumerate(args) if place > 0 or arg != "--no-redirect-stdio"]
    if len(args) < 2:
        raise SystemExit(_USAGE)
    rank, command = args[0], args[2:] if args[1] == "--" else args[1:]
    if not rank.isdecimal():
        found = [os.environ[name] for name in rank.split(",") if name in os.environ]
        if not found:
            raise SystemExit(f"rank environment variable is set to {rank}, but it is not in os.environ")
        rank = found[0]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603

    def forward(number: int, _frame: Any) -> None:
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    threads = [
        threading.Thread(target=_prefix, args=(source, target, f"[rank={rank}] ".encode()))
        for source, target in ((process.stdout, 1), (process.stderr, 2))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _prefix(source: IO[bytes], target: int, prefix: bytes) -> None:
    for line in source:
        # Progress bars end lines with a carriage return.
        for part in line.replace(b"\r\n", b"\n").replace(b"\r", b"\n").splitlines():
            os.write(target, prefix + part + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
