"""The command line as a job of a Ray cluster: ``python -m ashwood.cli.job``."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from ashwood.cli import frames
from ashwood.cli.main import main as ashwood


def main() -> None:
    """Run the command line in the user's home directory, so that the default home is ``~/.ashwood``."""
    arguments = sys.argv[1:]
    if arguments[0] == "run":
        arguments[1] = os.path.abspath(arguments[1])  # noqa: PTH100 Path.resolve would follow links
    os.chdir(Path.home())
    os.environ.pop("ASHWOOD_ON", None)  # The command already runs on the cluster.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    frames.begin()
    sys.argv = ["ashwood", *arguments]
    ashwood()


if __name__ == "__main__":
    main()
