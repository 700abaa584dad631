"""What stands before the dashboard: who may ask what, how much and how often.

Start reading at `verdicts.py`; `middleware.py` does what it says.
"""

from ashwood.dashboard.guard.answers import error_body
from ashwood.dashboard.guard.hosts import bare, is_everywhere
from ashwood.dashboard.guard.middleware import Guard
from ashwood.dashboard.guard.rules import GuardRules, rules_for

__all__ = ["Guard", "GuardRules", "bare", "error_body", "is_everywhere", "rules_for"]
