"""The integration of XGBoost, under the name that users import."""

from ashwood.integrations.xgboost import *  # noqa: F403
