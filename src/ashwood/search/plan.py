"""How many rungs, brackets and trials a search has: exact arithmetic, no floats.

Floats are a known source of off-by-one rungs here: log(1000)/log(10) is 2.9999999999999996.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ashwood.search.settings import Method, Mode, SearchSettings

DEFAULT_NUM_RUNGS = 5


@dataclass(frozen=True, slots=True)
class BracketPlan:
    """One bracket before it starts.

    Attributes:
        lengths: the rungs' total lengths, rising; the last is max_length.
        trials: how many trials it creates, replacements of invalid ones aside.
        share: how many trials at once it is entitled to, relative to the other brackets.
        weight: how many trials it creates, relative to the other brackets.
    """

    lengths: tuple[int, ...]
    trials: int
    share: int
    weight: Fraction = field(default=Fraction(1), compare=False)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A whole search before it starts.

    Attributes:
        brackets: the most aggressive (most rungs) first.
        dropped: the numbers of rungs of brackets that max_trials is too small for.
        max_concurrent_trials: raised to the number of brackets where it was less; 0: no bound.
    """

    brackets: tuple[BracketPlan, ...]
    dropped: tuple[int, ...]
    max_concurrent_trials: int


def floor_log(base: Fraction, value: int, most: int | None = None) -> int:
    """The largest k with base**k <= value, for base > 1 and value >= 1; no more than ``most``, where given."""
    exponent, power = 0, base
    while power <= value and exponent != most:
        exponent += 1
        power *= base
    return exponent


def rung_limit(divisor: Fraction, max_length: int, most: int | None = None) -> int:
    """The most rungs that a longest length leaves room for: 1 + floor(log_d L); about ``most`` do, where given."""
    return 1 + floor_log(divisor, max_length, most)


def rung_lengths(max_length: int, divisor: Fraction, rungs: int) -> tuple[int, ...]:
    """The total length of every rung of a bracket: ceil(L / d**(R-1-i)), equal ones merged.

    Rounded up, because users are promised that no trial is judged before L / d**(R-1).
    """
    exact = (Fraction(max_length) / divisor ** (rungs - 1 - i) for i in range(rungs))
    return tuple(sorted({-(-length.numerator // length.denominator) for length in exact}))


def plan_search(settings: SearchSettings) -> SearchPlan:
    """The brackets of a search and the trials and concurrency of each."""
    counts = sorted(_bracket_rungs(settings), reverse=True)
    kept, trials = list(counts), _share_trials(settings.max_trials, counts, settings.divisor)
    while sum(trials) > settings.max_trials and len(kept) > 1:
        kept.pop()
        trials = _share_trials(settings.max_trials, kept, settings.divisor)
    concurrency = raise_concurrency(settings.max_concurrent_trials, len(kept))
    shares = share_slots(concurrency, len(kept))
    return SearchPlan(
        brackets=tuple(
            BracketPlan(
                rung_lengths(settings.max_length, settings.divisor, rungs), n, share, _weight(rungs, settings.divisor)
            )
            for rungs, n, share in zip(kept, trials, shares, strict=True)
        ),
        dropped=tuple(counts[len(kept) :]),
        max_concurrent_trials=concurrency,
    )


def _bracket_rungs(settings: SearchSettings) -> Sequence[int]:
    """The number of rungs of each bracket."""
    match settings.method:
        case Method.RANDOM | Method.GRID | Method.SINGLE:
            return [1]
        case Method.ASYNC_HALVING | Method.SYNC_HALVING:
            return [_max_rungs(settings, settings.num_rungs or DEFAULT_NUM_RUNGS)]
        case Method.ADAPTIVE_ASHA if settings.bracket_rungs:
            return settings.bracket_rungs
        case Method.ADAPTIVE_ASHA if settings.mode is Mode.AUTO:
            return [_all_rungs(settings)]
        case Method.ADAPTIVE_ASHA:
            most = _max_rungs(settings, settings.max_rungs)
            fewest = {Mode.AGGRESSIVE: most, Mode.STANDARD: (most - 1) // 2 + 1, Mode.CONSERVATIVE: 1}[settings.mode]
            return range(fewest, most + 1)


def _max_rungs(settings: SearchSettings, wanted: int) -> int:
    # No further than wanted: a divisor close to 1 has logarithms without end.
    by_length = 1 + floor_log(settings.divisor, settings.max_length, wanted)
    by_trials = 1 + floor_log(settings.divisor, settings.max_trials, wanted)
    return min(wanted, by_length, by_trials)


def _all_rungs(settings: SearchSettings) -> int:
    """Also the rung below the shortest that max_length is divided into: 1 + ceil(log_d L), within the same limits."""
    d, wanted = settings.divisor, settings.max_rungs
    by_length = rung_limit(d, settings.max_length, wanted)
    by_length += d ** (by_length - 1) < settings.max_length
    return min(wanted, by_length, 1 + floor_log(d, settings.max_trials, wanted))


def _weight(rungs: int, divisor: Fraction) -> Fraction:
    """For a roughly equal budget of every bracket: d**(R-1) / R."""
    return divisor ** (rungs - 1) / rungs


def _share_trials(max_trials: int, rungs: Sequence[int], divisor: Fraction) -> list[int]:
    """Trials per bracket by weight: at least 1, the rest to the first."""
    weights = [_weight(r, divisor) for r in rungs]
    total = sum(weights)
    trials = [max(1, int(max_trials * weight / total)) for weight in weights]
    trials[0] += max(0, max_trials - sum(trials))
    return trials


def share_trials_anew(max_trials: int, weights: Sequence[Fraction], least: Sequence[int]) -> list[int]:
    """Trials per bracket by weight, where each has created ``least`` already.

    Brackets that have more than their share keep what they have, and the others share the rest.
    ``max_trials`` is at least the sum of ``least``.
    """
    trials = list(least)
    sharing = list(range(len(weights)))
    while True:
        total = sum(weights[b] for b in sharing)
        rest = max_trials - sum(least[b] for b in range(len(weights)) if b not in sharing)
        exact = {b: int(rest * weights[b] / total) for b in sharing}
        short = [b for b in sharing if exact[b] < least[b]]
        if not short:
            break
        sharing = [b for b in sharing if b not in short]
    for b in sharing:
        trials[b] = exact[b]
    trials[sharing[0]] += max_trials - sum(trials)
    return trials


def raise_concurrency(max_concurrent_trials: int, brackets: int) -> int:
    """At least one trial at once for each bracket; 0 stays: no bound."""
    return max_concurrent_trials and max(max_concurrent_trials, brackets)


def share_slots(concurrency: int, brackets: int) -> list[int]:
    """How many trials at once each bracket is entitled to; without a bound (0) all to the same."""
    each, rest = divmod(concurrency or brackets, brackets)
    return [each + (b < rest) for b in range(brackets)]
