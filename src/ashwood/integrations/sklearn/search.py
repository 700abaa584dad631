"""Hyperparameter search with the interface of scikit-learn's searches, and training functions for ``partial_fit``."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn import base
from sklearn.utils import _param_validation as constraints

from ashwood.integrations.sklearn.epochs import partial_fit
from ashwood.integrations.sklearn.steps import SearchSteps

if TYPE_CHECKING:
    from ashwood.api.experiment import Experiment


__all__ = ["AshwoodSearchCV", "partial_fit"]

_POSITIVE = constraints.Interval(Integral, 1, None, closed="left")


class AshwoodSearchCV(SearchSteps):
    """Hyperparameter search with cross-validation and early stopping, as `HalvingRandomSearchCV` with adaptive ASHA.

    Candidates first train with few resources: samples, trees or epochs.  The best of them are promoted, and continue
    where they stopped.  Example::

        space = {"C": ashwood.Log(-3, 3), "kernel": ["rbf", "poly"]}
        search = ashwood.sklearn.AshwoodSearchCV(SVC(), space, max_trials=50, n_jobs=-1).fit(X, y)
        print(search.best_params_, search.best_score_, search.predict(X_test))

    Args:
        estimator: the estimator; its parameters are set by name, in a pipeline as ``step__parameter``.
        space: for each parameter a range of Ashwood, a list of values, or a frozen distribution of SciPy.
        max_trials: number of candidates.
        mode: how early candidates are stopped, see `ashwood.AdaptiveASHA`.
        divisor: one of ``divisor`` candidates is promoted at each rung; by default 2.5, or 4 with another ``mode``.
        searcher: searcher of Ashwood, or the ``searcher`` section of a file as a mapping, instead of the three above.
            Its ``metric``, ``max_length`` and ``smaller_is_better`` have no effect.
        resource: ``n_samples``, ``epochs`` of ``partial_fit``, or an integer parameter such as ``n_estimators``.
        min_resources: least amount of the resource for a candidate; ``smallest`` and ``exhaust`` are 1, or for samples
            2 for each split and class.
        max_resources: amount of the resource for the best candidates; ``auto`` is the number of samples.
        n_jobs: number of candidates that train at once, each in a process.  None and 1 train in this process.
        random_state: seed of the candidates and of the subsets of samples.
        home: home in which the experiment is kept, with its checkpoints.  If the same search was interrupted there,
            `fit` continues it.  By default, nothing is kept.
        scoring, refit, cv, verbose, error_score, return_train_score: as in scikit-learn's searches.

    Attributes:
        cv_results_: one element for each candidate and rung, as scikit-learn's halving searches have it: also
            ``n_resources``, ``iter``, and ``trial``, the number of the candidate.
        best_index_: the best element of ``cv_results_`` among those with most resources.
        n_resources_, n_candidates_: amount of the resource and number of candidates at each rung.
        experiment_: the `ashwood.Experiment` in the home, or None.
    """

    _required_parameters: ClassVar[list[str]] = ["estimator", "space"]
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{name: each for name, each in SearchSteps._parameter_constraints.items() if name != "pre_dispatch"},
        "space": [Mapping],
        "max_trials": [_POSITIVE],
        "mode": [constraints.StrOptions({"auto", "aggressive", "standard", "conservative"})],
        "divisor": [constraints.Interval(Real, 1, None, closed="neither"), None],
        "searcher": "no_validation",
        "resource": [str],
        "min_resources": [_POSITIVE, constraints.StrOptions({"smallest", "exhaust"})],
        "max_resources": [_POSITIVE, constraints.StrOptions({"auto"})],
        "random_state": ["random_state"],
        "home": "no_validation",
    }

    def __init__(
        self,
        estimator: Any,
        space: Mapping[str, Any],
        *,
        max_trials: int = 50,
        mode: str = "auto",
        divisor: float | None = None,
        searcher: Any = None,
        resource: str = "n_samples",
        min_resources: int | str = "smallest",
        max_resources: int | str = "auto",
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        error_score: Any = nan,
        return_train_score: bool = False,
        home: Any = None,
    ) -> None:
        common = {"scoring": scoring, "n_jobs": n_jobs, "refit": refit, "cv": cv, "verbose": verbose}
        super().__init__(estimator, error_score=error_score, return_train_score=return_train_score, **common)
        self.space = space
        self.max_trials = max_trials
        self.mode = mode
        self.divisor = divisor
        self.searcher = searcher
        self.resource = resource
        self.min_resources = min_resources
        self.max_resources = max_resources
        self.random_state = random_state
        self.home = home

    @base._fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> AshwoodSearchCV:  # noqa: N803 - scikit-learn's name
        """Search, and fit `best_estimator_` to all samples with the best parameters.

        Args:
            X: the samples.
            y: the targets, or None.
            **params: ``groups`` of the splitter, and arguments of the estimator's ``fit``, such as ``sample_weight``;
                those with an element for each sample are divided into splits.

        Raises:
            ValueError: a setting cannot work, or all fits failed; then the message includes the estimator's error.
            KeyboardInterrupt: the search was interrupted.  It has ended its processes.
            AshwoodError: the trials could not be run.
        """
        self._search(X, y, params)
        return self

    @property
    def experiment_(self) -> Experiment:
        """The experiment of the last fit, in `home`."""
        from ashwood.api.experiment import open_experiment

        if self.home is None or not hasattr(self, "experiment_id_"):
            raise AttributeError("there is no experiment_: it needs home= and fit()")
        return open_experiment(self.experiment_id_, home=self.home)
