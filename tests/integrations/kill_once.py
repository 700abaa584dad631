"""Runs a script of training code, but kills its process once, right after a resumed trial has reported its metric.

Usage: kill_once.py MARKER SCRIPT [ARGUMENT...]
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from ashwood.trial.attempt import Attempt

marker, script = Path(sys.argv[1]), sys.argv[2]
sys.argv = sys.argv[2:]
report = Attempt.report


def report_and_kill(attempt: Attempt, metrics: dict[str, float], *arguments: Any) -> None:
    report(attempt, metrics, *arguments)
    if attempt.job.attempt > 1 and attempt.job.metric in metrics and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


Attempt.report = report_and_kill  # type: ignore[assignment, method-assign]
runpy.run_path(script, run_name="__main__")
