"""The integration of Keras 3, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.keras

if TYPE_CHECKING:
    from ashwood.integrations.keras import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.keras  # one module under both names
