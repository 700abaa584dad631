"""Resources of `AshwoodSearchCV`, and the searcher that assigns them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

UNITS = {"n_samples": "records", "epochs": "epochs"}
"""Unit of the lengths of each resource that is not a parameter of the estimator."""

SCORE = "mean_test_score"
"""Metric that the search compares: the mean over splits of the score that selects the best candidate."""

_DIVISOR, _AUTO_DIVISOR = 4, 2.5


def resources_of(
    estimator: Any, resource: str, least: int | str, most: int | str, smallest: int, samples: int
) -> tuple[int, int]:
    """Return the least and the largest amount of a resource.

    Args:
        estimator: the estimator.
        resource: ``n_samples``, ``epochs`` or a parameter of the estimator.
        least: ``min_resources`` of the search.
        most: ``max_resources`` of the search.
        smallest: least number of samples that is useful.
        samples: number of samples.

    Raises:
        ValueError: the estimator cannot be trained with different amounts of the resource, or the amounts are wrong.
    """
    if resource == "epochs" and not hasattr(estimator, "partial_fit"):
        raise ValueError(f"resource='epochs' needs an estimator with partial_fit, but {estimator!r} has none")
    if resource not in (*UNITS, *estimator.get_params()):
        raise ValueError(f"resource is {resource!r}, but must be 'n_samples', 'epochs' or a parameter of {estimator!r}")
    if most == "auto" and resource != "n_samples":
        raise ValueError(f"max_resources='auto' needs resource='n_samples': set the largest number of {resource}")
    highest = samples if isinstance(most, str) else most
    lowest = least if not isinstance(least, str) else min(smallest, highest) if resource == "n_samples" else 1
    if resource == "n_samples" and highest > samples:
        raise ValueError(f"max_resources is {highest}, but there are {samples} samples")
    if lowest > highest:
        raise ValueError(f"min_resources is {lowest}, but max_resources is {highest}: it must be at most that")
    return lowest, highest


def searcher_section(searcher: Any, unit: str, least: int, longest: int) -> dict[str, Any]:
    """Return the ``searcher`` section of the experiment.

    Args:
        searcher: a searcher of Ashwood, or its section without what the other arguments determine.
        unit: unit of lengths: ``records``, ``epochs`` or ``steps``.
        least: least length of a rung.
        longest: length of the last rung.
    """
    section: dict[str, Any] = {**(searcher if isinstance(searcher, Mapping) else searcher.to_config())}
    section |= {
        "metric": SCORE,
        "smaller_is_better": False,
        "max_length": {unit: longest} if unit != "steps" else longest,
    }
    divisor = section.get("divisor") or (_AUTO_DIVISOR if section.get("mode") == "auto" else _DIVISOR)
    # The small number corrects the rounding of the logarithm if the quotient is a power of the divisor.
    by_length, by_trials = (
        1 + math.floor(math.log(most, divisor) + 1e-9) for most in (longest / least, section.get("max_trials", 1))
    )
    if section["name"] == "adaptive_asha" and not section.get("bracket_rungs"):
        section.setdefault("max_rungs", by_length)
    elif section["name"] in ("async_halving", "sync_halving"):
        section.setdefault("num_rungs", min(by_length, by_trials))
    return section


def warm_start_of(estimator: Any, resource: str) -> str | None:
    """Return the name of the parameter that lets an estimator continue with more of a resource, or None.

    With other resources, such as ``max_iter`` of a linear model, an estimator with ``warm_start`` would train for that
    many *more* iterations.  So it starts over instead.
    """
    owner, _, last = resource.rpartition("__")
    params = estimator.get_params()
    kind = type(params[owner] if owner else estimator).__name__
    name = f"{owner}__warm_start" if owner else "warm_start"
    return name if name in params and (last == "n_estimators" or kind.startswith("HistGradientBoosting")) else None
