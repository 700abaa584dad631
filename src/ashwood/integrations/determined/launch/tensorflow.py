"""Starts a script in one process for all slots of the trial: ``python -m determined.launch.tensorflow SCRIPT``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ashwood.integrations.determined.launch import torch_distributed


def main(args: list[str]) -> NoReturn:
    """Replace this process by the script.

    Raises:
        SystemExit: there is no command.
    """
    _, script = torch_distributed.parse_args(args)
    script = torch_distributed.runnable(script)
    os.execvp(script[0], script)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
