"""The figure of how much each hyperparameter decides whether a trial is among the best."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, TypeGuard

from ashwood.figures.extras import optuna
from ashwood.figures.hparams import ENOUGH, NO_HPARAMS, NOTHING
from ashwood.figures.theme import LIGHT, Theme, blank, compose, text_of
from ashwood.search.space import Categorical, Hyperparameter, Int
from ashwood.search.vocabulary import TrialId
from ashwood.views.history import History
from ashwood.views.hparams import Varied, varied
from ashwood.views.results import Comparable, Result, comparable
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Importance of hyperparameters"
FEWEST = 20
"""Least number of results at one length; the importance computed from fewer is noise."""

# More results hardly change the answer, and the time that optuna takes grows with their number.
_MOST = 1_500
# PED-ANOVA compares the best tenth with all results.  With fewer than five in that tenth, take a larger share.
_QUANTILE, _FEWEST_BEST = 0.1, 5
_SHOWN = 15


def draw_importance(history: History, *, theme: Theme = LIGHT) -> Figure:
    """Return a figure of the importance of each hyperparameter for being among the best trials.

    The shares add up to 1.  Only results at one length are compared: the longest with at least `ENOUGH` results, or
    else the one with most.

    Source: Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces" (arXiv:2304.10255), as implemented in Optuna.

    Raises:
        AshwoodError: plotly or optuna is not installed.
    """
    shown = varied(history.spec.space)
    if not shown:
        return blank(theme, TITLE, NO_HPARAMS)
    compared = comparable(history.ladder, ENOUGH)
    if compared is None:
        return blank(theme, TITLE, NOTHING)
    if len(compared.results) < FEWEST:
        words = f"Too few results yet: {len(compared.results)} of {FEWEST} needed at one length."
        return blank(theme, TITLE, words)
    sample = compared.results[:: ceil(len(compared.results) / _MOST)]
    quantile = max(_QUANTILE, _FEWEST_BEST / len(sample))
    shares = importances(history, sample, quantile)
    if shares is None:
        return blank(
            theme,
            TITLE,
            "The results don't differ, so no hyperparameter matters.",
            _sample_text(compared, sample, history),
        )
    order = sorted(shares, key=lambda name: (shares[name], name))[-_SHOWN:]
    first = f"; top {_SHOWN} of {len(shares)} hyperparameters" if len(shares) > _SHOWN else ""
    return compose(
        [
            {
                "type": "bar",
                "orientation": "h",
                "y": list(range(len(order))),
                "x": [shares[name] for name in order],
                "text": [f"{shares[name]:.0%}" for name in order],
                "textposition": "outside",
                "cliponaxis": False,
                "hovertext": [f"{text_of(name)}: {shares[name]:.1%}" for name in order],
                "hoverinfo": "text",
                "marker": {"color": [theme.accent if name == order[-1] else theme.faint for name in order]},
            }
        ],
        theme,
        TITLE,
        f"How much each decides whether a trial is in the top {quantile:.0%} "
        f"(PED-ANOVA; {_sample_text(compared, sample, history)}{first})",
        height=130 + 30 * max(3, len(order)),
        margin={"r": 56},
        bargap=0.35,
        showlegend=False,
        uirevision="importance",
        xaxis={"tickformat": ".0%", "range": [0, max(shares.values()) * 1.02], "title": {"text": "share"}},
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(order))),
            "ticktext": [text_of(name, 28) for name in order],
            "showgrid": False,
            "ticks": "",
        },
    )


def _sample_text(compared: Comparable, sample: Sequence[Result], history: History) -> str:
    count, length = len(compared.results), format_length(compared.length, history.spec.unit)
    of = f"{len(sample):,} of {count:,} results" if len(sample) < count else format_length(count, "results")
    return f"{of} at {length}"


def importances(history: History, results: Sequence[Result], quantile: float) -> Mapping[str, float] | None:
    """Return the importance of each hyperparameter, which add up to 1, or None if no hyperparameter matters.

    Args:
        history: the views of the experiment.
        results: the results to compare.
        quantile: the share of results, from 0 to 1, that are the best ones.

    Raises:
        AshwoodError: optuna is not installed, or it is too old.
    """
    library = optuna()
    shown = varied(history.spec.space)
    distributions = {each.name: _distribution(library, each) for each in shown}
    sign = 1.0 if history.spec.smaller_is_better else -1.0
    trials = []
    for result in results:
        values = _values(shown, history, result.trial)
        if values is not None:
            trials.append(
                library.trial.create_trial(params=values, distributions=distributions, value=sign * result.metric)
            )
    verbosity = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = library.create_study(storage=library.storages.InMemoryStorage())
            study.add_trials(trials)
            evaluator = library.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
            found = library.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    finally:
        library.logging.set_verbosity(verbosity)
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else None


def _distribution(library: Any, shown: Varied) -> Any:
    """Return the Optuna distribution of a hyperparameter.

    Categories are given as their indices, and other numbers than plain integers as positions from 0 to 1 in the
    hyperparameter's own scale, so that logarithmic ones need no special case.  Ordered categories are positions, too.
    """
    kind = shown.kind
    if isinstance(kind, Categorical) and not kind.ordered:
        return library.distributions.CategoricalDistribution([str(place) for place in range(len(kind.vals))])
    if _is_plain(kind):
        return library.distributions.IntDistribution(kind.minval, kind.maxval)
    return library.distributions.FloatDistribution(0.0, 1.0)


def _is_plain(kind: Hyperparameter) -> TypeGuard[Int]:
    return isinstance(kind, Int) and kind.step is None and not kind.log


def _values(shown: Sequence[Varied], history: History, trial: TrialId) -> dict[str, Any] | None:
    values = {}
    hparams = history.progress.trials.rows[trial].hparams
    for each in shown:
        number = each.number(hparams)
        if number is None:
            return None
        values[each.name] = _place(each, number)
    return values


def _place(shown: Varied, number: float) -> Any:
    kind = shown.kind
    if isinstance(kind, Categorical) and not kind.ordered:
        return str(int(number))
    if _is_plain(kind):
        return min(max(int(number), kind.minval), kind.maxval)
    return shown.position(number)
