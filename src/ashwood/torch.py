"""The integration of PyTorch, under the name that users import."""

from ashwood.integrations.torch import *  # noqa: F403
