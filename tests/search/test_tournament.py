"""Searches in small: who goes on, who waits, what the reasons say, and what it costs."""

from __future__ import annotations

import json
from fractions import Fraction
from math import inf, nan
from random import Random
from typing import Any

import pytest

from ashwood.errors import SearchError
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import (
    BracketFinished,
    Created,
    Dropped,
    Exit,
    Job,
    LastChance,
    Pause,
    Promote,
    Promoted,
    ReachedEnd,
    Retired,
    Stop,
    Waits,
)


def search(method: Method = Method.ASYNC_HALVING, **settings: Any) -> Tournament:
    return Tournament(SearchSettings(method=method, **{"max_length": 4, "divisor": Fraction(2), **settings}))


def three_rungs(trials: int, method: Method = Method.ADAPTIVE_ASHA, **settings: Any) -> Tournament:
    """One bracket with rungs at 1, 2 and 4, however few trials."""
    return search(method, max_trials=trials, bracket_rungs=(3,), num_rungs=3, **settings)


def create(of: Tournament, *losses: float) -> None:
    """As many trials as there are losses, which they report at the first rung."""
    jobs = [of.next_job() for _ in losses]
    for job, loss in zip(jobs, losses, strict=True):
        assert job is not None
        assert isinstance(job.why, Created)
        of.report(job.trial, job.target, loss)


# -- promotion ---------------------------------------------------------------------------------


def test_a_higher_rung_goes_first() -> None:
    one = three_rungs(8)
    create(one, 1.0, 2.0)
    assert one.next_job() == Job(0, 2, Promoted(0, 1, 2, 1))
    create(one, 3.0, 0.5)
    # Of four, two may go on and one has.
    assert one.next_job() == Job(3, 2, Promoted(0, 1, 4, 2))
    one.report(0, 2, 1.0)
    create(one, 0.1, 0.2)
    one.report(3, 2, 0.5)
    assert one.next_job() == Job(3, 4, Promoted(1, 1, 2, 1))
    assert one.next_job() == Job(4, 2, Promoted(0, 1, 6, 3))


def test_early_arrivals_may_be_displaced_and_nobody_is_called_back() -> None:
    one = three_rungs(6)
    create(one, 5.0, 6.0)
    assert one.next_job() == Job(0, 2, Promoted(0, 1, 2, 1))
    create(one, 1.0, 2.0, 3.0, 4.0)
    # Now the best three are trials 2, 3 and 4, and trial 0, on its way, isn't one of them.
    assert [one.next_job() for _ in range(3)] == [Job(t, 2, Promoted(0, r, 6, 3)) for t, r in ((2, 1), (3, 2), (4, 3))]


def test_ties_go_to_the_older_trial_and_nan_comes_after_infinity() -> None:
    one = three_rungs(8, Method.SYNC_HALVING, max_length=8)
    create(one, nan, inf, 1.0, -inf, 1.0, nan, 1e308, -1e308)
    order = [7, 2, 4, 6]
    assert [one.next_job() for _ in order] == [Job(t, 4, Promoted(0, r, 8, 4)) for r, t in enumerate(order, 1)]
    again = three_rungs(4, Method.SYNC_HALVING, divisor=Fraction(4, 3), max_length=99)
    create(again, nan, -inf, nan, inf)
    assert [job and job.trial for job in (again.next_job(), again.next_job(), again.next_job())] == [1, 3, 0]


def test_the_divisor_may_be_any_real_number_above_one() -> None:
    quotas = []
    for n in range(1, 11):
        one = search(Method.ADAPTIVE_ASHA, max_trials=n, bracket_rungs=(2,), divisor=Fraction(3, 2))
        jobs = [one.next_job() for _ in range(n)]
        verdicts = [one.report(job.trial, 3, 0.0) for job in jobs if job]
        quotas.append(verdicts[-1].why)
    assert quotas == [Waits(0, n, n, best) for n, best in enumerate((0, 1, 2, 2, 3, 4, 4, 5, 6, 6), 1)]


# -- last chances ------------------------------------------------------------------------------


def test_a_lone_trial_climbs_the_whole_ladder() -> None:
    one = three_rungs(1)
    create(one, nan)
    assert one.next_job() == Job(0, 2, LastChance(0, 1, 1))
    assert one.report(0, 2, nan) == Pause(Waits(1, 1, 1, 0))
    assert one.next_job() == Job(0, 4, LastChance(1, 1, 1))
    assert one.report(0, 4, nan) == Stop(ReachedEnd(4))
    assert one.done


def test_when_those_ahead_fail_the_next_best_gets_the_chance() -> None:
    one = three_rungs(3)
    create(one, 1.0, 2.0)
    assert one.next_job() == Job(0, 2, Promoted(0, 1, 2, 1))
    create(one, 3.0)
    one.exited(0, Exit.ERRORED)
    # Rung 1 holds one result, a failed one; the quota of rung 0 is used up.
    assert one.next_job() == Job(1, 2, LastChance(0, 2, 3))
    one.report(1, 2, 2.0)
    assert one.next_job() == Job(1, 4, Promoted(1, 1, 2, 1))
    one.exited(1, Exit.KILLED)
    assert one.next_job() == Job(2, 2, LastChance(0, 3, 3))
    # Trial 1 got here before it failed further on, and a tie goes to the older trial.
    assert one.report(2, 2, 2.0) == Pause(Waits(1, 2, 3, 1))
    assert one.next_job() == Job(2, 4, LastChance(1, 2, 3))


def test_a_bracket_of_which_everybody_failed_ends() -> None:
    for how in (Exit.ERRORED, Exit.KILLED, Exit.STOPPED):
        one = three_rungs(2)
        create(one, 1.0)
        one.exited(0, how)
        one.next_job()
        one.exited(1, how)
        assert one.done
        assert one.next_job() is None
        assert one.retired() == []


def test_killing_the_best_that_waits_makes_room_for_the_next() -> None:
    one = three_rungs(4, divisor=Fraction(4), max_length=16)
    create(one, 1.0, 2.0, 3.0)
    one.exited(0, Exit.KILLED)
    create(one, 4.0)
    assert one.next_job() == Job(1, 4, Promoted(0, 1, 4, 1))


# -- invalid hyperparameters -------------------------------------------------------------------


def test_who_turns_out_invalid_was_never_there() -> None:
    one = three_rungs(4, Method.SYNC_HALVING)
    create(one, 1.0, 2.0, 3.0, 4.0)
    assert [one.next_job(), one.next_job()] == [Job(0, 2, Promoted(0, 1, 4, 2)), Job(1, 2, Promoted(0, 2, 4, 2))]
    one.report(1, 2, 2.0)
    one.exited(0, Exit.INVALID)
    # A fresh one takes its place, and only then are rung 0 and, after it, rung 1 complete again.
    assert one.next_job() == Job(4, 1, Created(0, 4))
    assert one.next_job() is None
    one.report(4, 1, 3.5)
    assert one.next_job() == Job(2, 2, Promoted(0, 2, 4, 2))
    assert one.next_job() is None
    one.report(2, 2, 9.0)
    assert one.next_job() == Job(1, 4, Promoted(1, 1, 2, 1))


def test_a_replacement_that_is_better_than_all_goes_on_as_well() -> None:
    one = three_rungs(4, Method.SYNC_HALVING)
    create(one, 1.0, 2.0, 3.0, 4.0)
    one.next_job()
    one.next_job()
    one.exited(1, Exit.INVALID)
    one.report(0, 2, 1.0)
    create(one, 0.5)
    assert one.next_job() == Job(4, 2, Promoted(0, 1, 4, 2))


def test_an_invalid_grid_point_has_no_replacement() -> None:
    one = search(Method.GRID, max_trials=1)
    one.next_job()
    one.exited(0, Exit.INVALID)
    assert one.done


# -- the stopping variant ----------------------------------------------------------------------


def test_stopping_decides_at_once_and_for_good() -> None:
    one = three_rungs(6, stop_once=True)
    assert [one.next_job() for _ in range(3)] == [Job(t, 1, Created(0, t)) for t in range(3)]
    assert one.report(0, 1, 2.0) == Promote(2, Promoted(0, 1, 1, 1))
    assert one.report(1, 1, 3.0) == Stop(Dropped(0, 2, 2, 1))
    assert one.report(2, 1, 1.0) == Promote(2, Promoted(0, 1, 3, 1))
    with pytest.raises(SearchError, match="no job"):
        one.report(1, 2, 0.0)
    with pytest.raises(SearchError, match="already ended"):
        one.exited(1, Exit.KILLED)


def test_a_validation_past_several_rungs_counts_in_each() -> None:
    one = three_rungs(4, stop_once=True)
    for _ in range(4):
        one.next_job()
    assert one.report(0, 3, 1.0) == Promote(4, Promoted(1, 1, 1, 1))
    # It is the second of two in both rungs; the lower one is the reason.
    assert one.report(1, 2, 2.0) == Stop(Dropped(0, 2, 2, 1))
    # Whoever is past the end is there, whatever the rungs say.
    assert one.report(2, 7, 9.0) == Stop(ReachedEnd(4))
    assert one.report(3, 1, 1.5) == Promote(2, Promoted(0, 2, 4, 2))
    # Trial 1 counts in rung 1 as well, though it was dropped at rung 0.
    assert one.report(3, 2, 1.5) == Promote(4, Promoted(1, 2, 4, 2))


def test_the_last_of_a_stopping_bracket_goes_on_when_those_ahead_failed() -> None:
    one = three_rungs(2, stop_once=True)
    one.next_job()
    one.next_job()
    one.report(0, 1, 1.0)
    one.exited(0, Exit.ERRORED)
    assert one.report(1, 1, 2.0) == Promote(2, LastChance(0, 2, 2))


def test_stopping_retires_nobody() -> None:
    one = three_rungs(2, stop_once=True)
    for _ in range(2):
        one.next_job()
    one.report(0, 1, 1.0)
    one.report(1, 1, 2.0)
    one.report(0, 2, 1.0)
    one.report(0, 4, 1.0)
    assert one.done
    assert one.retired() == []


# -- brackets side by side ---------------------------------------------------------------------


def test_workers_go_to_the_bracket_that_uses_the_least_of_its_share() -> None:
    one = search(Method.ADAPTIVE_ASHA, max_trials=40, bracket_rungs=(3, 2, 1), max_concurrent_trials=4)
    assert [bracket.share for bracket in one.plan.brackets] == [2, 1, 1]
    taken = [job.why.bracket for job in (one.next_job() for _ in range(8)) if job and isinstance(job.why, Created)]
    assert sorted(taken[:4]) == [0, 0, 1, 2]
    assert sorted(taken) == [0, 0, 0, 0, 1, 1, 2, 2]


def test_one_worker_serves_all_brackets_in_turn() -> None:
    one = search(Method.ADAPTIVE_ASHA, max_trials=40, bracket_rungs=(3, 2, 1), max_concurrent_trials=3)
    served = []
    for _ in range(20):
        job = one.next_job()
        assert job is not None
        served.append(one.address(job.trial)[0])
        one.report(job.trial, job.target, float(job.trial))
    assert set(served[:3]) == {0, 1, 2}
    given = [bracket.given for bracket in one.brackets]
    assert max(given) - min(given) <= one.plan.brackets[0].lengths[-1]


def test_a_slot_that_its_bracket_cannot_use_goes_to_another() -> None:
    one = search(Method.ADAPTIVE_ASHA, max_trials=20, bracket_rungs=(2, 1), max_concurrent_trials=2)
    jobs = [one.next_job() for _ in range(20)]
    assert all(jobs)
    assert one.next_job() is None
    assert [one.address(trial)[0] for trial in range(20)].count(0) == one.plan.brackets[0].trials


def test_what_waits_is_closed_when_its_own_bracket_has_finished() -> None:
    one = search(Method.ADAPTIVE_ASHA, max_trials=6, bracket_rungs=(2, 1), max_concurrent_trials=6)
    jobs = [job for job in (one.next_job() for _ in range(6)) if job]
    first = [job.trial for job in jobs if one.address(job.trial)[0] == 0]
    for trial in first:
        one.report(trial, 2, float(trial))
    assert one.retired() == []
    while job := one.next_job():
        one.report(job.trial, job.target, 0.0)
    retired = one.retired()
    assert {trial for trial, _ in retired} == set(first[len(first) // 2 :])
    assert set(retired) <= {Retired(trial, BracketFinished(0)) for trial in first}
    assert one.retired() == []
    assert not one.done
    with pytest.raises(SearchError, match="already ended"):
        one.exited(retired[0].trial, Exit.KILLED)


# -- state -------------------------------------------------------------------------------------


def run(one: Tournament, luck: Random, steps: int, workers: int = 8) -> None:
    training = {trial: bracket.rungs[at].length for bracket in one.brackets for trial, at in bracket.training.items()}
    for _ in range(steps):
        while len(training) < workers and (job := one.next_job()):
            training[job.trial] = job.target
        if not training:
            return
        trial = luck.choice(sorted(training))
        verdict = one.report(trial, training.pop(trial), luck.random())
        if isinstance(verdict, Promote):
            training[trial] = verdict.target


def test_a_search_that_was_in_use_can_be_restored_too() -> None:
    used, saved = three_rungs(30), three_rungs(30)
    run(used, Random(1), 17)
    run(saved, Random(2), 9)
    used.restore(json.loads(json.dumps(saved.snapshot())))
    assert used.snapshot() == saved.snapshot()
    for one in (used, saved):
        run(one, Random(3), 1_000)
    assert used.snapshot() == saved.snapshot()
    assert used.done


def test_trials_retired_but_not_yet_named_survive_a_restore() -> None:
    other = search(max_trials=2, num_rungs=2)
    create(other, 1.0, 2.0)
    job = other.next_job()
    assert job is not None
    other.report(job.trial, job.target, 1.0)
    assert other.done
    restored = search(max_trials=2, num_rungs=2)
    restored.restore(json.loads(json.dumps(other.snapshot())))
    assert restored.retired() == other.retired() == [Retired(1, BracketFinished(0))]


# -- cost --------------------------------------------------------------------------------------


def test_a_call_costs_no_more_when_there_are_many_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in comparisons of what is ranked, not in seconds."""
    compared = 0

    class Loss(float):
        def __lt__(self, other: float) -> bool:
            nonlocal compared
            compared += 1
            return float(self) < float(other)

        def __gt__(self, other: float) -> bool:
            nonlocal compared
            compared += 1
            return float(self) > float(other)

    def cost(trials: int) -> float:
        nonlocal compared
        compared = 0
        luck = Random(trials)
        one = search(Method.ADAPTIVE_ASHA, max_trials=trials, max_length=256, divisor=Fraction(4))
        training: list[Job] = []
        while not one.done:
            while len(training) < 8 and (job := one.next_job()):
                training.append(job)
            job = training.pop(luck.randrange(len(training)))
            one.report(job.trial, job.target, Loss(luck.random()))
        return compared / trials

    assert cost(500) > 5
    # Sixteen times the trials: a logarithm grows by 4 or so of some 30, a linear cost sixteenfold.
    assert cost(8_000) < 2 * cost(500)


# -- live changes ------------------------------------------------------------------------------


def created(search_: Tournament) -> list[int]:
    """How many trials each bracket creates when workers never lack."""
    jobs = iter(search_.next_job, None)
    brackets = [job.why.bracket for job in jobs if isinstance(job.why, Created)]
    return [brackets.count(number) for number in range(len(search_.brackets))]


def test_more_trials_are_shared_as_those_of_the_plan() -> None:
    def make(trials: int) -> Tournament:
        return search(Method.ADAPTIVE_ASHA, max_length=64, max_trials=trials, divisor=Fraction(4), bracket_rungs=(4, 3))

    grown = make(40)
    grown.resize(400)
    assert created(grown) == created(make(400))
    assert grown.max_trials == 400


def test_fewer_trials_than_were_created_are_refused() -> None:
    searching = three_rungs(8)
    for _ in range(5):
        searching.next_job()
    before = searching.snapshot()
    with pytest.raises(SearchError, match="5 trials were created already"):
        searching.resize(4)
    assert searching.snapshot() == before
    searching.resize(5)
    assert searching.next_job() is None


def test_a_bracket_whose_last_trial_is_taken_away_goes_on_to_its_end() -> None:
    searching = search(max_trials=4, num_rungs=2)
    for _ in range(3):
        searching.next_job()
    searching.report(0, 2, 0.5)
    for trial in (1, 2):
        searching.exited(trial, Exit.ERRORED)
    searching.resize(3)
    assert not searching.done
    assert searching.next_job() == Job(0, 4, Promoted(0, 1, 3, 1))


def test_a_bracket_that_has_nothing_left_to_do_finishes() -> None:
    searching = search(Method.RANDOM, max_trials=2)
    searching.next_job()
    searching.report(0, 4, 0.5)
    searching.resize(1)
    assert searching.done


def test_replacements_of_invalid_trials_do_not_count() -> None:
    searching = three_rungs(4)
    searching.next_job()
    searching.exited(0, Exit.INVALID)
    searching.resize(2)
    assert created(searching) == [2]


def test_synchronous_halving_has_its_trials_once_it_compares_them() -> None:
    searching = search(Method.SYNC_HALVING, max_trials=4, num_rungs=2)
    for _ in range(4):
        searching.next_job()
    for trial in range(3):
        searching.report(trial, 2, float(trial))
    searching.resize(5)
    searching.next_job()
    searching.report(3, 2, 3.0)
    searching.report(4, 2, 4.0)
    with pytest.raises(SearchError, match="created and are being compared"):
        searching.resize(6)


def test_a_grid_has_its_points() -> None:
    with pytest.raises(SearchError, match="grid search creates 6 trials"):
        search(Method.GRID, max_trials=6).resize(7)


def test_the_limit_is_raised_to_the_number_of_brackets() -> None:
    searching = search(Method.ADAPTIVE_ASHA, max_length=64, max_trials=40, divisor=Fraction(4), bracket_rungs=(4, 3, 2))
    searching.limit(1)
    assert searching.max_concurrent_trials == 3
    searching.limit(0)
    assert searching.max_concurrent_trials == 0
    restored = search(Method.ADAPTIVE_ASHA, max_length=64, max_trials=40, divisor=Fraction(4), bracket_rungs=(4, 3, 2))
    restored.restore(json.loads(json.dumps(searching.snapshot())))
    assert restored.max_concurrent_trials == 0


# -- reserved trials ---------------------------------------------------------------------------


def test_reserved_trials_are_the_next_new_ones_of_the_first_bracket() -> None:
    one = search(Method.ADAPTIVE_ASHA, max_trials=9, bracket_rungs=(2, 1))
    first, second = (bracket.planned for bracket in one.brackets)
    one.next_job()
    addresses = [one.reserve() for _ in range(8)]
    assert addresses == [(0, nth) for nth in range(1, first)] + [(1, nth) for nth in range(second)]
    with pytest.raises(SearchError, match="all 9 trials"):
        one.reserve()
    made = [one.address(job.trial) for job in iter(one.next_job, None) if isinstance(job.why, Created)]
    assert sorted(made) == addresses


def test_extra_trial_adds_to_the_first_bracket_that_can_change() -> None:
    one = search(Method.ADAPTIVE_ASHA, max_trials=9, bracket_rungs=(2, 1))
    planned = one.brackets[0].planned
    assert one.reserve(extra=True) == (0, 0)
    assert (one.max_trials, one.brackets[0].planned) == (10, planned + 1)


def test_fewer_trials_keep_reserved_ones() -> None:
    one = search(Method.RANDOM, max_trials=8)
    one.next_job()
    for _ in range(3):
        one.reserve()
    with pytest.raises(SearchError, match="4 trials were created already or have given hyperparameters"):
        one.resize(3)
    one.resize(4)
    assert created(one) == [3]


@pytest.mark.parametrize("method", [Method.GRID, Method.SINGLE])
def test_grid_and_single_get_no_extra_trial(method: Method) -> None:
    one = search(method, max_trials=1)
    before = one.snapshot()
    with pytest.raises(SearchError, match="neither more nor fewer"):
        one.reserve(extra=True)
    assert one.snapshot() == before


def test_synchronous_halving_gets_no_extra_trial_after_its_first_comparison() -> None:
    one = search(Method.SYNC_HALVING, max_trials=4, num_rungs=2)
    create(one, 1.0, 2.0, 3.0, 4.0)
    with pytest.raises(SearchError, match="all 4 trials were created and are being compared"):
        one.reserve(extra=True)


@pytest.mark.parametrize("settings", [{"stop_once": True}, {"mode": Mode.AUTO, "max_length": 64}, {}])
def test_reserved_trials_survive_a_snapshot(settings: dict[str, Any]) -> None:
    one, other = (search(Method.ADAPTIVE_ASHA, max_trials=12, **settings) for _ in range(2))
    one.reserve()
    other.restore(json.loads(json.dumps(one.snapshot())))
    assert other.snapshot() == one.snapshot()
    assert other.reserve() == one.reserve() == (0, 1)
