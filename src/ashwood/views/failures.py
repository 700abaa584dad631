"""Failed and diverged trials, grouped by cause.

A trial has failed if it ended because of an error.  It has diverged if the metric in its latest report is NaN or
infinite.  For each cause, the hyperparameters are searched for a value or a range that all of its trials have and few
other trials have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from enum import StrEnum
from itertools import compress, zip_longest
from math import isnan
from typing import Any, NamedTuple

from ashwood.experiment.failures import VARIES
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.space import ABSENT
from ashwood.search.vocabulary import TrialId
from ashwood.views.hparams import Varied, varied
from ashwood.views.trials import TrialRow, TrialTable, has_diverged
from ashwood.views.wording import NULL, format_setting

_LONGEST_CAUSE = 200
_ADVICE = " (this worker process had trained before;"
"""Beginning of the advice in the first line of some errors of old logs, although it is not a part of their cause."""
_MOST_SHARED = 3
_CHANCE = 0.01
"""Largest probability with which a property that a group shares may be a coincidence."""


class FailureKind(StrEnum):
    """Whether trials ended because of an error, or reported a metric that is not finite."""

    FAILED = "failed"
    DIVERGED = "diverged"


class Shared(NamedTuple):
    """A property of hyperparameters that all trials of a group have.

    Attributes:
        name: name of the hyperparameter, with dots for nesting.
        sign: ``=``, or ``>=`` or ``<=`` for a range.
        value: the value, or the end of the range.
        others: number of other trials with a report that have the property, too.
    """

    name: str
    sign: str
    value: Any
    others: int

    def __str__(self) -> str:
        return f"{self.name} {_SIGNS[self.sign]} {format_setting(self.value)}"

    @property
    def condition(self) -> str:
        """The property as a condition for `ashwood.views.table.select`."""
        return f"hparams.{self.name}{self.sign}{NULL if self.value is None else self.value}"


_SIGNS = {"=": "=", ">=": "≥", "<=": "≤"}


class FailureGroup(NamedTuple):
    """Trials that failed or diverged for one cause.

    Attributes:
        kind: whether they failed or diverged.
        cause: first line of their error without the parts that differ, or ``loss is NaN``.
        trials: their numbers, rising.
        shared: properties that all of them have and that are probably no coincidence, the most distinctive first.
    """

    kind: FailureKind
    cause: str
    trials: Sequence[TrialId]
    shared: Sequence[Shared]

    def conditions(self, table: TrialTable, metric: str) -> tuple[list[str], str]:
        """Return conditions for `ashwood.views.table.select` and a text, which together select the trials."""
        first = table.rows[self.trials[0]]
        if self.kind is FailureKind.DIVERGED:
            same = [f"last.{metric}=nan"] if isnan(first.metrics[metric]) else [f"last.{metric}!=nan"]
            return ["diverged=true", "state!=errored", *same], ""
        # The cause of a trial without an error is a text of Ashwood, which is not in the table.
        return ["state=errored"], max(self.cause.split("…"), key=len).strip() if first.errors else ""

    def __str__(self) -> str:
        """Return a line such as ``7 × CUDA out of memory, all with layers = 6``."""
        if len(self.trials) == 1:
            return f"trial {self.trials[0]}: {self.cause}"
        shared = " and ".join(map(str, self.shared))
        return f"{len(self.trials):,} × {self.cause}{', all with ' if shared else ''}{shared}"


def group_failures(table: TrialTable, spec: ExperimentSpec) -> list[FailureGroup]:
    """Return the failed and diverged trials grouped by cause, the largest group first."""
    found: defaultdict[tuple[FailureKind, tuple[str, ...]], list[TrialRow]] = defaultdict(list)
    for row in table.rows.values():
        if (kind := _kind_of(row, spec.metric)) is not None:
            found[kind, _words(_cause(row, kind, spec.metric))].append(row)
    if not found:
        return []
    reported = [row for row in table.rows.values() if row.length]
    # Values are read once, because there can be many groups and 100,000 trials.
    hparams = [(each, [each.value(row.hparams) for row in reported]) for each in varied(spec.space)]
    groups = [
        FailureGroup(
            kind,
            _common(_cause(row, kind, spec.metric) for row in rows),
            tuple(sorted(row.id for row in rows)),
            _shared(rows, reported, hparams),
        )
        for (kind, _), rows in found.items()
    ]
    return sorted(groups, key=lambda group: (-len(group.trials), group.trials[0]))


def _kind_of(row: TrialRow, metric: str) -> FailureKind | None:
    if row.state is TrialState.ERRORED:
        return FailureKind.FAILED
    return FailureKind.DIVERGED if has_diverged(row, metric) else None


def _cause(row: TrialRow, kind: FailureKind, metric: str) -> str:
    if kind is FailureKind.DIVERGED:
        return f"{metric} is {'NaN' if isnan(row.metrics[metric]) else 'infinite'}"
    if not row.errors:
        return "it exited before it had trained to the length of its job"
    return headline(row.errors[-1])[:_LONGEST_CAUSE].strip()


def headline(error: str) -> str:
    """Return the first line of an error, without advice that is not a part of its cause."""
    return error.strip().partition("\n")[0].partition(_ADVICE)[0]


def _words(cause: str) -> tuple[str, ...]:
    """Return the parts of a cause between its numbers, which are equal in causes of the same kind."""
    return tuple(VARIES.split(cause)[:: VARIES.groups + 1])


def _common(causes: Iterable[str]) -> str:
    """Return the text of causes that differ in numbers only, with … in place of numbers that differ."""
    causes = list(dict.fromkeys(causes))
    numbers = [[found[0] for found in VARIES.finditer(cause)] for cause in causes]
    same = [each[0] if len(set(each)) == 1 else "…" for each in zip(*numbers, strict=True)]
    return "".join(part for pair in zip_longest(_words(causes[0]), same, fillvalue="") for part in pair)


# -- hyperparameters -----------------------------------------------------------------------------------


def _shared(
    rows: Sequence[TrialRow], reported: Sequence[TrialRow], hparams: Sequence[tuple[Varied, Sequence[Any]]]
) -> Sequence[Shared]:
    """Return what a group shares, if it is distinctive: the probability that this is a coincidence is small.

    ``hparams`` has each hyperparameter with its values in the trials with reports.
    """
    members = {row.id for row in rows}
    is_other = [row.id not in members for row in reported]
    found = []
    for hparam, values in hparams:
        own = [hparam.value(row.hparams) for row in rows]
        if not _may_share(own):
            continue
        rest = list(compress(values, is_other))
        for shared in _candidates(hparam, own, rest):
            # The trials that have the property are at most twice as many as the group.
            chance = _coincidence(len(own), len(own) + shared.others, len(own) + len(rest))
            if shared.others <= len(own) and 2 * len(hparams) * chance <= _CHANCE:
                found.append((shared.others, chance, shared))
    found.sort(key=lambda each: each[:2])
    # Of two ranges of one hyperparameter, the more distinctive one remains.
    best = {shared.name: shared for _, _, shared in reversed(found)}
    return tuple(shared for _, _, shared in found if best[shared.name] is shared)[:_MOST_SHARED]


def _may_share(own: Sequence[Any]) -> bool:
    """Return whether values are equal, or numbers, so that they can have a property in common."""
    return all(map(_is_number, own)) or len({_key(value) for value in own}) == 1


def _candidates(hparam: Varied, own: Sequence[Any], rest: Sequence[Any]) -> Iterable[Shared]:
    """Yield the properties of a hyperparameter that all values in ``own`` have."""
    if len({_key(value) for value in own}) == 1:
        if own[0] is not ABSENT:
            yield Shared(hparam.name, "=", own[0], sum(_key(value) == _key(own[0]) for value in rest))
        return
    if not all(map(_is_number, own)):
        return
    numbers = [value for value in rest if _is_number(value)]
    low, high = min(own), max(own)
    for sign, end in ((">=", low), ("<=", high)):
        beyond = sum(value >= end for value in numbers) if sign == ">=" else sum(value <= end for value in numbers)
        if beyond <= len(own):  # `_shared` needs no others, and a short end takes long to find.
            yield Shared(hparam.name, sign, _short_end(sign, end, numbers, beyond), beyond)


def _short_end(sign: str, end: float, numbers: Sequence[float], count: int) -> float:
    """Return the end of a range with few digits, such that the range contains no more of the other numbers."""
    rounding = ROUND_FLOOR if sign == ">=" else ROUND_CEILING
    if isinstance(end, float):
        for digits in (2, 3, 4):
            short = float(Context(prec=digits, rounding=rounding).plus(Decimal(end)))
            if sum(value >= short if sign == ">=" else value <= short for value in numbers) == count:
                return short
    return end


def _coincidence(size: int, matching: int, total: int) -> float:
    """Return the probability that ``size`` trials drawn from ``total`` all are among the ``matching`` ones."""
    chance = 1.0
    for drawn in range(size):
        chance *= (matching - drawn) / (total - drawn)
        if chance < 1e-12:
            break
    return chance


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(value: Any) -> tuple[str, str]:
    # 1, 1.0 and True are equal in Python, but they are different values of a hyperparameter, and lists have no hash.
    return (type(value).__name__, repr(value))
