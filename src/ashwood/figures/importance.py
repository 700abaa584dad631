"""Which hyperparameters decide whether a trial is among the best."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from ashwood.figures.extras import optuna
from ashwood.figures.hparams import ENOUGH, NO_HPARAMS, NOTHING
from ashwood.figures.theme import LIGHT, Theme, blank, compose, text_of
from ashwood.search.space import Categorical, Int
from ashwood.search.vocabulary import TrialId
from ashwood.views.chronicle import Chronicle
from ashwood.views.hparams import Varied, varied
from ashwood.views.results import Comparable, Result, comparable
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Importance of hyperparameters"
FEWEST = 20
"""Fewer results at one length say nothing."""

# More results hardly change the answer, and optuna takes its time with each.
_MOST = 1_500
# PED-ANOVA compares the best tenth with all, and wants five trials in it at least.
_QUANTILE, _FEWEST_BEST = 0.1, 5
_SHOWN = 15


def draw_importance(told: Chronicle, *, theme: Theme = LIGHT) -> Figure:
    """What each hyperparameter matters for being among the best, by PED-ANOVA, as shares of one.

    Trials that trained equally long are compared: at the longest length at which there are enough of them.

    Source: Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces" (arXiv:2304.10255), as implemented in optuna.

    Raises:
        AshwoodError: plotly or optuna is not installed.
    """
    shown = varied(told.spec.space)
    if not shown:
        return blank(theme, TITLE, NO_HPARAMS)
    known = comparable(told.timeline, ENOUGH)
    if known is None:
        return blank(theme, TITLE, NOTHING)
    if len(known.results) < FEWEST:
        words = f"Too few results yet: {FEWEST} at one length are needed, there are {len(known.results)}."
        return blank(theme, TITLE, words)
    sample = known.results[:: ceil(len(known.results) / _MOST)]
    quantile = max(_QUANTILE, _FEWEST_BEST / len(sample))
    shares = importances(told, sample, quantile)
    if shares is None:
        return blank(
            theme, TITLE, "The results don't differ, so no hyperparameter matters.", _words(known, sample, told)
        )
    order = sorted(shares, key=lambda name: (shares[name], name))[-_SHOWN:]
    first = f"; the first {_SHOWN} of {len(shares)}" if len(shares) > _SHOWN else ""
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
        f"for being among the best {quantile:.0%} (PED-ANOVA); {_words(known, sample, told)}{first}",
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


def _words(known: Comparable, sample: Sequence[Result], told: Chronicle) -> str:
    count, length = len(known.results), format_length(known.length, told.spec.unit)
    of = f"{len(sample):,} of {count:,} results" if len(sample) < count else format_length(count, "results")
    return f"{of} after {length}"


def importances(told: Chronicle, results: Sequence[Result], quantile: float) -> Mapping[str, float] | None:
    """The share of each hyperparameter, 1 in all; None: nothing matters.

    Raises:
        AshwoodError: optuna is not installed.
    """
    library = optuna()
    shown = varied(told.spec.space)
    distributions = {each.name: _distribution(library, each) for each in shown}
    sign = 1.0 if told.spec.smaller_is_better else -1.0
    trials = []
    for result in results:
        values = _values(shown, told, result.trial)
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
    """Where values lie in the hyperparameter's own scale, from 0 to 1; categories by their places."""
    kind = shown.kind
    if isinstance(kind, Categorical):
        return library.distributions.CategoricalDistribution([str(place) for place in range(len(kind.vals))])
    if isinstance(kind, Int):
        return library.distributions.IntDistribution(kind.minval, kind.maxval)
    return library.distributions.FloatDistribution(0.0, 1.0)


def _values(shown: Sequence[Varied], told: Chronicle, trial: TrialId) -> dict[str, Any] | None:
    values = {}
    hparams = told.progress.trials.rows[trial].hparams
    for each in shown:
        number = each.number(hparams)
        if number is None:
            return None
        values[each.name] = _place(each, number)
    return values


def _place(shown: Varied, number: float) -> Any:
    kind = shown.kind
    if isinstance(kind, Categorical):
        return str(int(number))
    if isinstance(kind, Int):
        return min(max(int(number), kind.minval), kind.maxval)
    return shown.position(number)
