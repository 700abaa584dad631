"""What the trials of `ashwood.sklearn.AshwoodSearchCV` run, in worker processes or in the process of the search.

Worker processes import this module, and not that of `AshwoodSearchCV`, so that they start sooner.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import base
from sklearn.model_selection._validation import _fit_and_score, _insert_error_scores
from sklearn.utils import resample
from sklearn.utils.validation import _num_samples

from ashwood.errors import AshwoodError
from ashwood.integrations.sklearn.epochs import classes_of, run_epochs, seeded
from ashwood.integrations.sklearn.resources import SCORE
from ashwood.integrations.sklearn.space import ParameterSpace


@dataclass(frozen=True)
class CrossValidation:
    """Trains and scores the estimators of all splits for each trial of a search.

    The results of a trial depend on the arguments alone, so pauses and the number of workers do not change them.

    Attributes:
        estimator: the estimator without the searched parameters.
        x: the samples.
        y: their targets, or None.
        splits: indices of training and test samples of each split.
        space: converts hyperparameters to parameters of the estimator.
        resource: what a length counts: ``n_samples``, ``epochs`` or a parameter of the estimator.
        warm_start: name of the parameter that lets a trained estimator continue, or None if it has none.
        score: name of the score that selects the best candidate, or None for the first one.
        seed: seed of the subsets of samples.
        options: arguments of scikit-learn's ``_fit_and_score`` that are the same for all fits.
        directory: directory for the results.
    """

    estimator: Any
    x: Any
    y: Any
    splits: Sequence[tuple[Any, Any]]
    space: ParameterSpace
    resource: str
    warm_start: str | None
    score: str | None
    seed: int
    options: Mapping[str, Any]
    directory: Path = Path()

    def train(
        self, trial: int, hparams: Mapping[str, Any], seed: int, fitted: Sequence[Any], begin: int, end: int
    ) -> tuple[dict[str, float], list[Any]]:
        """Train a trial to a length, write its results to the directory, and return its metrics and estimators.

        Args:
            trial: number of the trial.
            hparams: hyperparameters of the trial.
            seed: seed of the trial.
            fitted: estimators of all splits at the length ``begin``, or an empty sequence.
            begin: length from which they continue.
            end: length to reach.
        """
        params, counts = self.space.params(hparams), {}
        if self.resource not in ("n_samples", "epochs"):
            counts = {self.resource: end}
        results = []
        for number in range(len(self.splits)):
            if fitted:  # Its other parameters are set, and those that are estimators are fitted.
                estimator, settings = fitted[number], counts
            else:
                estimator, settings = base.clone(self.estimator), {**params, **counts}
                settings |= {self.warm_start: True} if self.warm_start else {}
            with seeded(seed, number, end):
                results.append(self._fit(number, estimator, settings, range(begin, end), seed))
        if self.options["error_score"] != "raise":  # A callable scorer names scores that failed fits lack.
            _insert_error_scores(results, self.options["error_score"])
        estimators = [result.pop("estimator") for result in results]
        record = {"trial": trial, "length": end, "params": params | counts, "out": results}
        write(self.directory / f"trial-{trial}-{end}.pkl", record)
        continues = self.warm_start or self.resource == "epochs"  # Other estimators start over at each length.
        return metrics_of(results, self.score), estimators if continues else []

    def _fit(self, number: int, estimator: Any, settings: Mapping[str, Any], epochs: range, seed: int) -> Any:
        train, test = self.splits[number]
        if self.resource == "n_samples":
            train, test = self._subset(train, epochs.stop), self._subset(test, epochs.stop)
        elif self.resource == "epochs":
            classes = classes_of(estimator, self.y)
            estimator.fit = partial(run_epochs, estimator, epochs=epochs, seed=seed, classes=classes)
        progress = {"split_progress": (number, len(self.splits)), **self.options}
        result = _fit_and_score(estimator, self.x, self.y, train=train, test=test, parameters=settings, **progress)
        vars(estimator).pop("fit", None)
        return result

    def records(self) -> list[dict[str, Any]]:
        """Return all results, ordered by trial and length.

        Raises:
            AshwoodError: there is none.
        """
        records = [pickle.loads(file.read_bytes()) for file in self.directory.glob("trial-*.pkl")]  # noqa: S301
        if not records:
            raise AshwoodError("no trial of the search has ended: see the failures above")
        return sorted(records, key=lambda record: (record["trial"], record["length"]))

    @property
    def error(self) -> Path:
        """File of the error that ends the search, with ``error_score="raise"``."""
        return self.directory / "error.pkl"

    def _subset(self, indices: Any, length: int) -> Any:
        # As in scikit-learn's halving searches.  With the same seed, each subset contains the smaller ones.
        count = int(length / _num_samples(self.x) * len(indices))
        return resample(indices, replace=False, random_state=self.seed, n_samples=max(1, count))


def write(path: Path, thing: Any) -> None:
    """Pickle an object to a file, completely or not at all; classes of scripts and notebooks are pickled with it."""
    import cloudpickle

    part = path.with_suffix(".part")
    part.write_bytes(cloudpickle.dumps(thing))
    part.replace(path)


def metrics_of(results: Sequence[Mapping[str, Any]], score: str | None) -> dict[str, float]:
    """Return scores and times for a report, under the names of ``cv_results_`` and `SCORE`."""
    columns: dict[str, list[float]] = {}
    for result in results:
        for kind in ("test", "train"):
            scores = result.get(f"{kind}_scores", {})
            for name, value in (scores if isinstance(scores, dict) else {"score": scores}).items():
                columns.setdefault(f"{kind}_{name}", []).append(float(value))
    metrics = {f"split{split}_{name}": value for name, each in columns.items() for split, value in enumerate(each)}
    metrics |= {f"mean_{name}": float(np.mean(each)) for name, each in columns.items()}
    metrics["mean_fit_time"] = float(np.mean([result["fit_time"] for result in results]))
    return metrics | {SCORE: metrics.get(f"mean_test_{score}", metrics[f"mean_{next(iter(columns))}"])}
