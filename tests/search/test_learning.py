from collections import Counter
from collections.abc import Callable, Iterable
from fractions import Fraction
from math import inf, nan

import pytest

from ashwood.search.learning import ENOUGH_TIES, LearningBracket
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Created, CreatedHedged, CreatedHigher, Job

Loss = Callable[[int, int], float]


def auto(trials: int = 400, length: int = 64, **more: object) -> SearchSettings:
    fields: dict[str, object] = {
        "divisor": Fraction(2),
        "max_rungs": AUTO_DEFAULTS.max_rungs,
        "max_concurrent_trials": 4,
    } | more
    return SearchSettings(
        method=Method.ADAPTIVE_ASHA,
        mode=Mode.AUTO,
        max_length=length,
        max_trials=trials,
        **fields,  # type: ignore[arg-type]
    )


def bracket_of(search: Tournament) -> LearningBracket:
    (bracket,) = search.brackets
    assert isinstance(bracket, LearningBracket)
    return bracket


def play(search: Tournament, loss: Loss, *, steps: int | None = None) -> list[Job]:
    """One worker; returns its jobs."""
    jobs: list[Job] = []
    while (steps is None or len(jobs) < steps) and (job := search.next_job()) is not None:
        jobs.append(job)
        search.report(job.trial, job.target, loss(job.trial, job.target))
    return jobs


def steady(trial: int, _length: int) -> float:
    return float(trial * 7919 % 1000)


def reversing(trial: int, length: int) -> float:
    """What was good after one step is bad ever after."""
    return steady(trial, length) if length > 1 else -steady(trial, length)


def entered(jobs: Iterable[Job]) -> dict[int, int]:
    """The rung at which each trial is first compared."""
    news = [(job.trial, job.why) for job in jobs if isinstance(job.why, Created | CreatedHigher | CreatedHedged)]
    return {trial: 0 if isinstance(why, Created) else why.rung for trial, why in news}


def test_rung_that_predicts_the_next_is_kept() -> None:
    search = Tournament(auto())
    jobs = play(search, steady)
    assert bracket_of(search).entry == 0
    assert set(entered(jobs).values()) == {0, 1}


def test_half_of_the_training_skips_the_first_rung() -> None:
    search = Tournament(auto())
    jobs = play(search, steady)
    lengths = {job.trial: job.target for job in jobs}
    trained = Counter[int]()
    for trial, rung in entered(jobs).items():
        trained[rung] += lengths[trial]
    assert abs(trained[0] - trained[1]) <= 64


def test_first_rung_gets_all_new_trials_without_hedging() -> None:
    search = Tournament(auto(hedged=False))
    assert set(entered(play(search, steady)).values()) == {0}


@pytest.mark.parametrize("hedged", [False, True])
def test_rung_that_predicts_nothing_is_skipped_and_the_next_is_not(hedged: bool) -> None:
    search = Tournament(auto(hedged=hedged))
    jobs = play(search, reversing)
    bracket = bracket_of(search)
    assert bracket.entry == 1
    skipping = [job for job in jobs if isinstance(job.why, CreatedHigher)]
    assert skipping
    assert {(job.target, job.why.rung) for job in skipping if isinstance(job.why, CreatedHigher)} == {(2, 1)}
    assert "rung 0 did not predict" in str(skipping[0].why)
    assert len(bracket.rungs[0]) <= 36  # No more results than are needed to find out.
    assert bracket.arrivals[0] == 400
    assert bracket.arrivals[1] == len(bracket.rungs[1]) + sum(rung > 1 for rung in entered(jobs).values())


@pytest.mark.parametrize("same", [0.5, nan, inf])
def test_rung_with_equal_results_is_skipped_at_once(same: float) -> None:
    search = Tournament(auto())
    jobs = play(search, lambda trial, length: steady(trial, length) if length > 4 else same)
    bracket = bracket_of(search)
    assert bracket.entry == 3
    assert [rung.length for rung in bracket.rungs[:4]] == [1, 2, 4, 8]
    assert max(len(rung) for rung in bracket.rungs[:3]) <= 3 * ENOUGH_TIES
    assert any(rung == 3 for rung in entered(jobs).values())


def test_few_ties_are_no_reason_to_skip_a_rung() -> None:
    search = Tournament(auto())
    play(search, lambda trial, length: float(trial % 4 and steady(trial, length)))
    assert bracket_of(search).entry == 0


def test_search_without_any_rung_to_trust_trains_all_new_trials_to_the_end() -> None:
    search = Tournament(auto(60, 8))
    jobs = play(search, lambda _trial, _length: 0.0)
    assert bracket_of(search).entry == len(bracket_of(search).rungs) - 1
    assert jobs[-1].target == 8


def test_expected_results_are_about_those_of_a_hedged_search() -> None:
    search = Tournament(auto())
    play(search, steady, steps=200)
    bracket = bracket_of(search)
    expected = bracket.expected_results()
    play(search, steady)
    assert expected[:2] == pytest.approx([len(rung) for rung in bracket.rungs[:2]], rel=0.3)


@pytest.mark.parametrize("steps", [5, 60, 150])
def test_what_was_learned_survives_a_restore(steps: int) -> None:
    search, other = Tournament(auto()), Tournament(auto())
    play(search, reversing, steps=steps)
    other.restore(search.snapshot())
    assert other.snapshot() == search.snapshot()
    assert play(other, reversing) == play(search, reversing)


@pytest.mark.parametrize(
    ("length", "rungs"), [(51, (1, 2, 4, 9, 21, 51)), (1, (1,)), (2, (1, 2)), (1000, (5, 11, 26, 64, 160, 400, 1000))]
)
def test_there_is_a_rung_below_the_shortest_that_divides_max_length(length: int, rungs: tuple[int, ...]) -> None:
    search = Tournament(auto(1000, length, divisor=AUTO_DEFAULTS.divisor))
    assert tuple(rung.length for rung in search.brackets[0].rungs) == rungs


def test_promising_trials_are_the_best_of_the_greatest_length_known_well() -> None:
    search = Tournament(auto())
    assert search.promising(6, 4, 24) == []
    play(search, steady, steps=200)
    known = [rung for rung in search.brackets[0].rungs if len(rung) >= 6]
    best = search.promising(6, 4, 24)
    assert best == known[-1].best(max(2, -(-len(known[-1]) // 4)))
    assert [steady(trial, 0) for trial in best] == sorted(steady(trial, 0) for trial in best)
