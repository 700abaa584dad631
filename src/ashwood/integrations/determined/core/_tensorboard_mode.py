"""How TensorBoard files are treated."""

from __future__ import annotations

import enum


class TensorboardMode(enum.Enum):
    """How TensorBoard files are treated.  It is accepted, and has no effect: Ashwood stores no such files."""

    AUTO = "AUTO"
    MANUAL = "MANUAL"
