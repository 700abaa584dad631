"""The classes of ``determined.keras`` on Keras 3: `TFKerasTrial` and `DeterminedCallback`."""

from __future__ import annotations

from ashwood.integrations.common import require

require("keras", "keras")
require("numpy", "keras")

from ashwood.integrations.determined.keras import callbacks  # noqa: E402
from ashwood.integrations.determined.keras._callback import DeterminedCallback  # noqa: E402
from ashwood.integrations.determined.keras._context import TFKerasTrialContext  # noqa: E402
from ashwood.integrations.determined.keras._data import SequenceAdapter  # noqa: E402
from ashwood.integrations.determined.keras._trial import TFKerasTrial  # noqa: E402

__all__ = ["DeterminedCallback", "SequenceAdapter", "TFKerasTrial", "TFKerasTrialContext", "callbacks"]
