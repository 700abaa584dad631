"""The integration of Keras 3, under the name that users import."""

from ashwood.integrations.keras import *  # noqa: F403
