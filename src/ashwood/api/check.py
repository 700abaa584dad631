"""Checking training code from a script or a unit test."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ashwood.api.callables import (
    arguments,
    check_signature,
    entrypoint_of,
    name_of,
    refuse_while_imported,
    share_main,
    workdir_of,
)
from ashwood.config import build_experiment
from ashwood.engine.check import CheckResult
from ashwood.engine.check import check as check_spec

_DEFAULT_LENGTH = 4


def check(
    train: Callable[..., Any] | str,
    *,
    hparams: Mapping[str, Any],
    length: int | Mapping[str, int] = _DEFAULT_LENGTH,
    metric: str | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    share: bool = False,
    **fields: Any,
) -> CheckResult:
    """Train one trial with and without pauses, and tell whether it reports the same.

    The trial trains straight through, with a pause and a fresh process after each of up to four stretches, and straight
    through with another seed.  In a unit test::

        def test_training_restores_all_of_its_state():
            result = ashwood.check(train, hparams={"lr": 0.1}, length={"epochs": 4})
            assert result.ok, result

    Args:
        train: the training code: a callable that takes a `Trial`, or what ``entrypoint`` takes in a file.
        hparams: hyperparameters; of ranges, a value is drawn.
        length: total length to train to, as ``max_length`` in a file.
        metric: the metric that the search would compare; by default, any.
        data: handed to the training code as ``trial.data``.
        seed: fixes the trial's seed, and what is drawn.
        share: use a GPU also if another run has reserved it; otherwise wait for a free one.
        fields: other fields of an experiment file, such as ``records_per_epoch=1000``.

    Returns:
        The verdict, all metrics, and hints at what is not restored.  A trial that fails has the verdict ``FAILED``.

    Raises:
        ConfigError: the description is wrong; says everything that is.
        TrainingCodeError: the training code cannot be sent to workers, or takes no trial.
        AshwoodError: no hyperparameters were found that the training code accepts.
    """
    refuse_while_imported("checks its training code", "check")
    share_main()
    if not isinstance(train, str):
        check_signature(train)
    with tempfile.TemporaryDirectory(prefix="ashwood-functions-") as functions:
        tree: dict[str, Any] = {
            "name": train if isinstance(train, str) else name_of(train),
            "entrypoint": train if isinstance(train, str) else entrypoint_of(train, Path(functions), []),
            "hyperparameters": hparams,
            "searcher": {"name": "random", "metric": metric or "any", "max_length": length, "max_trials": 1},
            **({} if data is None else {"data": data}),
            "reproducibility": {"experiment_seed": seed},
            **fields,
        }
        spec = build_experiment(tree, workdir=workdir_of(train), default_seed=seed).spec
        spec = replace(spec, metric=metric or "", arguments=arguments())
        return check_spec(spec, length=spec.search.max_length, share=share, warn=partial(warnings.warn, stacklevel=2))
