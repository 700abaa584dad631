"""XGBoost: report each round of boosting, stop, and continue from a checkpoint.

A model that continues gets the same trees as one that nothing interrupted: each round has its own seed, and the
samplers of rows and columns, whose state XGBoost does not save, start anew in each round.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_rounds, check_start, end_early, require, seed_of_round
from ashwood.trial import Trial

xgb = require("xgboost", "xgboost")
_TrainingCallback: Any = xgb.callback.TrainingCallback
_SAMPLING = re.compile(r'"(?:subsample|colsample_\w+)":"([^"]+)"')
_COUNTS = ("starting_round", "_start")
"""Attributes that callbacks of XGBoost add to the round; it must be 0, because ours pass the total."""
_STATE = ("stopping_history", "current_rounds", "best_scores")
"""Attributes of `xgboost.callback.EarlyStopping` that change during training."""


def model(trial: Trial) -> str | None:
    """Return the file of the model that a trial continues from, for ``xgb_model=``, or None to train from the start."""
    return str(trial.checkpoint / "model.ubj") if trial.checkpoint else None


class Callback(_TrainingCallback):
    """A callback that reports each round of a trial, saves its model, and stops when the trial must stop.

    `train` adds it.  XGBoost's estimators need it, and the model to continue from::

        rounds = trial.max_length - trial.length
        callback = ashwood.xgboost.Callback(trial)
        classifier = xgboost.XGBClassifier(n_estimators=rounds, callbacks=[callback], **trial.hparams)
        classifier.fit(x, y, eval_set=[(x_valid, y_valid)], xgb_model=ashwood.xgboost.model(trial))

    Args:
        trial: the trial.
        callbacks: your callbacks.  They get the rounds and metrics of all attempts of the trial, and the state of
            `xgboost.callback.EarlyStopping` is saved.
        seed: seed of all rounds, by default ``trial.seed``.

    Raises:
        TrainingCodeError: the experiment counts another unit, nothing is evaluated, the model does not have the rounds
            of the checkpoint, or ``updater`` or ``process_type`` is set.
    """

    def __init__(self, trial: Trial, callbacks: Iterable[Any] = (), seed: int | None = None) -> None:
        check_rounds(trial, "XGBoost", {})
        self.trial, self.callbacks = trial, list(callbacks)
        self.seed = trial.seed if seed is None else seed
        self.ended = False
        self.past: dict[str, Any] = {}
        self.other: dict[str, str] = {}
        self.method: dict[str, str] = {}

    def before_training(self, model: Any) -> Any:
        self.model, self.start = model, model.num_boosted_rounds()
        check_start(self.trial, self.start, "xgb_model=ashwood.xgboost.model(trial)")
        config = model.save_config()
        if '"specified_updater":true' in config or '"process_type":"update"' in config:
            raise TrainingCodeError("a trial cannot continue with updater= or process_type='update': set tree_method=")
        # XGBoost creates an updater, and with it the samplers, when the tree method changes.
        method = re.search(r'"tree_method":"(\w+)"', config)
        if method and any(float(share) != 1 for share in _SAMPLING.findall(config)):
            self.other = {"tree_method": "hist" if method[1] == "approx" else "approx"}
            self.method = {"tree_method": method[1]}
        for callback in self.callbacks:
            model = callback.before_training(model)
            vars(callback).update({name: 0 for name in _COUNTS if name in vars(callback)})
        if self.trial.checkpoint:
            self.past, rate, states = json.loads((self.trial.checkpoint / "state.json").read_text())
            model.set_param("learning_rate", rate)  # Schedules set the rate of the next round after each round.
            for callback, state in zip(self.callbacks, states, strict=False):
                vars(callback).update(state)
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        evals_log.update(self.past)
        self.past, self.log = {}, evals_log
        epoch += self.start
        if self.other:
            model.set_param(self.other)
            model.num_boosted_rounds()  # XGBoost applies parameters when it needs them.
        model.set_param({**self.method, "seed": seed_of_round(self.seed, epoch), "seed_per_iteration": False})
        self.ended = any(callback.before_iteration(model, epoch, evals_log) for callback in self.callbacks)
        return self.ended

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        epoch += self.start
        self.ended = any(callback.after_iteration(model, epoch, evals_log) for callback in self.callbacks)
        metrics = {f"{data}-{name}": values[-1] for data, log in evals_log.items() for name, values in log.items()}
        if not metrics:
            raise TrainingCodeError("XGBoost evaluates nothing: pass evals=[(dvalid, 'valid')], or eval_set= to fit()")
        self.trial.report(metrics, length=epoch + 1, checkpoint=self._save)
        return self.ended or self.trial.should_stop

    def after_training(self, model: Any) -> Any:
        # XGBoost may have an early stopping of its own, after this callback.
        if self.ended or model.attr("best_iteration") is not None:
            end_early(self.trial, self._save, self.trial.length)
        for callback in self.callbacks:
            model = callback.after_training(model)
        return model

    def _save(self, directory: Path) -> None:
        self.model.save_model(directory / "model.ubj")
        rate = re.findall(r'"learning_rate":"([^"]+)"', self.model.save_config())[0]
        states = [{name: vars(one)[name] for name in _STATE if name in vars(one)} for one in self.callbacks]
        (directory / "state.json").write_text(json.dumps([self.log, rate, states]))


def train(trial: Trial, params: Any, dtrain: Any, *, evals: Any, **kwargs: Any) -> Any:
    """Train as ``xgboost.train`` does, report each round under XGBoost's names, and return the booster.

    The search sets the number of rounds::

        def train(trial: ashwood.Trial) -> None:
            params = {"objective": "binary:logistic", **trial.hparams}
            ashwood.xgboost.train(trial, params, dtrain, evals=[(dvalid, "valid")])  # reports valid-logloss

    Args:
        trial: the trial.
        params: parameters of the booster.  If they have no ``seed``, it is ``trial.seed``.
        dtrain: data for training.
        evals: pairs of validation data and their name.
        **kwargs: other arguments of ``xgboost.train``, such as ``early_stopping_rounds`` or ``custom_metric``.

    Raises:
        TrainingCodeError: as for `Callback`, or an argument contradicts the search.
    """
    check_rounds(trial, "XGBoost", kwargs, ["num_boost_round"], start="xgb_model")
    settings, callbacks = dict(params), list(kwargs.pop("callbacks", None) or ())
    if rounds := kwargs.pop("early_stopping_rounds", None):
        callbacks.append(xgb.callback.EarlyStopping(rounds=rounds, maximize=kwargs.get("maximize")))
    if period := kwargs.pop("verbose_eval", None):
        callbacks.append(xgb.callback.EvaluationMonitor(period=int(period)))
    callback = Callback(trial, callbacks, settings.get("seed", settings.get("random_state")))
    kwargs |= {"num_boost_round": trial.max_length - trial.length, "xgb_model": model(trial)}
    return xgb.train(params, dtrain, evals=evals, callbacks=[callback], verbose_eval=False, **kwargs)
