from collections.abc import Callable
from fractions import Fraction

import pytest

from ashwood.search.learning import ENOUGH, LearningBracket
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Created, CreatedHigher, Job

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


def test_a_rung_that_foretells_the_next_is_kept() -> None:
    search = Tournament(auto())
    jobs = play(search, steady)
    assert bracket_of(search).entry == 0
    assert all(isinstance(job.why, Created) for job in jobs if job.target == 1)


def test_a_rung_that_foretells_nothing_is_skipped_and_the_next_is_not() -> None:
    search = Tournament(auto())
    jobs = play(search, reversing)
    bracket = bracket_of(search)
    assert bracket.entry == 1
    skipping = [job for job in jobs if isinstance(job.why, CreatedHigher)]
    assert skipping
    assert {(job.target, job.why.rung) for job in skipping if isinstance(job.why, CreatedHigher)} == {(2, 1)}
    assert "rung 0 did not predict" in str(skipping[0].why)
    # It took no more than was needed to know.
    assert len(bracket.rungs[0]) <= 2 * ENOUGH + 4
    assert bracket.arrivals[0] == 400
    assert bracket.arrivals[1] == len(bracket.rungs[1])


def test_the_training_given_out_counts_skipped_rungs_too() -> None:
    search = Tournament(auto())
    lengths: dict[int, int] = {}
    for job in play(search, reversing):
        lengths[job.trial] = job.target
    assert bracket_of(search).given == sum(lengths.values())


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
