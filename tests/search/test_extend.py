"""Searches that are extended: they go on as if they had been planned so from the beginning."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from math import ceil
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashwood.errors import SearchError
from ashwood.search.plan import lengths_above
from ashwood.search.settings import NO_LENGTH, Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import (
    BracketFinished,
    Created,
    Exit,
    Extended,
    Job,
    LastChance,
    Promote,
    Promoted,
    ReachedEnd,
    Retired,
    RetriedOnRequest,
    Stop,
    TrialId,
)
from ashwood.testing.search_method import DIVISORS, search_settings
from tests.search.test_tournament_reference import LOSSES, Pair

FIXED = (Method.GRID, Method.SINGLE)


def extend(pair: Pair, luck: Random) -> None:
    """Extend both searches by trials, by length or by both, and compare what takes part again."""
    fast, before = pair.fast, pair.fast.settings
    more = luck.randint(1, 20) + fast.max_trials if before.method not in FIXED and luck.random() < 0.6 else None
    by = luck.choice((1, 7, before.max_length * 5))
    longer = before.max_length + by if more is None or luck.random() < 0.5 else None
    planned = [bracket.planned for bracket in fast.brackets]
    again = fast.extend(more, longer)
    after = fast.settings
    assert sum(after.bracket_trials) == after.max_trials == fast.max_trials == (more or sum(planned))
    assert all(now >= then for now, then in zip(after.bracket_trials, planned, strict=True))
    assert set(again) == pair.plain.extend(after)
    pair.waiting.update(again)
    pair.settle()


def work(pair: Pair, luck: Random, *, failing: float, reports: int | None = None) -> None:
    """Train until the search is done, or for a number of reports."""
    workers = luck.choice((1, 3, 10, 1000))
    ties = luck.random() < 0.5
    while reports is None or reports > 0:
        while len(pair.training) < workers and pair.ask() is not None:
            pass
        if not pair.training:
            break
        reports = None if reports is None else reports - 1
        trial = luck.choice(sorted(pair.training))
        if luck.random() < failing:
            pair.exit(luck.choice(sorted({trial, *pair.waiting})), luck.choice(list(Exit)))
        else:
            pair.report(trial, luck.choice((0, 0, 0, 0, 1)), luck.choice(LOSSES) if ties else luck.random())


@settings(max_examples=60)
@given(search_settings(max_trials=40), st.randoms(use_true_random=True))
def test_extended_search_equals_one_planned_so_from_the_beginning(chosen: SearchSettings, luck: Random) -> None:
    pair = Pair(chosen)
    failing = luck.choice((0.0, 0.02, 0.3))
    for reports in luck.choice(([None], [10], [None, None], [7, 7], [5, None])):
        work(pair, luck, failing=failing, reports=reports)
        extend(pair, luck)
        twin = Tournament(pair.fast.settings)
        twin.restore(json.loads(json.dumps(pair.fast.snapshot())))
        assert twin.snapshot() == pair.fast.snapshot()
        assert twin.done == pair.fast.done
        if luck.random() < 0.5:
            pair.fast = twin
    work(pair, luck, failing=failing)
    assert pair.fast.done
    if not failing:
        assert all(bracket.rungs[-1].has_live_results() for bracket in pair.fast.brackets)


def run(search: Tournament, loss: Any, workers: int = 1) -> dict[TrialId, set[int]]:
    """Train until the search is done; return the lengths that each trial was trained to."""
    jobs, trained = dict[TrialId, int](), dict[TrialId, set[int]]()
    while not search.done:
        while len(jobs) < workers and (job := search.next_job()) is not None:
            jobs[job.trial] = job.target
        trial = min(jobs)
        length = jobs.pop(trial)
        assert length not in trained.setdefault(trial, set()), f"trial {trial} is trained to {length} again"
        trained[trial].add(length)
        bracket, nth = search.address(trial)
        verdict = search.report(trial, length, loss(bracket, nth, length))
        if isinstance(verdict, Promote):
            jobs[trial] = verdict.target
    search.retired()
    return trained


@given(search_settings(methods=[Method.SYNC_HALVING]), st.integers(1, 500), st.integers(0, 9), st.integers(1, 5))
def test_extended_sync_halving_trains_what_the_longer_search_trains(
    chosen: SearchSettings, more: int, luck: int, workers: int
) -> None:
    def loss(bracket: int, nth: int, length: int) -> float:
        return Random(f"{luck} {bracket} {nth} {length}").random()

    search = Tournament(chosen)
    trained = run(search, loss, workers)
    search.extend(max_length=chosen.max_length + more)
    for trial, lengths in run(search, loss, workers).items():
        assert not trained[trial] & lengths
        trained[trial] |= lengths
    assert run(Tournament(search.settings), loss, workers) == trained


@given(search_settings(max_trials=60), st.integers(1, 500), st.integers(0, 60), st.randoms(use_true_random=False))
def test_each_rung_of_an_extended_search_promotes_its_best(
    chosen: SearchSettings, more: int, trials: int, luck: Random
) -> None:
    search = Tournament(replace(chosen, stop_once=False))
    trained = run(search, lambda *_: luck.random(), 3)
    search.extend(
        chosen.max_trials + trials if trials and chosen.method not in FIXED else None, chosen.max_length + more
    )
    for trial, lengths in run(search, lambda *_: luck.random(), 3).items():
        assert not trained.get(trial, set()) & lengths, "a trial trains to a length again"
    for bracket in search.brackets:
        assert bracket.rungs[-1].has_live_results()
        for here, above in zip(bracket.rungs, bracket.rungs[1:], strict=False):
            assert all(trial in above for trial in here.best(here.quota))


@given(st.integers(1, 300), st.integers(1, 3_000), st.sampled_from(DIVISORS))
def test_lengths_above_top_grow_by_divisor_and_end_at_max_length(top: int, more: int, divisor: Fraction) -> None:
    lengths = lengths_above(top, top + more, divisor)
    exact = {ceil(top * divisor**k) for k in range(1, 60)}
    assert lengths == (*sorted(length for length in exact if length < top + more), top + more)


def halving(trials: int, **changes: Any) -> SearchSettings:
    """One bracket with rungs at 1, 2 and 4, of which one in two trials is promoted."""
    return SearchSettings(
        method=Method.ASYNC_HALVING,
        max_length=4,
        max_trials=trials,
        divisor=Fraction(2),
        num_rungs=3,
        max_concurrent_trials=0,
        **changes,
    )


def by_number(_bracket: int, nth: int, _length: int) -> float:
    return float(nth)


def test_top_of_an_extended_search_promotes_its_best() -> None:
    search = Tournament(halving(8))
    run(search, by_number)
    top = search.brackets[0].rungs[-1].ranking()
    assert top[:2] == [0, 1]
    again = search.extend(max_length=9)
    assert [rung.length for rung in search.brackets[0].rungs] == [1, 2, 4, 8, 9]
    assert set(top) <= set(again)
    assert search.settings.bracket_lengths == ((1, 2, 4, 8, 9),)
    assert not search.done
    assert search.next_job() == Job(0, 8, Promoted(2, 1, len(top), len(top) // 2))
    search.report(0, 8, 0.0)
    run(search, by_number)
    assert search.brackets[0].rungs[-1].ranking() == [0]


def test_added_trials_open_a_finished_bracket_with_its_trials() -> None:
    search = Tournament(halving(4))
    trained = run(search, by_number)
    retired = sorted(trial for trial, lengths in trained.items() if 4 not in lengths)
    assert search.extend(8) == retired
    assert search.max_trials == 8
    assert search.next_job() == Job(4, 1, Created(0, 4))
    search.report(4, 1, 0.5)
    # Trial 1 had waited at the first rung when its bracket ended. With 5 results, 2 are promoted: trials 0 and 4.
    assert search.next_job() == Job(4, 2, Promoted(0, 2, 5, 2))


def test_retired_trials_that_nobody_has_closed_yet_are_not_retired_any_more() -> None:
    search = Tournament(halving(2))
    jobs = [search.next_job() for _ in range(2)]
    assert None not in jobs
    search.report(1, 2, 1.0)
    search.report(0, 2, 0.0)
    assert search.next_job() == Job(0, 4, Promoted(0, 1, 2, 1))
    assert search.report(0, 4, 0.0) == Stop(ReachedEnd(4))
    assert search.done
    assert search.extend(max_length=8) == [0]
    assert search.retired() == []
    assert search.next_job() == Job(0, 8, LastChance(1, 1, 1))
    search.report(0, 8, 0.0)
    assert search.retired() == [Retired(1, BracketFinished(0))]


@pytest.mark.parametrize("method", [Method.RANDOM, Method.GRID])
def test_every_trial_of_a_random_search_trains_on(method: Method) -> None:
    search = Tournament(SearchSettings(method=method, max_length=4, max_trials=4))
    for _ in range(4):
        search.next_job()
    search.report(2, 4, 0.2)
    search.report(1, 4, 0.1)
    search.exited(3, Exit.ERRORED)
    assert search.extend(max_length=6) == [1, 2]
    assert [rung.length for rung in search.brackets[0].rungs] == [6]
    assert search.next_job() == Job(1, 6, Extended(4))
    with pytest.raises(SearchError, match="its job ends at 6"):
        search.report(0, 3, 0.0)
    assert search.report(0, 4, 0.0) == Promote(6, Extended(4))
    with pytest.raises(SearchError, match="its job ends at 6"):
        search.report(0, 5, 0.0)
    assert search.report(0, 6, 0.0) == Stop(ReachedEnd(6))
    search.retry(3)
    assert search.next_job() == Job(2, 6, Extended(4))
    assert search.next_job() == Job(3, 6, RetriedOnRequest(0))


def test_stopping_search_continues_those_that_would_have_continued_at_the_top() -> None:
    search = Tournament(
        SearchSettings(
            method=Method.ASYNC_HALVING, max_length=1, max_trials=5, divisor=Fraction(2), num_rungs=1, stop_once=True
        )
    )
    for loss in (3.0, 2.0, 2.5, 2.2, 1.0):
        job = search.next_job()
        assert job is not None
        search.report(job.trial, 1, loss)
    assert search.extend(max_length=2) == [0, 1, 3, 4]
    whys = [Promoted(0, 1, 1, 1), Promoted(0, 1, 2, 1), Promoted(0, 2, 4, 2), Promoted(0, 1, 5, 2)]
    assert [search.next_job() for _ in range(5)] == [
        *(Job(trial, 2, why) for trial, why in zip((0, 1, 3, 4), whys, strict=True)),
        None,
    ]


@pytest.mark.parametrize(
    ("chosen", "trials", "length", "message"),
    [
        (halving(4), None, None, "none of max_trials, max_length and replicates"),
        (halving(4), 4, None, "max_trials must be more than the present 4, not 4"),
        (halving(4), 9, 4, "max_length must be more than the present 4, not 4"),
        (SearchSettings(method=Method.GRID, max_length=4, max_trials=4), 5, None, "4 trials, neither more nor fewer"),
        (SearchSettings(method=Method.RANDOM, max_length=NO_LENGTH, max_trials=4), 5, 9, "it has no max_length"),
        (replace(halving(4), divisor=Fraction("1.0001")), None, 9, "too many rungs"),
    ],
)
def test_search_refuses_to_become_smaller(
    chosen: SearchSettings, trials: int | None, length: int | None, message: str
) -> None:
    search = Tournament(chosen)
    before = search.snapshot()
    with pytest.raises(SearchError, match=message):
        search.extend(trials, length)
    assert search.snapshot() == before
    assert search.settings is chosen


def test_auto_goes_on_learning_at_added_rungs() -> None:
    search = Tournament(
        SearchSettings(
            method=Method.ADAPTIVE_ASHA, mode=Mode.AUTO, max_length=2, max_trials=60, divisor=Fraction(2), max_rungs=2
        )
    )
    run(search, lambda _bracket, nth, _length: float(nth % 7))
    search.extend(120, 16)
    # The longer the training, the worse are the trials that were good.
    run(search, lambda _bracket, nth, length: float(nth % 7) * (1 if length % 2 else -1))
    assert len(search.brackets[0].rungs) == 5
    assert sum(len(rung) for rung in search.brackets[0].rungs) > 120
