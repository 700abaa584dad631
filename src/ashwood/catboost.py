"""The integration of CatBoost, under the name that users import."""

from ashwood.integrations.catboost import *  # noqa: F403
