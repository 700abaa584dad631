"""What stands in the paths of requests: numbers, and nothing that could be a file's name."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path

LARGEST = 2**53
"""Beyond that, JavaScript's numbers aren't exact."""

ExperimentNumber: TypeAlias = Annotated[int, Path(ge=1, le=LARGEST, description="The experiment's number.")]
TrialNumber: TypeAlias = Annotated[int, Path(ge=0, le=LARGEST, description="The trial's number.")]
