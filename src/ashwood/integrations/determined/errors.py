"""Exceptions of Determined's training API."""

from __future__ import annotations


class InvalidHP(Exception):
    """The hyperparameters of this trial are invalid; the search replaces the trial by another one.

    Args:
        msg: why.
    """

    def __init__(self, msg: str = "...no reason provided...") -> None:
        super().__init__(msg)
