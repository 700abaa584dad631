"""The scikit-learn integration: searches in this process and in worker processes, and training by partial_fit."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ashwood
from ashwood.errors import TrainingCodeError
from tests.integrations import kit

pytest.importorskip("sklearn")

from scipy.stats import expon, geom, loguniform, randint, uniform  # type: ignore[import-untyped]
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris, make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from ashwood.integrations.sklearn.space import ParameterSpace

pytestmark = pytest.mark.timeout(600)  # scikit-learn takes long to import on a busy machine
AshwoodSearchCV = ashwood.sklearn.AshwoodSearchCV
SPACE = {"max_depth": ashwood.Int(1, 8), "min_samples_leaf": [1, 2, 4]}
IRIS = load_iris(return_X_y=True)
SMALL: dict[str, Any] = {"max_trials": 6, "divisor": 2, "cv": 3, "random_state": 0}
NOT_LIKE_GRID_SEARCH = ("check_supervised_y_2d",)
"""Checks that scikit-learn's own searches do not pass."""

WITH_WORKERS = ("check_classifier_data_not_an_array", "check_dict_unchanged", "check_estimators_nan_inf")
"""Checks that are also tried with worker processes, which take seconds for each fit."""


def search_trees(**settings: Any) -> Any:
    return AshwoodSearchCV(DecisionTreeClassifier(random_state=0), SPACE, **SMALL | settings)


# -- scikit-learn's checks ----------------------------------------------------------------------


def checked(estimator: Any, space: Any, **settings: Any) -> Any:
    return AshwoodSearchCV(
        estimator, space, cv=2, error_score="raise", max_trials=2, mode="standard", random_state=0, **settings
    )


def check_like_scikit_learn(estimator: Any, check: Any) -> None:
    if check.func.__name__ in NOT_LIKE_GRID_SEARCH:
        pytest.skip("scikit-learn's GridSearchCV does not pass it either")
    if estimator.n_jobs and check.func.__name__ not in WITH_WORKERS:
        pytest.skip("takes long, and does not depend on the processes")
    check(estimator)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # scikit-learn casts infinite targets to integers
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [checked(Ridge(), {"alpha": ashwood.Log(-1, 0)}), checked(LogisticRegression(), {"C": ashwood.Log(-1, 0)})]
)
def test_search_passes_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check_like_scikit_learn(estimator, check)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        checked(make_pipeline(PCA(), Ridge()), {"ridge__alpha": ashwood.Log(-1, 0)}),
        checked(SGDClassifier(random_state=0), {"alpha": ashwood.Log(-4, 0)}, resource="epochs", max_resources=4),
        checked(LogisticRegression(), {"C": ashwood.Log(-1, 0)}, n_jobs=2),
    ]
)
def test_other_searches_pass_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check_like_scikit_learn(estimator, check)


# -- spaces -------------------------------------------------------------------------------------


def test_distributions_of_scipy_become_ranges() -> None:
    space = {"a": loguniform(1e-3, 10), "b": uniform(2, 3), "c": randint(1, 9)}
    expected = {"a": ashwood.Log(-3, 1), "b": ashwood.Double(2, 5), "c": ashwood.Int(1, 8)}
    assert ParameterSpace(space).hparams == expected


def test_other_distributions_are_drawn_by_quantile() -> None:
    space = ParameterSpace({"C": expon(scale=100), "degree": geom(0.5), "shifted": loguniform(1, 100, loc=5)})
    assert {type(range_) for range_ in space.hparams.values()} == {ashwood.Double}
    params = space.params({"C": 0.5, "degree": 0.6, "shifted": 0.5})
    assert params == {"C": pytest.approx(100 * np.log(2)), "degree": 2, "shifted": pytest.approx(15)}
    assert type(params["degree"]) is int


def test_conditions_and_orders_are_kept() -> None:
    solver = ashwood.Categorical(("adam", "sgd"))
    space = ParameterSpace(
        {
            "solver": solver,
            "momentum": ashwood.Double(0, 1, when={"solver": "sgd"}),
            "sizes": ashwood.Categorical([(5,), (50,)], ordered=True, when={"solver": "sgd"}),
        }
    )
    assert space.hparams["momentum"].when == {"solver": "sgd"}
    assert space.hparams["sizes"] == ashwood.Categorical(["(5,)", "(50,)"], ordered=True, when={"solver": "sgd"})
    assert space.params({"solver": "adam"}) == {"solver": "adam"}


def test_values_of_lists_reach_the_estimator_unchanged() -> None:
    values = [(50,), (50, 20), None]
    space = ParameterSpace({"hidden_layer_sizes": values, "alpha": np.logspace(-2, 0, 3), "solver": "adam"})
    assert space.hparams["hidden_layer_sizes"] == ashwood.Categorical(["(50,)", "(50, 20)", "None"])
    assert space.hparams["alpha"] == ashwood.Categorical([0.01, 0.1, 1.0])
    assert space.hparams["solver"] == ashwood.Const("adam")
    assert space.params({"hidden_layer_sizes": "(50, 20)", "alpha": 0.1, "solver": "adam"}) == {
        "hidden_layer_sizes": (50, 20),
        "alpha": 0.1,
        "solver": "adam",
    }


def test_values_with_the_same_repr_are_distinguished() -> None:
    class Same:
        def __repr__(self) -> str:
            return "same"

    first, second = Same(), Same()
    space = ParameterSpace({"x": [first, second]})
    assert [space.params({"x": label})["x"] for label in space.hparams["x"].vals] == [first, second]


@pytest.mark.parametrize(
    ("space", "error", "words"),
    [
        ({"C": []}, ValueError, "is empty"),
        ([{"C": [1]}], TypeError, "space must be a dict"),
        ({"C": type("Own", (), {"rvs": None})()}, ValueError, "has no method ppf"),
    ],
)
def test_wrong_space_is_refused(space: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ParameterSpace(space)


# -- results ------------------------------------------------------------------------------------


def test_results_have_the_columns_of_scikit_learn() -> None:
    search = search_trees(return_train_score=True).fit(*IRIS)
    results = search.cv_results_
    expected = {"iter", "n_resources", "trial", "params", "param_max_depth", "param_min_samples_leaf"}
    expected |= {f"{kind}_{what}_time" for kind in ("mean", "std") for what in ("fit", "score")}
    columns = ["mean_{}", "std_{}", "split0_{}", "split1_{}", "split2_{}"]
    expected |= {column.format(kind) for column in columns for kind in ("test_score", "train_score")}
    assert set(results) == {*expected, "rank_test_score"}
    assert {len(column) for column in results.values()} == {len(results["params"])}
    assert search.n_candidates_ == [int((results["iter"] == rung).sum()) for rung in range(len(search.n_resources_))]
    assert len(set(results["trial"])) == 6
    # With mode auto, some trials skip the first rung.
    assert 0 < search.n_candidates_[0] <= 6
    assert search.n_resources_[-1] == search.max_resources_ == 150


def test_best_candidate_has_most_resources_and_its_score() -> None:
    search = search_trees().fit(*IRIS)
    results, best = search.cv_results_, search.best_index_
    assert results["n_resources"][best] == 150
    assert search.best_params_ == results["params"][best]
    fresh = DecisionTreeClassifier(random_state=0, **search.best_params_)
    scores = cross_val_score(fresh, *IRIS, cv=3)
    assert [results[f"split{split}_test_score"][best] for split in range(3)] == scores.tolist()
    assert search.best_score_ == scores.mean()
    assert search.best_estimator_.get_params() == fresh.get_params()


def test_several_scores_with_refit_by_one_of_them() -> None:
    scoring = {"accuracy": "accuracy", "log": "neg_log_loss"}
    search = search_trees(scoring=scoring, refit="log").fit(*IRIS)
    last = search.cv_results_["n_resources"] == 150
    assert search.best_score_ == search.cv_results_["mean_test_log"][last].max()
    assert search.score(*IRIS) < 0
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        search_trees(scoring=scoring).fit(*IRIS)


def score_two_ways(estimator: Any, x: Any, y: Any) -> dict[str, float]:
    accuracy = accuracy_score(y, estimator.predict(x))
    return {"accuracy": accuracy, "error": 1 - accuracy}


def test_callable_scoring_and_callable_refit() -> None:
    search = search_trees(scoring=score_two_ways, refit="accuracy").fit(*IRIS)
    assert search.best_score_ == 1 - search.cv_results_["mean_test_error"][search.best_index_]
    search = search_trees(scoring=score_two_ways, refit=lambda results: 1).fit(*IRIS)
    assert search.best_index_ == 1
    assert not hasattr(search, "best_score_")
    search = search_trees(scoring=score_two_ways, refit=False).fit(*IRIS)
    assert not hasattr(search, "best_estimator_")


def test_fitted_search_can_be_pickled_and_cloned() -> None:
    search = search_trees().fit(*IRIS)
    copy = pickle.loads(pickle.dumps(search))
    assert (copy.predict_proba(IRIS[0]) == search.predict_proba(IRIS[0])).all()
    assert copy.classes_.tolist() == [0, 1, 2]
    assert clone(search).get_params()["space"] == SPACE
    assert "AshwoodSearchCV(cv=3, divisor=2," in repr(search)


def test_random_state_determines_the_search() -> None:
    first, second, other = (search_trees(random_state=seed).fit(*IRIS) for seed in (0, 0, 1))
    assert first.cv_results_["mean_test_score"].tolist() == second.cv_results_["mean_test_score"].tolist()
    assert first.cv_results_["params"] != other.cv_results_["params"]


def test_search_does_not_change_global_random_numbers() -> None:
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    AshwoodSearchCV(DecisionTreeClassifier(splitter="random"), SPACE, refit=False, **SMALL).fit(*IRIS)
    assert np.random.random() == expected


@pytest.mark.parametrize(
    ("searcher", "rows"),
    [
        ({"name": "random", "max_trials": 3}, 3),
        (ashwood.SyncHalving(metric="any", max_length=1, max_trials=4, divisor=2), 7),
        (ashwood.AsyncHalving(metric="any", max_length=1, max_trials=4, divisor=2, num_rungs=2), 6),
    ],
)
def test_searcher_object_replaces_default(searcher: Any, rows: int) -> None:
    search = search_trees(searcher=searcher).fit(*IRIS)
    assert len(search.cv_results_["params"]) == rows
    assert search.n_resources_[-1] == 150


# -- resources ----------------------------------------------------------------------------------


class CountingForest(RandomForestClassifier):  # type: ignore[misc]
    """A forest that counts the trees that all its instances train."""

    trained = 0

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        before = len(getattr(self, "estimators_", ()))
        super().fit(*args, **kwargs)
        type(self).trained += len(self.estimators_) - before
        return self


def test_promoted_forest_adds_trees() -> None:
    CountingForest.trained = 0
    forest = CountingForest(random_state=0)
    search = AshwoodSearchCV(
        forest, {"max_depth": ashwood.Int(1, 8)}, resource="n_estimators", max_resources=16, **SMALL
    )
    search.fit(*IRIS)
    results = search.cv_results_
    lengths: dict[int, int] = {}
    for trial, length in zip(results["trial"], results["n_resources"], strict=True):
        lengths[trial] = max(length, lengths.get(trial, 0))
    assert CountingForest.trained == 3 * sum(lengths.values()) + 16  # 3 splits, and the last fit
    assert search.best_params_["n_estimators"] == len(search.best_estimator_.estimators_) == 16
    assert not search.best_estimator_.warm_start


@pytest.mark.parametrize(
    "estimator",
    [RandomForestClassifier(random_state=0), GradientBoostingClassifier(subsample=0.5, random_state=0)],
    ids=["forest", "boosting"],
)
def test_continued_ensemble_equals_one_that_was_trained_at_once(estimator: Any) -> None:
    pipeline = make_pipeline(StandardScaler(), estimator)
    step = pipeline.steps[1][0]
    space = {f"{step}__max_depth": ashwood.Int(1, 40)}
    search = AshwoodSearchCV(pipeline, space, resource=f"{step}__n_estimators", max_resources=8, **SMALL).fit(*IRIS)
    assert search.n_resources_ == [2, 4, 8]
    for index in np.flatnonzero(search.cv_results_["n_resources"] == 8):
        fresh = clone(pipeline).set_params(**search.cv_results_["params"][index])
        expected = cross_val_score(fresh, *IRIS, cv=3)
        assert [search.cv_results_[f"split{split}_test_score"][index] for split in range(3)] == expected.tolist()


def test_parameter_that_counts_iterations_of_each_fit_starts_over() -> None:
    solver = LogisticRegression(warm_start=True)
    search = AshwoodSearchCV(solver, {"C": ashwood.Log(-2, 2)}, resource="max_iter", max_resources=4, **SMALL)
    with pytest.warns(match="failed to converge"):
        search.fit(*IRIS)
    assert search.best_estimator_.n_iter_ == 4


@pytest.mark.parametrize("estimator", [SGDClassifier(), MLPClassifier((8,))], ids=["sgd", "mlp"])
def test_promotion_does_not_change_epochs(estimator: Any) -> None:
    settings = {**SMALL, "resource": "epochs", "max_resources": 8}
    space = {"alpha": ashwood.Log(-5, -1)}
    halving = AshwoodSearchCV(estimator.set_params(random_state=0), space, **settings).fit(*IRIS).cv_results_
    searcher = {"name": "random", "max_trials": 6}
    at_once = AshwoodSearchCV(estimator, space, searcher=searcher, **settings).fit(*IRIS).cv_results_
    assert set(halving["n_resources"]) == {2, 4, 8}
    compared = 0
    for index in np.flatnonzero(halving["n_resources"] == 8):
        if halving["params"][index] in at_once["params"]:
            same = at_once["params"].index(halving["params"][index])
            assert halving["mean_test_score"][index] == at_once["mean_test_score"][same]
            compared += 1
    assert compared


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resource": "trees"}, "must be 'n_samples', 'epochs' or a parameter"),
        ({"resource": "epochs", "max_resources": 3}, "has none"),
        ({"resource": "max_leaf_nodes"}, "set the largest number of max_leaf_nodes"),
        ({"resource": "max_depth", "max_resources": 4}, "remove it from the space"),
        ({"min_resources": 100, "max_resources": 90}, "min_resources is 100, but max_resources is 90"),
        ({"max_resources": 151}, "but there are 150 samples"),
        ({"mode": "bold"}, "'mode' parameter"),
    ],
)
def test_setting_that_cannot_work_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        search_trees(**settings).fit(*IRIS)


# -- failures and parameters of fit ---------------------------------------------------------------


class Fails(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator that fails if ``x`` is at least 0.5."""

    def __init__(self, x: float = 0.0) -> None:
        self.x = x

    def fit(self, x: Any, y: Any) -> Fails:
        if self.x >= 0.5:
            raise ZeroDivisionError("this estimator fails")
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: Any) -> Any:
        return np.full(len(x), self.classes_[0])


def test_failed_candidates_get_the_error_score() -> None:
    search = AshwoodSearchCV(Fails(), {"x": ashwood.Double(0, 1)}, **SMALL | {"random_state": 1})
    with pytest.warns(), pytest.warns(FitFailedWarning, match="this estimator fails"):
        search.fit(*IRIS)
    for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        assert np.isnan(score) == (params["x"] >= 0.5)
    assert search.best_params_["x"] < 0.5


def test_search_in_which_all_fits_fail_shows_the_error() -> None:
    search = AshwoodSearchCV(Fails(), {"x": ashwood.Double(0.5, 1)}, **SMALL)
    with pytest.raises(ValueError, match="ZeroDivisionError: this estimator fails"):
        search.fit(*IRIS)
    with pytest.raises(ZeroDivisionError):
        search.set_params(error_score="raise").fit(*IRIS)


def test_groups_and_sample_weight_are_divided_into_splits() -> None:
    x, y = IRIS
    groups = np.arange(150) % 5
    weight = np.where(y == 2, 0.0, 1.0)
    search = search_trees(cv=GroupKFold(3)).fit(x, y, groups=groups, sample_weight=weight)
    assert search.n_splits_ == 3
    assert 2 not in search.predict(x)


# -- worker processes -----------------------------------------------------------------------------


def test_workers_find_the_same_as_this_process(tmp_path: Path) -> None:
    x, y = make_classification(300, random_state=0)
    settings = {"resource": "n_estimators", "max_resources": 8, **SMALL}
    here = AshwoodSearchCV(RandomForestClassifier(random_state=0), SPACE, **settings).fit(x, y)
    search = clone(here).set_params(home=tmp_path, n_jobs=1).fit(x, y)
    for name in ("params", "trial", "n_resources", "mean_test_score", "split2_test_score"):
        assert list(search.cv_results_[name]) == list(here.cv_results_[name])
    assert search.experiment_.state == "completed"
    best = search.experiment_.best_checkpoint()
    estimators = pickle.loads((best.directory / "estimators.pkl").read_bytes())
    assert [len(forest.estimators_) for forest in estimators] == [best.length] * 3
    assert pickle.loads(pickle.dumps(search)).experiment_.id == 1
    assert not list((tmp_path / "sklearn").iterdir())


SCRIPT = """
import os, signal, subprocess
import pandas, scipy.sparse
from sklearn.datasets import load_iris
from helper import Base
import ashwood

class Tree(Base):  # of __main__, so it cannot be imported
    fits = 0

    def fit(self, x, y, **params):
        if os.getpid() != DRIVER:
            Tree.fits += 1
            if Tree.fits == 12 and not os.path.exists("interrupted"):
                open("interrupted", "w").close()
                os.kill(DRIVER, signal.SIGINT)
            elif Tree.fits == 13 and os.path.exists("continued") and not os.path.exists("killed"):
                open("killed", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(x, y, **params)

def score(estimator, x, y):
    return estimator.score(x, y)

def fail(estimator, x, y):
    1 / (os.getpid() - DRIVER) and 1 / 0

DRIVER = os.getpid()
x, y = load_iris(return_X_y=True)
frame = pandas.DataFrame(x, columns=list("abcd"))
space = {"max_depth": [1, 2, 3, 4], "min_samples_leaf": ashwood.Int(1, 9)}
search = ashwood.sklearn.AshwoodSearchCV(
    Tree(random_state=0), space, max_trials=8, divisor=2, cv=3, random_state=0, scoring=score, error_score="raise"
)
expected = search.fit(frame, y).cv_results_["mean_test_score"]
search.set_params(home="home")
try:
    search.fit(frame, y)
except KeyboardInterrupt as error:
    print(error)
    processes = subprocess.run(["pgrep", "-P", str(DRIVER)], stdout=subprocess.PIPE, text=True).stdout.split()
    print(len(processes), "workers left")
open("continued", "w").close()
search.fit(frame, y)
print("experiment", search.experiment_.id, expected.tolist() == search.cv_results_["mean_test_score"].tolist())
print(search.feature_names_in_.tolist(), search.predict(frame[:1]))
search.set_params(home=None, n_jobs=2, scoring=fail)
search.fit(scipy.sparse.csr_array(x), y)
"""


def test_script_without_main_guard_is_interrupted_killed_and_shows_errors(tmp_path: Path) -> None:
    """One script does it all, because each search in workers imports scikit-learn again."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "helper.py").write_text("from sklearn.tree import DecisionTreeClassifier as Base\n")
    (code / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(code / "script.py")], cwd=tmp_path, capture_output=True, text=True)
    interrupted, *lines = done.stdout.splitlines() or [""]
    assert interrupted.endswith("was interrupted; fit() with the same home continues it"), done.stderr
    assert lines == ["0 workers left", "experiment 1 True", "['a', 'b', 'c', 'd'] [0]"], done.stderr
    assert (tmp_path / "killed").exists()
    assert "ZeroDivisionError: division by zero" in done.stderr.splitlines()
    assert "In a worker process:" in done.stderr


# -- partial_fit ----------------------------------------------------------------------------------


def train_example(trial: ashwood.Trial) -> None:
    kit.load_example("sklearn").train(trial)


def test_pauses_and_kills_do_not_change_partial_fit(tmp_path: Path) -> None:
    hparams = {"units": 8, "layers": 1, "learning_rate": ashwood.Log(-3, -1), "alpha": 1e-4, "batch_size": 64}
    kit.assert_resumes(train_example, tmp_path, hparams=hparams, metric="log_loss", max_length={"epochs": 8})


def test_example_runs(tmp_path: Path) -> None:
    kit.run_example("sklearn", tmp_path, "searcher.max_trials=4", "searcher.max_length.epochs=4")


def fit_standalone(make: Any, hparams: dict[str, Any], length: dict[str, Any] | None = None, **settings: Any) -> Any:
    valid = settings.pop("valid", IRIS)
    trial = ashwood.get_trial(hparams=hparams, **length or {"epochs": 3})
    return ashwood.sklearn.partial_fit(trial, make, IRIS[0], IRIS[1], valid, **settings)


def test_partial_fit_without_experiment_reports_scores(capsys: pytest.CaptureFixture[str]) -> None:
    estimator = fit_standalone(SGDClassifier, {"loss": "log_loss", "alpha": 1e-3}, batch_size=16)
    assert estimator.t_ == 3 * 150 + 1
    assert estimator.random_state is not None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["1 epoch", "2 epochs", "3 epochs"]
    assert all("score=" in line and "log_loss=" in line for line in lines)
    fit_standalone(partial(SGDClassifier, random_state=3), {}, {"steps": 1}, scoring=["accuracy", "f1_macro"])
    assert "accuracy=" in (out := capsys.readouterr().out)
    assert "f1_macro=" in out
    assert "log_loss" not in out


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (SGDClassifier, {"valid": None}, r"valid must be \(X_valid, y_valid\)"),
        (SGDClassifier, {"length": {"batches": 3}}, "cannot count batches: write max_length: {epochs: N} or N"),
        (LogisticRegression, {}, "has no partial_fit"),
    ],
)
def test_partial_fit_refuses_what_cannot_work(make: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingCodeError, match=words):
        fit_standalone(make, {}, **settings)


def test_partial_fit_divides_sample_weight_into_batches() -> None:
    weight = np.where(IRIS[1] == 2, 0.0, 1.0)
    estimator = fit_standalone(SGDClassifier, {}, sample_weight=weight, batch_size=50)
    assert 2 not in estimator.predict(IRIS[0])
