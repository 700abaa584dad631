"""Checks training code from a script or a unit test."""

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


def check(
    train: Callable[..., Any] | str,
    *,
    hparams: Mapping[str, Any],
    length: int | Mapping[str, int] = 4,
    metric: str | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    share: bool = False,
    **fields: Any,
) -> CheckResult:
    """Check that training code restores all of its state from checkpoints.

    One trial is trained three times: without pauses, with up to three pauses after each of which a new process
    resumes from a checkpoint, and without pauses but with another seed.  The check compares the reported metrics.
    In a unit test::

        def test_training_restores_all_of_its_state():
            result = ashwood.check(train, hparams={"lr": 0.1}, length={"epochs": 4})
            assert result.ok, result

    Args:
        train: the training code: a callable that takes a `Trial`, or a string as for ``entrypoint`` in a file.
        hparams: hyperparameters; for a range, a value is drawn.
        length: total length to train to, as ``max_length`` in a file.
        metric: name of the metric that a search would compare; by default, any metric counts.
        data: value of ``trial.data`` in the training code.
        seed: seed for the hyperparameters that are drawn and for the trial.
        share: whether to use a GPU that another driver has reserved; by default, wait for a free one.
        fields: other fields of an experiment file, such as ``records_per_epoch=1000``.

    Returns:
        The verdict, all metrics, and hints about state that is not restored.  If the trial fails, the verdict is
        ``FAILED``.

    Raises:
        ConfigError: the description is invalid; the message lists all problems.
        TrainingCodeError: the training code cannot be loaded by worker processes, or does not take a trial.
        AshwoodError: the training code declared all drawn hyperparameters invalid.
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
