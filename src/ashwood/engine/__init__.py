"""Runs experiments: decides about events, commits them to the event log, and acts."""

from ashwood.engine.loop import Engine
from ashwood.engine.session import Session
from ashwood.eventlog.home import Home, open_home

__all__ = ["Engine", "Home", "Session", "open_home"]
