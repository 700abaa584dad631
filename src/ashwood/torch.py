"""The integration of PyTorch, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.torch

if TYPE_CHECKING:
    from ashwood.integrations.torch import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.torch  # one module under both names
