"""The integration of LightGBM, under the name that users import."""

from ashwood.integrations.lightgbm import *  # noqa: F403
