"""The integration of Transformers, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.transformers

if TYPE_CHECKING:
    from ashwood.integrations.transformers import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.transformers  # one module under both names
