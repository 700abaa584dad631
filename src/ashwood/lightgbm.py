"""The integration of LightGBM, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.lightgbm

if TYPE_CHECKING:
    from ashwood.integrations.lightgbm import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.lightgbm  # one module under both names
