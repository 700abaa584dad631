"""Types of the path parameters: numbers only, so that no request can name a file."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path

LARGEST = 2**53
"""Largest number that is accepted; larger integers are not exact in JavaScript."""

ExperimentNumber: TypeAlias = Annotated[int, Path(ge=1, le=LARGEST, description="The experiment's number.")]
TrialNumber: TypeAlias = Annotated[int, Path(ge=0, le=LARGEST, description="The trial's number.")]
