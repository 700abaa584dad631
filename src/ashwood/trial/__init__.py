"""The trial API for training code: hyperparameters, loops, reports and checkpoints.

This package runs inside the worker, beside the user's own libraries.  It imports only the standard library,
`ashwood.checkpoints` and `ashwood.errors`, so that workers start fast.
"""

from __future__ import annotations

from ashwood.trial.api import Trial
from ashwood.trial.current import get_trial

__all__ = ["Trial", "get_trial"]
