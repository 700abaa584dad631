"""LightGBM: report each round of boosting, stop, and continue from a checkpoint.

Each round has its own seed and draws its bag of rows again, so pauses do not change the trees.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ashwood.errors import TrainingCodeError
from ashwood.integrations.common import check_rounds, check_start, end_early, first_given, require, seed_of_round
from ashwood.trial import Trial

lgb = require("lightgbm", "lightgbm")
_aliases = lgb.basic._ConfigAliases.get
_ROUNDS, _PATIENCE, _SEED = _aliases("num_iterations"), _aliases("early_stopping_round"), _aliases("seed")


def model(trial: Trial) -> str | None:
    """Return the file of the model that a trial continues from, for ``init_model=``, or None at the start."""
    return str(trial.checkpoint / "model.txt") if trial.checkpoint else None


def callbacks(trial: Trial, callbacks: Iterable[Any] = ()) -> list[Callable[[Any], None]]:
    """Return callbacks that report each round of a trial, save its model, and stop when the trial must stop.

    `train` adds them.  LightGBM's estimators need them, and the model to continue from::

        classifier = lightgbm.LGBMClassifier(n_estimators=trial.max_length - trial.length, **trial.hparams)
        callbacks, start = ashwood.lightgbm.callbacks(trial), ashwood.lightgbm.model(trial)
        classifier.fit(x, y, eval_set=[(x_valid, y_valid)], callbacks=callbacks, init_model=start)

    Args:
        trial: the trial.
        callbacks: your callbacks.  They get total rounds, and early stopping continues where it was.

    Raises:
        TrainingCodeError: the unit is wrong, nothing is evaluated, the model is another one, or cannot continue.
    """
    rounds = _Rounds(trial, callbacks)
    before, after = partial(rounds.before), partial(rounds.after)
    vars(before)["order"], vars(before)["before_iteration"], vars(after)["order"] = -1000, True, 1000
    return [before, after]


class _Rounds:
    def __init__(self, trial: Trial, callbacks: Iterable[Any]) -> None:
        check_rounds(trial, "LightGBM", {})
        self.trial, self.history = trial, list[Any]()
        ordered = sorted(callbacks, key=lambda callback: getattr(callback, "order", 0))
        self.early = [callback for callback in ordered if getattr(callback, "before_iteration", False)]
        self.late = [callback for callback in ordered if callback not in self.early]

    def call(self, callbacks: list[Any], env: Any, number: int, results: Any = None) -> None:
        """Call callbacks as if the trial had not been interrupted."""
        whole = lgb.callback.CallbackEnv(env.model, env.params, number, 0, self.trial.max_length, results)
        for callback in callbacks:
            callback(whole)

    def before(self, env: Any) -> None:
        if env.iteration == env.begin_iteration:
            self.begin(env)
        self.model, number = env.model, len(self.history)
        self.call(self.early, env, number)
        own = {"seed": seed_of_round(seed := first_given(env.params, _SEED, self.trial.seed), number)}
        if freq := first_given(env.params, _aliases("bagging_freq"), 0):
            env.model.reset_parameter({"bagging_freq": freq + 1})  # LightGBM draws a new bag if this changes.
            own |= {"bagging_freq": freq, "bagging_seed": seed_of_round(seed, number // freq)}
        env.model.reset_parameter(own)

    def begin(self, env: Any) -> None:
        check_start(self.trial, env.model.current_iteration(), "init_model=ashwood.lightgbm.model(trial)")
        if (boosting := first_given(env.params, _aliases("boosting"), "gbdt")) in ("dart", "rf", "random_forest"):
            raise TrainingCodeError(f"LightGBM cannot continue boosting={boosting!r} as if without a pause: use 'gbdt'")
        if env.params.get("objective") == "none":  # When LightGBM sets this for a custom objective, it draws features.
            env.model._Booster__set_objective_to_none = True
        if self.trial.checkpoint:
            self.history = json.loads((self.trial.checkpoint / "history.json").read_text())
        make = getattr(lgb.callback, "EvalResult", lambda *result: result)  # Results are tuples before version 4.7.
        restored = [one for one in self.late if hasattr(one, "stopping_rounds") or hasattr(one, "eval_result")]
        for number, results in enumerate(self.history):
            self.call(restored, env, number, [make(*result) for result in results])

    def after(self, env: Any) -> None:
        number, results = len(self.history), env.evaluation_result_list
        if not results:
            raise TrainingCodeError("LightGBM evaluates nothing: pass valid_sets=[valid_set], or eval_set= to fit()")
        self.history.append([list(result[:4]) for result in results])
        end = None
        try:
            self.call(self.late, env, number, results)
        except lgb.callback.EarlyStopException as exception:
            end = exception
        self.trial.report({f"{one[0]}-{one[1]}": one[2] for one in results}, length=number + 1, checkpoint=self.save)
        if end:
            end_early(self.trial, self.save, number + 1)
            raise end
        if self.trial.should_stop and env.iteration + 1 < env.end_iteration:
            raise lgb.callback.EarlyStopException(env.iteration, results)

    def save(self, directory: Path) -> None:
        self.model.save_model(directory / "model.txt", num_iteration=-1)
        (directory / "history.json").write_text(json.dumps(self.history))


def _copied(dataset: Any) -> Any:
    # LightGBM leaves parameters and predictions of a trial in datasets, and trials of one process may share them.
    if dataset.data is None or dataset.init_score is not None:
        raise TrainingCodeError("a lightgbm.Dataset must have raw data (free_raw_data=False), and no init_score")
    new = copy.copy(dataset)
    new._handle = new._predictor = None
    new.params = copy.deepcopy(dataset.params)
    return new


def train(trial: Trial, params: Mapping[str, Any], train_set: Any, *, valid_sets: Any, **kwargs: Any) -> Any:
    """Train as ``lightgbm.train`` does up to ``trial.max_length`` rounds, report each one, and return the booster.

    Example::

        def train(trial: ashwood.Trial) -> None:
            params = {"objective": "binary", **trial.hparams}
            ashwood.lightgbm.train(trial, params, train_set, valid_sets=[valid_set])  # reports valid_0-binary_logloss

    Args:
        trial: the trial.
        params: parameters of the booster.  If they have no ``seed``, it is ``trial.seed``.
        train_set: data for training.  Trials can share it, because each attempt constructs a copy.
        valid_sets: validation data.
        **kwargs: other arguments of ``lightgbm.train``, such as ``valid_names`` or ``callbacks``.

    Raises:
        TrainingCodeError: as for `callbacks`, an argument contradicts the search, or a dataset has no raw data.
    """
    check_rounds(trial, "LightGBM", {**params, **kwargs}, _ROUNDS, start="init_model")
    sets = [valid_sets] if isinstance(valid_sets, lgb.Dataset) else list(valid_sets)
    own = list(kwargs.pop("callbacks", None) or ())
    if patience := first_given(params, _PATIENCE, 0):
        own.append(lgb.early_stopping(patience, params.get("first_metric_only", False), verbose=False))
    seed = first_given(params, _SEED, trial.seed)
    params = {name: params[name] for name in params if name not in _ROUNDS | _PATIENCE | _SEED} | {"seed": seed}
    copies = {id(dataset): _copied(dataset) for dataset in (train_set, *sets)}
    kwargs |= {"num_boost_round": trial.max_length - trial.length, "init_model": model(trial)}
    kwargs |= {"valid_sets": [copies[id(dataset)] for dataset in sets], "callbacks": callbacks(trial, own)}
    return lgb.train(params, copies[id(train_set)], **kwargs)
