"""The directory of a trial on one machine, for scratch files and artifacts.

The directories of all trials of an experiment lie in its folder ``trials``, each as ``TRIAL-DIGEST``.  The digest is of
the trial's hyperparameters and seed: after a backup is restored, the search can draw a trial with the same number but
other values, and it must not find the files of the former one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ashwood.trial.storage.manifest import digest_of_draw

VARIABLE = "ASHWOOD_TRIAL_DIRECTORY"
"""Environment variable with the path of the trial's directory."""
FOLDER = "trials"
"""Folder in an experiment's directory that holds the directories of its trials."""

_NAME = re.compile(r"([0-9]{1,18})-[0-9a-f]{8}")


def directory_name(trial: int, hparams: Mapping[str, Any], seed: int) -> str:
    """Return the name of a trial's directory."""
    return f"{trial}-{digest_of_draw(hparams, seed)[:8]}"


def trial_of_directory(name: str) -> int | None:
    """Return the number of the trial that a directory of this name belongs to, or None if it is no trial's."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1])
