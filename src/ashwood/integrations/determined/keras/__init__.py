"""The classes of ``determined.keras`` on Keras 3: `TFKerasTrial` and `DeterminedCallback`."""

from __future__ import annotations

from ashwood.integrations.common import require

require("keras", "keras")
require("numpy", "keras")

from ashwood.integrations.determined.keras import callbacks  # noqa: E402
from ashwood.integrations.determined.keras._callback import DeterminedCallback  # noqa: E402
from ashwood.integrations.determined.keras._context import (  # noqa: E402
    TFKerasExperimentalContext,
    TFKerasTrialContext,
)
from ashwood.integrations.determined.keras._data import InputData, SequenceAdapter  # noqa: E402
from ashwood.integrations.determined.keras._load import load_model_from_checkpoint_path  # noqa: E402
from ashwood.integrations.determined.keras._trial import TFKerasTrial  # noqa: E402
from ashwood.integrations.determined.keras.callbacks import TensorBoard  # noqa: E402

__all__ = [
    "DeterminedCallback",
    "InputData",
    "SequenceAdapter",
    "TFKerasExperimentalContext",
    "TFKerasTrial",
    "TFKerasTrialContext",
    "TensorBoard",
    "callbacks",
    "load_model_from_checkpoint_path",
]
