"""Starts one process for each slot of the trial: ``python -m determined.launch.torch_distributed [OPTIONS --] SCRIPT``.

``OPTIONS`` are those of ``torchrun``.  ``SCRIPT`` is a command with its arguments, such as ``python3 train.py``, or the
path of a Python file.  Signals reach the processes, and the exit code is that of ``torchrun``.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from ashwood.integrations.determined.info import ClusterInfo, get_cluster_info


def create_launch_cmd(info: ClusterInfo, overrides: list[str], script: list[str]) -> list[str]:
    """Return the command that starts the processes of a trial."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(len(info.slot_ids)),
        "--max_restarts",
        "0",
        *overrides,
        "--no_python",
        *runnable(script),
    ]


def runnable(script: list[str]) -> list[str]:
    """Return a command: a Python file is run by the Python of this process, and any other program as it is."""
    return [sys.executable, *script] if script[0].endswith(".py") and not os.access(script[0], os.X_OK) else script


def class_command(entrypoint: str) -> str:
    """Return the shell command that trains a trial class, such as ``model_def:MNistTrial``, in several processes."""
    return shlex.join([sys.executable, "-m", __name__, "--trial", entrypoint])


def parse_args(args: list[str]) -> tuple[list[str], list[str]]:
    """Return the options for ``torchrun``, or another launcher, and the command.

    Raises:
        SystemExit: there is no command.
    """
    name = Path(sys.argv[0]).stem
    usage = f"usage: python3 -m determined.launch.{name} [[OVERRIDES...] --] (--trial TRIAL)|(SCRIPT...)"
    overrides: list[str] = []
    if "--" in args:
        split = args.index("--")
        overrides, args = args[:split], args[split + 1 :]
    if args[:1] in (["-h"], ["--help"]):
        print(usage)
        raise SystemExit(0)
    name, _, joined = args[0].partition("=") if args else ("", "", "")
    if name == "--trial":
        trial = [joined] if joined else args[1:2]
        rest = args[1:] if joined else args[2:]
        if not trial or rest:
            raise SystemExit(f"{usage}\nerror: --trial takes one class, such as model_def:MyTrial: {args}")
        return overrides, [sys.executable, "-m", "determined.exec.harness", "--train-entrypoint", *trial]
    if not args:
        raise SystemExit(f"{usage}\nerror: empty script is not allowed")
    return overrides, args


def main(overrides: list[str], script: list[str]) -> NoReturn:
    """Replace this process by ``torchrun``.

    Raises:
        SystemExit: this process belongs to no trial, or PyTorch is not installed.
    """
    info = get_cluster_info()
    if info is None:
        raise SystemExit("determined.launch.torch_distributed starts the processes of a trial: run it in an experiment")
    if (machines := info._trial.world_size) > 1:
        raise SystemExit(
            f"this trial has slots on {machines} machines, but determined.launch.torch_distributed starts processes on "
            "one: set resources.slots_per_trial to the slots of one machine"
        )
    os.environ["USE_TORCH_DISTRIBUTED"] = "True"
    os.environ["DET_CHIEF_IP"] = info.container_addrs[0]
    command = create_launch_cmd(info, overrides, script)
    count = len(info.slot_ids)
    print(f"Starting {count} {'process' if count == 1 else 'processes'}: {' '.join(script)}", flush=True)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*parse_args(sys.argv[1:]))
