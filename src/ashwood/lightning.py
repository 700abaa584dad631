"""The integration of Lightning, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.lightning

if TYPE_CHECKING:
    from ashwood.integrations.lightning import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.lightning  # one module under both names
