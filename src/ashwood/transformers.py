"""The integration of Transformers, under the name that users import."""

from ashwood.integrations.transformers import *  # noqa: F403
