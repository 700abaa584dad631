"""The integration of scikit-learn, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.sklearn

if TYPE_CHECKING:
    from ashwood.integrations.sklearn import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.sklearn  # one module under both names
