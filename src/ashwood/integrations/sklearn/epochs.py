"""Epochs of scikit-learn's ``partial_fit``, for the training functions of users and for `AshwoodSearchCV`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn import base

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_unit
from ashwood.trial import Trial

_FILE = "estimator.pkl"


def partial_fit(
    trial: Trial,
    make: Callable[..., Any],
    X: Any,  # noqa: N803 - scikit-learn's name
    y: Any,
    valid: Any,
    *,
    batch_size: int | None = None,
    classes: Any = None,
    scoring: str | Iterable[str] | Mapping[str, Any] | None = None,
    **fit_params: Any,
) -> Any:
    """Train an estimator by ``partial_fit``, and return it.

    An epoch is one pass over the shuffled samples.  After each, the trial reports the scores on ``valid``.  Example::

        def train(trial):
            X, X_valid, y, y_valid = train_test_split(*load_digits(return_X_y=True), random_state=0)
            ashwood.sklearn.partial_fit(trial, MLPClassifier, X, y, (X_valid, y_valid))

    Args:
        trial: the trial; its experiment counts epochs or steps, which are epochs then.
        make: class of the estimator, or another callable that returns one; called with the hyperparameters.  If the
            estimator has a ``random_state`` that is None, it gets the seed of the trial.
        X: training samples.
        y: their targets, or None.
        valid: samples and targets of the validation, ``(X_valid, y_valid)``.
        batch_size: number of samples for each call of ``partial_fit``; by default, all samples of the epoch.
        classes: all classes of a classifier; by default, those in ``y``.
        scoring: names of scikit-learn's scorers, or a dict of names and scorers.  By default, the trial reports
            ``score``, which is the estimator's own, and ``log_loss`` if the estimator has ``predict_proba``.
        **fit_params: arguments of ``partial_fit``; those with an element for each sample are divided into batches.

    Raises:
        TrainingCodeError: there is no validation data, the estimator has no ``partial_fit``, or the experiment counts
            neither epochs nor steps.
    """
    check_unit(trial, "scikit-learn", "epochs", "steps")
    if not isinstance(valid, tuple | list) or len(valid) != 2 or valid[0] is None:
        raise TrainingCodeError("valid must be (X_valid, y_valid): without validation data there is nothing to compare")
    if trial.checkpoint:
        estimator = pickle.loads((trial.checkpoint / _FILE).read_bytes())  # noqa: S301 - written by `save`
    else:
        estimator = make(**trial.hparams)
        if not hasattr(estimator, "partial_fit"):
            raise TrainingCodeError(f"{estimator!r} has no partial_fit, so it cannot be trained by epochs")
        if estimator.get_params().get("random_state", 0) is None:
            estimator.set_params(random_state=trial.seed % 2**32)
    if classes is None:
        classes = classes_of(estimator, y)
    scorers = _scorers(estimator, scoring, classes)
    for epoch in trial.epochs() if trial.unit == "epochs" else trial.steps():
        settings = {"epochs": [epoch], "seed": trial.seed, "batch_size": batch_size, "classes": classes}
        run_epochs(estimator, X, y, **settings, **fit_params)
        training = {"loss": loss} if isinstance(loss := getattr(estimator, "loss_", None), float) else {}
        scores = {name: scorer(estimator, *valid) for name, scorer in scorers.items()}
        trial.report(scores, training=training, checkpoint=lambda d: (d / _FILE).write_bytes(pickle.dumps(estimator)))
    return estimator


def _scorers(estimator: Any, scoring: Any, classes: Any) -> dict[str, Callable[..., Any]]:
    from sklearn.metrics import get_scorer, log_loss

    if isinstance(scoring, Mapping):
        return {name: get_scorer(scorer) for name, scorer in scoring.items()}
    if scoring is not None:
        return {name: get_scorer(name) for name in ([scoring] if isinstance(scoring, str) else scoring)}
    scorers = {"score": lambda estimator, x, y: estimator.score(x, y)}
    if base.is_classifier(estimator) and hasattr(estimator, "predict_proba"):
        scorers["log_loss"] = lambda estimator, x, y: log_loss(y, estimator.predict_proba(x), labels=classes)
    return scorers


def classes_of(estimator: Any, y: Any) -> Any:
    """Return the sorted classes of targets, or None if the estimator is not a classifier."""
    return np.unique(y) if base.is_classifier(estimator) else None


def run_epochs(
    estimator: Any,
    x: Any,
    y: Any = None,
    *,
    epochs: Iterable[int],
    seed: int,
    classes: Any,
    batch_size: int | None = None,
    **fit_params: Any,
) -> None:
    """Train for epochs.  The order of the samples depends on the seed and the number of the epoch alone."""
    from sklearn.utils import _safe_indexing, gen_batches

    count = x.shape[0] if hasattr(x, "shape") else len(x)
    common = {} if classes is None else {"classes": classes}
    columns = {name: value for name, value in fit_params.items() if np.ndim(value) and len(value) == count}
    common |= {name: value for name, value in fit_params.items() if name not in columns}
    columns |= {} if y is None else {"y": y}
    for epoch in epochs:
        with seeded(seed, epoch):
            order = np.random.permutation(count)
            for batch in gen_batches(count, batch_size or count):
                parts = {name: _safe_indexing(value, order[batch]) for name, value in columns.items()}
                estimator.partial_fit(_safe_indexing(x, order[batch]), **parts, **common)


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Seed NumPy's global random numbers, which estimators with ``random_state=None`` use, and restore them."""
    state = np.random.get_state()
    np.random.seed([number % 2**32 for number in seed])
    try:
        yield
    finally:
        np.random.set_state(state)
