"""Access control in front of the dashboard: which requests are allowed, how large and how often.

Start reading at `checks.py`, which decides; `middleware.py` carries the decisions out.
"""

from ashwood.dashboard.guard.hosts import bare, is_everywhere
from ashwood.dashboard.guard.middleware import Guard
from ashwood.dashboard.guard.responses import error_body
from ashwood.dashboard.guard.rules import GuardRules, rules_for

__all__ = ["Guard", "GuardRules", "bare", "error_body", "is_everywhere", "rules_for"]
