"""Starts a trial without Horovod: ``python -m determined.launch.horovod [OPTIONS --] (--trial CLASS | SCRIPT)``.

A trial with one slot needs no Horovod.  For a `PyTorchTrial` with several slots, ``torchrun`` starts the processes,
which average gradients in the same way.  Options of ``horovodrun`` have no effect.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ashwood.integrations.determined.info import slots_of_trial
from ashwood.integrations.determined.launch import torch_distributed


def main(args: list[str]) -> NoReturn:
    """Replace this process by the script, or by the launcher of a trial class.

    Raises:
        SystemExit: there is no command, or a script with several slots needs Horovod.
    """
    _, script = torch_distributed.parse_args(args[1:] if args[:1] == ["--autohorovod"] else args)
    is_class = "determined.exec.harness" in script
    if (slots := slots_of_trial()) > 1:
        if not is_class:
            raise SystemExit(
                f"determined.launch.horovod cannot start a script in {slots} processes, because Ashwood does not use "
                f"Horovod: write entrypoint: horovodrun -np {slots} python3 train.py, or use "
                "determined.launch.torch_distributed"
            )
        torch_distributed.main([], script)
    script = torch_distributed.runnable(script)
    os.execvp(script[0], script)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
