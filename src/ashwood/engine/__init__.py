"""The loop that owns a running experiment: decide, commit, act."""

from ashwood.engine.loop import Engine
from ashwood.engine.session import Session
from ashwood.eventlog.home import Home, open_home

__all__ = ["Engine", "Home", "Session", "open_home"]
