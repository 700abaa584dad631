"""The integration of CatBoost, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.catboost

if TYPE_CHECKING:
    from ashwood.integrations.catboost import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.catboost  # one module under both names
