"""Promotions of trials that are drawn at random."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.audits import AuditedRung
from ashwood.search.draw import bits
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Audited, Job, New, Pause, Promote, Promoted
from ashwood.testing.search_method import AUDITS, search_settings

HALF = Fraction(1, 2)


def halving(trials: int, audit: Fraction = HALF, **changes: Any) -> SearchSettings:
    """One bracket with rungs at 1, 2 and 4, of which one in two trials is promoted."""
    usual: dict[str, Any] = {"method": Method.ASYNC_HALVING, "max_length": 4, "num_rungs": 3, "divisor": Fraction(2)}
    return SearchSettings(**usual | {"max_trials": trials, "max_concurrent_trials": 0, "audit": audit} | changes)


def jobs(search: Tournament, luck: Random, workers: int = 8) -> Iterator[Job]:
    """Train until the search is done, with random losses, and yield every job."""
    training: list[Job] = []
    while not search.done:
        while len(training) < workers and (job := search.next_job()) is not None:
            training.append(job)
            yield job
        job = training.pop(luck.randrange(len(training)))
        verdict = search.report(job.trial, job.target, luck.random())
        if isinstance(verdict, Promote):
            training.append(Job(job.trial, verdict.target, verdict.why))
            yield training[-1]


def filled(order: Sequence[int], audit: Fraction, seed: int) -> Tournament:
    """Return a search in which all trials have a result at rung 0, which arrived in this order; trial 0 is the best."""
    search = Tournament(halving(len(order), audit, divisor=Fraction(4), num_rungs=2), seed)
    for _ in order:
        job = search.next_job()
        assert job is not None
        assert isinstance(job.why, New)
    for trial in order:
        assert isinstance(search.report(trial, 1, float(trial)), Pause)
    return search


def promotions(search: Tournament) -> list[Job]:
    """Return all promotions that the search makes before another result arrives."""
    return list(iter(search.next_job, None))


@pytest.mark.parametrize("share", [Fraction("0.03"), Fraction("0.25"), Fraction("0.9")])
def test_share_of_promotions_are_audits_in_the_long_run(share: Fraction) -> None:
    search = Tournament(halving(4_000, share), seed=3)
    whys = [job.why for job in jobs(search, Random(1)) if isinstance(job.why, Promoted | Audited)]
    audits = sum(isinstance(why, Audited) for why in whys)
    deviation = float(share * (1 - share) * len(whys)) ** 0.5
    assert len(whys) > 1_000
    assert abs(audits - share * len(whys)) < 4 * deviation


def test_audited_trial_is_drawn_uniformly_among_those_that_wait() -> None:
    tenths = [0] * 10
    for seed in range(3_000):
        search = filled(range(20), HALF, seed)
        first = promotions(search)[0]
        if isinstance(first.why, Audited):
            assert (first.why.rank, first.why.of) == (first.trial + 1, 20)
            tenths[first.trial // 2] += 1
    expected = sum(tenths) / 10
    assert expected > 100
    # The sum has a chi-square distribution with 9 degrees of freedom, of which 99.9 % is below 27.9.
    assert sum((count - expected) ** 2 / expected for count in tenths) < 27.9


@given(st.permutations(range(24)), st.permutations(range(24)), st.sampled_from(AUDITS), st.integers(0, 2**31))
def test_equal_results_give_equal_audits_in_any_order_of_arrival(
    one: list[int], other: list[int], share: Fraction, seed: int
) -> None:
    found = promotions(filled(one, share, seed))
    assert found == promotions(filled(other, share, seed))
    best = {job.trial for job in found if isinstance(job.why, Promoted)}
    assert best | {job.trial for job in found if isinstance(job.why, Audited)} >= set(range(6))
    assert best <= set(range(6)), "an audit takes the place of one of the best"


@given(
    st.lists(st.tuples(st.sampled_from(("add", "fail", "promote", "remove")), st.integers(0, 20), st.floats())),
    st.booleans(),
)
def test_audit_draws_from_the_order_of_waiting_trials(calls: list[tuple[str, int, float]], restored: bool) -> None:
    always, address = Fraction(999_999, 1_000_000), (5, 0, 1)
    rung = AuditedRung(4, Fraction(2), 0, always, address)
    for call, trial, loss in calls:
        if (call == "add") == (trial in rung):
            continue
        if call == "add":
            rung.add(trial, loss)
        elif call != "promote" or rung.waits(trial):
            getattr(rung, call)(trial)
    if restored:
        rung, state = AuditedRung(4, Fraction(2), 0, always, address), rung.snapshot()
        rung.restore(state)
    waiting = rung.waiting()
    if waiting and (drawn := rung.audited()) is not None:
        place = bits(5, "audited", 0, 1, rung.promoted) * len(waiting) >> 64
        assert drawn.trial == waiting[place]


def test_passed_over_trial_is_promoted_at_next_turn_that_is_no_audit() -> None:
    first, second, *_ = (
        found
        for seed in range(100)
        if isinstance((found := promotions(filled(range(8), HALF, seed)))[0].why, Audited)
        and found[0].trial > 1
        and isinstance(found[1].why, Promoted)
    )
    for found in (first, second):
        assert [job.trial for job in found if isinstance(job.why, Promoted)] == [0, 1]
        assert found[1] == Job(0, 4, Promoted(0, 1, 8, 2))


@given(
    search_settings(methods=[Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING], max_trials=60),
    st.sampled_from(AUDITS),
    st.integers(0, 2**31),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_best_of_each_rung_are_promoted_besides_audits(
    chosen: SearchSettings, share: Fraction, seed: int, workers: int, luck: Random
) -> None:
    search = Tournament(replace(chosen, stop_once=False, audit=share), seed)
    whys = [job.why for job in jobs(search, luck, workers)]
    assert all(why.rank <= why.best for why in whys if isinstance(why, Promoted))
    assert share or not any(isinstance(why, Audited) for why in whys)
    for bracket in search.brackets:
        assert bracket.rungs[-1].has_live_results()
        for here, above in zip(bracket.rungs, bracket.rungs[1:], strict=False):
            assert set(here.best(here.quota)) <= set(above.ranking())


@pytest.mark.parametrize("changes", [{"method": Method.SYNC_HALVING}, {"stop_once": True}, {"audit": Fraction(0)}])
def test_search_without_audits_has_plain_rungs(changes: dict[str, Any]) -> None:
    search = Tournament(halving(40, **changes))
    assert not any(isinstance(rung, AuditedRung) for bracket in search.brackets for rung in bracket.rungs)
    assert not any(isinstance(job.why, Audited) for job in jobs(search, Random(2)))


def test_expected_results_include_audits() -> None:
    expected = list[float]()
    for audit in (Fraction(0), Fraction("0.2")):
        search = Tournament(halving(1_000, audit, divisor=Fraction(4), num_rungs=2))
        assert search.brackets[0].expected_results()[0] == 1_000
        expected.append(search.brackets[0].expected_results()[1])
    assert expected == [250, 312]


def test_effective_divisor_counts_audits_on_top_of_the_best() -> None:
    assert halving(8, Fraction(0), divisor=Fraction(4)).effective_divisor == 4
    assert halving(8, Fraction("0.2"), divisor=Fraction(4)).effective_divisor == Fraction("3.2")
    assert halving(8, Fraction("0.9"), divisor=Fraction(4)).effective_divisor == 1
    assert halving(8, Fraction("0.2"), divisor=Fraction(4), stop_once=True).effective_divisor == 4


def test_restored_search_makes_the_same_audits() -> None:
    settings = replace(halving(60), method=Method.ADAPTIVE_ASHA, mode=Mode.AUTO, audit=AUTO_DEFAULTS.audit * 10)
    plain, restored = Tournament(settings, 5), Tournament(settings, 5)
    found = []
    for job, other in zip(jobs(plain, Random(4)), jobs(restored, Random(4)), strict=True):
        assert job == other
        found.append(job.why)
        snapshot = json.loads(json.dumps(restored.snapshot()))
        assert snapshot == plain.snapshot()
        restored.restore(snapshot)
    assert any(isinstance(why, Audited) for why in found)
