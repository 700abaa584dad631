"""What training code imports: the trial it works on, its loops, its reports, its checkpoints.

This room runs inside the worker, next to the user's own libraries.  It imports the
standard library and `ashwood.errors` alone, so that workers start fast.
"""

from __future__ import annotations

from ashwood.trial.api import Trial
from ashwood.trial.current import get_trial

__all__ = ["Trial", "get_trial"]
