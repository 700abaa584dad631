"""The directory of a trial on one machine, for temporary files and artifacts.

The directories of an experiment's trials are ``trials/TRIAL-DIGEST``.  The digest is that of the trial's
hyperparameters and seed.  It is needed because, after a backup is restored, the search can draw a trial with the same
number but other values, which must not find the files of the earlier trial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ashwood.checkpoints.manifest import digest_of_draw

VARIABLE = "ASHWOOD_TRIAL_DIRECTORY"
"""Environment variable with the path of the trial's directory."""
FOLDER = "trials"
"""Name of the folder in an experiment's directory that contains the directories of its trials."""

_NAME = re.compile(r"([0-9]{1,18})-[0-9a-f]{8}")


def directory_name(trial: int, hparams: Mapping[str, Any], seed: int) -> str:
    """Return the name of a trial's directory."""
    return f"{trial}-{digest_of_draw(hparams, seed)[:8]}"


def trial_of_directory(name: str) -> int | None:
    """Return the number of the trial whose directory has this name, or None if it is not the name of one."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1])
