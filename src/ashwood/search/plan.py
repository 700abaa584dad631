"""The numbers of rungs, brackets and trials of a search, in exact arithmetic.

Floats would cause off-by-one rungs: log(1000)/log(10) is 2.9999999999999996.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ashwood.search.settings import Method, Mode, SearchSettings

DEFAULT_NUM_RUNGS = 5


@dataclass(frozen=True, slots=True)
class BracketPlan:
    """The plan of a bracket.

    Attributes:
        lengths: total lengths of the rungs, rising; the last is max_length.
        trials: number of trials that it creates, without replacements of invalid ones.
        share: number of trials that it may train at once, relative to the other brackets.
        weight: number of trials that it creates, relative to the other brackets.
    """

    lengths: tuple[int, ...]
    trials: int
    share: int
    weight: Fraction = field(default=Fraction(1), compare=False)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """The plan of a search.

    Attributes:
        brackets: its brackets, the most aggressive one (with most rungs) first.
        dropped: the numbers of rungs of the brackets for which max_trials is too small.
        max_concurrent_trials: at least the number of brackets, or 0 for no bound.
    """

    brackets: tuple[BracketPlan, ...]
    dropped: tuple[int, ...]
    max_concurrent_trials: int


def floor_log(base: Fraction, value: int, most: int | None = None) -> int:
    """Return the largest k with base**k <= value, for base > 1 and value >= 1, but at most ``most`` if it is given."""
    exponent, power = 0, base
    while power <= value and exponent != most:
        exponent += 1
        power *= base
    return exponent


def rung_limit(divisor: Fraction, max_length: int, most: int | None = None) -> int:
    """Return the largest number of rungs for a max_length L, 1 + floor(log_d L), but about ``most`` at most."""
    return 1 + floor_log(divisor, max_length, most)


def rung_lengths(max_length: int, divisor: Fraction, rungs: int) -> tuple[int, ...]:
    """Return the total length of each rung of a bracket, ceil(L / d**(R-1-i)), with equal ones merged.

    They are rounded up, because no trial may be judged before L / d**(R-1).
    """
    exact = (Fraction(max_length) / divisor ** (rungs - 1 - i) for i in range(rungs))
    return tuple(sorted({-(-length.numerator // length.denominator) for length in exact}))


def lengths_above(top: int, max_length: int, divisor: Fraction) -> tuple[int, ...]:
    """Return the total lengths of the rungs above ``top`` in a search that is extended to a greater max_length.

    They are the lengths ceil(top * d**k) below max_length, with equal ones merged, and then max_length.
    """
    lengths, exact = {max_length}, top * divisor
    while exact <= max_length:
        lengths.add(-(-exact.numerator // exact.denominator))
        exact *= divisor
    return tuple(sorted(lengths))


def plan_search(settings: SearchSettings) -> SearchPlan:
    """Return the brackets of a search, with the trials and the share of each."""
    lengths: Sequence[tuple[int, ...]]
    trials: Sequence[int]
    if settings.bracket_lengths:
        lengths, trials = settings.bracket_lengths, settings.bracket_trials
        counts = kept = [len(each) for each in lengths]
    else:
        counts = sorted(_bracket_rungs(settings), reverse=True)
        kept, trials = list(counts), _share_trials(settings.max_trials, counts, settings.divisor)
        while sum(trials) > settings.max_trials and len(kept) > 1:
            kept.pop()
            trials = _share_trials(settings.max_trials, kept, settings.divisor)
        lengths = [rung_lengths(settings.max_length, settings.divisor, rungs) for rungs in kept]
    concurrency = raise_concurrency(settings.max_concurrent_trials, len(kept))
    shares = share_slots(concurrency, len(kept))
    return SearchPlan(
        brackets=tuple(
            BracketPlan(rungs, n, share, _weight(count, settings.divisor))
            for rungs, count, n, share in zip(lengths, kept, trials, shares, strict=True)
        ),
        dropped=tuple(counts[len(kept) :]),
        max_concurrent_trials=concurrency,
    )


def _bracket_rungs(settings: SearchSettings) -> Sequence[int]:
    """Return the number of rungs of each bracket."""
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
    # The computation stops at ``wanted``, because with a divisor close to 1 the logarithm is very large.
    by_length = 1 + floor_log(settings.divisor, settings.max_length, wanted)
    by_trials = 1 + floor_log(settings.divisor, settings.max_trials, wanted)
    return min(wanted, by_length, by_trials)


def _all_rungs(settings: SearchSettings) -> int:
    """Return 1 + ceil(log_d L), limited as `_max_rungs` is: one rung more unless L is a power of d."""
    d, wanted = settings.divisor, settings.max_rungs
    by_length = rung_limit(d, settings.max_length, wanted)
    by_length += d ** (by_length - 1) < settings.max_length
    return min(wanted, by_length, 1 + floor_log(d, settings.max_trials, wanted))


def _weight(rungs: int, divisor: Fraction) -> Fraction:
    """Return d**(R-1) / R: with these weights, all brackets get about the same budget."""
    return divisor ** (rungs - 1) / rungs


def _share_trials(max_trials: int, rungs: Sequence[int], divisor: Fraction) -> list[int]:
    """Distribute the trials over the brackets by weight: at least 1 for each, and the remainder to the first."""
    weights = [_weight(r, divisor) for r in rungs]
    total = sum(weights)
    trials = [max(1, int(max_trials * weight / total)) for weight in weights]
    trials[0] += max(0, max_trials - sum(trials))
    return trials


def share_trials_anew(max_trials: int, weights: Sequence[Fraction], least: Sequence[int]) -> list[int]:
    """Distribute the trials over the brackets by weight, given the numbers ``least`` that they have already created.

    Brackets that have created more than their share keep it, and the others share the rest.
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
    """Return max_concurrent_trials, raised to at least one trial for each bracket, or 0 if there is no limit."""
    return max_concurrent_trials and max(max_concurrent_trials, brackets)


def share_slots(concurrency: int, brackets: int) -> list[int]:
    """Return how many trials each bracket may train at once; without a limit (0), all get the same share."""
    each, rest = divmod(concurrency or brackets, brackets)
    return [each + (b < rest) for b in range(brackets)]
