"""CatBoost: report each evaluation, stop, and continue from a checkpoint.

Callbacks of CatBoost cannot save the model.  So the callback ends ``fit`` if a checkpoint is due, CatBoost writes a
snapshot, and ``fit`` continues from it: with the same trees, because a snapshot has the states of all random numbers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_rounds, end_early, first_given, require
from ashwood.trial import Trial

require("catboost", "catboost")

_ROUNDS = ("iterations", "n_estimators", "num_boost_round", "num_trees")
_SEED = ("random_seed", "random_state")
_NEVER = 10**9
"""Seconds between the snapshots that CatBoost writes during ``fit``; it writes one at the end in any case."""


class _Callback:
    """Report each evaluation, and end ``fit`` if the trial must stop or a checkpoint is due.

    Attributes:
        length: rounds that the model has.
        evaluations: number of evaluations so far, by the name of the metric.
        ended: whether this callback ended ``fit``.
    """

    def __init__(self, trial: Trial, callbacks: Iterable[Any]) -> None:
        self.trial, self.callbacks = trial, list(callbacks)
        self.length, self.ended = trial.length, False
        self.evaluations: dict[str, int] = {}
        if trial.checkpoint:
            self.evaluations = json.loads((trial.checkpoint / "evaluations.json").read_text())

    def after_iteration(self, info: Any) -> bool:
        self.length = info.iteration
        goes_on = all(callback.after_iteration(info) for callback in self.callbacks)
        metrics = {}
        for data, log in info.metrics.items():
            for name, values in log.items():
                full = f"{data}-{name}"
                if len(values) > self.evaluations.get(full, 0):  # CatBoost evaluates each metric_period.
                    metrics[full], self.evaluations[full] = values[-1], len(values)
        if metrics:
            self.trial.report(metrics, length=self.length)
        self.ended = self.trial.should_stop or self.trial.save_due
        return goes_on and not self.ended


def fit(trial: Trial, model: Any, X: Any, y: Any = None, *, eval_set: Any, **kwargs: Any) -> Any:  # noqa: N803
    """Call ``model.fit``, report each evaluation under CatBoost's names, and return the model.

    The search sets the number of rounds::

        def train(trial: ashwood.Trial) -> None:
            model = catboost.CatBoostClassifier(**trial.hparams)
            ashwood.catboost.fit(trial, model, x, y, eval_set=(x_valid, y_valid))  # reports validation-Logloss

    Args:
        trial: the trial.
        model: a new model.  If it has no ``random_seed``, it gets ``trial.seed``; if it has no ``train_dir``, the
            directory of the trial; if it has no ``thread_count``, that of ``OMP_NUM_THREADS``.
        X: data for training, as for ``model.fit``.
        y: labels, unless ``X`` is a ``catboost.Pool``.
        eval_set: validation data.
        **kwargs: other arguments of ``model.fit``.  If ``use_best_model`` is not given, it is False.

    Raises:
        TrainingCodeError: the experiment counts another unit, a setting contradicts the search, there are no validation
            data, or the model trains on a GPU.
    """
    settings = {**model.get_params(), **kwargs}
    check_rounds(trial, "CatBoost", settings, _ROUNDS, start="init_model")
    if eval_set is None or (isinstance(eval_set, (list, tuple)) and not eval_set):
        raise TrainingCodeError("CatBoost evaluates nothing: pass eval_set=(x_valid, y_valid)")
    if settings.get("task_type") == "GPU":
        raise TrainingCodeError("CatBoost calls no callbacks on a GPU, so it cannot report: remove task_type='GPU'")
    directory = trial.directory
    defaults = {
        _ROUNDS: trial.max_length,
        _SEED: trial.seed,
        ("train_dir",): str(directory / "catboost_info"),
        ("thread_count",): int(os.environ.get("OMP_NUM_THREADS", "-1")),
    }
    missing = {names[0]: value for names, value in defaults.items() if first_given(settings, names, None) is None}
    model.set_params(**missing, allow_writing_files=True)
    snapshot = directory / "catboost.snapshot"
    snapshot.unlink(missing_ok=True)  # An attempt that was killed may have left one.
    if trial.checkpoint:
        shutil.copyfile(trial.checkpoint / "snapshot", snapshot)
    callback = _Callback(trial, kwargs.pop("callbacks", None) or ())

    def save(directory: Path) -> None:
        model.save_model(str(directory / "model.cbm"))
        shutil.copyfile(snapshot, directory / "snapshot")
        (directory / "evaluations.json").write_text(json.dumps(callback.evaluations))

    kwargs |= {"use_best_model": bool(settings.get("use_best_model")), "callbacks": [callback], "save_snapshot": True}
    kwargs |= {"snapshot_file": str(snapshot), "snapshot_interval": _NEVER}
    while callback.length < trial.max_length:
        model.fit(X, y, eval_set=eval_set, **kwargs)
        if not callback.ended:
            end_early(trial, save, callback.length)
        if trial.save_due:
            trial.save(save, length=callback.length)
        if trial.should_stop:
            break
    snapshot.unlink(missing_ok=True)
    return model
