"""The integration of scikit-learn, under the name that users import."""

from ashwood.integrations.sklearn import *  # noqa: F403
