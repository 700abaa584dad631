"""The steps of `AshwoodSearchCV.fit`: splits, lengths, trials, results, and the last fit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from time import time
from typing import Any

import numpy as np
from sklearn import base
from sklearn.model_selection import _search as search
from sklearn.model_selection import _validation as validation
from sklearn.utils import validation as utils

from ashwood.checkpoints.trees import remove_tree
from ashwood.integrations.common import require
from ashwood.integrations.sklearn.epochs import classes_of, run_epochs
from ashwood.integrations.sklearn.fit import CrossValidation
from ashwood.integrations.sklearn.resources import UNITS, resources_of, searcher_section, warm_start_of
from ashwood.integrations.sklearn.run import run_here, run_in_workers
from ashwood.integrations.sklearn.space import ParameterSpace

joblib = require("joblib", "sklearn")


class SearchSteps(search.BaseSearchCV):
    """Base class of `AshwoodSearchCV`, which defines the parameters."""

    def _search(self, x: Any, y: Any, params: Mapping[str, Any]) -> None:
        scorers, refit_metric = self._get_scorers(**dict.fromkeys(signature(self._get_scorers).parameters, True))
        x, y = utils.indexable(x, y)
        routed = self._get_routed_params_for_fit(utils._check_method_params(x, params=params))
        cv = search.check_cv(self.cv, y, classifier=base.is_classifier(self.estimator))
        splits = list(cv.split(x, y, **routed.splitter.split))
        self.n_splits_ = len(splits)
        classes = classes_of(self.estimator, y)
        smallest = 2 * self.n_splits_ * (1 if classes is None else len(classes))  # as scikit-learn's halving searches
        self.min_resources_, self.max_resources_ = resources_of(
            self.estimator, self.resource, self.min_resources, self.max_resources, smallest, utils._num_samples(x)
        )
        if self.resource in self.space:
            raise ValueError(f"{self.resource!r} is the resource, so it cannot be searched: remove it from the space")
        seed, start = map(int, utils.check_random_state(self.random_state).randint(2**31 - 1, size=2))
        options = {"scorer": scorers, "fit_params": routed.estimator.fit, "score_params": routed.scorer.score}
        options |= {name: getattr(self, name) for name in ("error_score", "return_train_score", "verbose")}
        options |= {"return_estimator": True, "return_times": True}
        trials = CrossValidation(
            estimator=self.estimator,
            x=x,
            y=y,
            splits=splits,
            space=ParameterSpace(self.space),
            resource=self.resource,
            warm_start=warm_start_of(self.estimator, self.resource),
            score=self.refit if isinstance(self.refit, str) else None,
            seed=seed,
            options=options,
        )
        self._set_results(self._train(trials, start), refit_metric)
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        if self.refit:
            self._refit(x, y, seed, routed.estimator.fit)

    def _train(self, trials: CrossValidation, seed: int) -> list[dict[str, Any]]:
        """Run the experiment, and return its results by trial and length."""
        searcher = self.searcher
        if searcher is None:
            searcher = {"name": "adaptive_asha", "max_trials": self.max_trials, "mode": self.mode}
            searcher |= {"max_concurrent_trials": 0, **({} if self.divisor is None else {"divisor": self.divisor})}
        unit = UNITS.get(self.resource, "steps")
        tree = {
            "name": f"{type(self).__name__} {type(self.estimator).__name__}",
            "hyperparameters": trials.space.hparams,
            "searcher": searcher_section(searcher, unit, self.min_resources_, self.max_resources_),
            "reproducibility": {"experiment_seed": seed},
        }
        workers = joblib.effective_n_jobs(self.n_jobs)
        with tempfile.TemporaryDirectory(prefix="ashwood-", ignore_cleanup_errors=True) as temporary:
            if workers == 1 and self.home is None:
                trials = replace(trials, directory=Path(temporary))
                run_here(trials, tree)
            else:
                home = temporary if self.home is None else self.home
                experiment, trials = run_in_workers(trials, tree, workers, home, progress=self.verbose > 0)
                self.experiment_id_ = experiment.id
            records = trials.records()
            if self.home is not None:  # The copy of the data is not needed any more.
                remove_tree(trials.directory.parent, trials.directory.name, ignore_errors=True)
            return records

    def _set_results(self, records: Sequence[Mapping[str, Any]], refit_metric: str) -> None:
        out = [result for record in records for result in record["out"]]
        validation._warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            validation._insert_error_scores(out, self.error_score)
        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(out[0]["test_scores"])
            refit_metric = self.refit
        lengths = np.array([record["length"] for record in records])
        resources, rungs = np.unique(lengths, return_inverse=True)
        more = {"iter": rungs, "n_resources": lengths, "trial": [record["trial"] for record in records]}
        params = [record["params"] for record in records]
        self.cv_results_ = results = self._format_results(params, self.n_splits_, out, more)
        self.n_resources_, self.n_candidates_ = resources.tolist(), np.bincount(rungs).tolist()
        if self.refit or not self.multimetric_:
            self.best_index_ = int(self._select_best_index(self.refit, refit_metric, results))
            self.best_params_ = results["params"][self.best_index_]
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: str, results: Mapping[str, Any]) -> int:
        """Return the index of the best candidate with most resources; scores with fewer cannot be compared with it."""
        if callable(refit):
            return search.BaseSearchCV._select_best_index(refit, refit_metric, results)
        last = np.flatnonzero(results["n_resources"] == results["n_resources"].max())
        return last[results[f"rank_test_{refit_metric}"][last].argmin()]

    def _refit(self, x: Any, y: Any, seed: int, fit_params: Mapping[str, Any]) -> None:
        self.best_estimator_ = base.clone(self.estimator).set_params(**base.clone(self.best_params_, safe=False))
        began = time()
        if self.resource == "epochs":
            settings = {"epochs": range(self.max_resources_), "seed": seed, "classes": classes_of(self.estimator, y)}
            run_epochs(self.best_estimator_, x, y, **settings, **fit_params)
        else:
            self.best_estimator_.fit(x, *([] if y is None else [y]), **fit_params)
        self.refit_time_ = time() - began
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
