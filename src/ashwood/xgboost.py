"""The integration of XGBoost, under the name that users import."""

import sys
from typing import TYPE_CHECKING

import ashwood.integrations.xgboost

if TYPE_CHECKING:
    from ashwood.integrations.xgboost import *  # noqa: F403

sys.modules[__name__] = ashwood.integrations.xgboost  # one module under both names
