"""The integration of Lightning, under the name that users import."""

from ashwood.integrations.lightning import *  # noqa: F403
