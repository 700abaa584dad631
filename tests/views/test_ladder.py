"""Tests of the trials at each rung, against the search itself."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.decisions import ContinueTrial, ExtendSearch, ReopenTrial, TrainTrial
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import DriverStarted, PauseRequested, TrialKillRequested, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.search.learning import LearningBracket
from ashwood.search.rung import ranking_key
from ashwood.search.settings import Method, Mode
from ashwood.search.vocabulary import Audited, LastChance, Promoted
from ashwood.views.ladder import Ladder, Rank, Standing
from ashwood.views.trials import TrialTable
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs


def ladder_of(ran: Workers) -> Ladder:
    return fold(Ladder(ran.spec), ran.entries)


@given(ran=runs())
def test_ladder_agrees_with_search(ran: Workers) -> None:
    ladder, search, trials = ladder_of(ran), ran.experiment.search, ran.experiment.trials
    for view, bracket in zip(ladder.brackets, search.brackets, strict=True):
        members = [
            trial
            for trial in trials
            if search.address(trial)[0] == view.number and trial not in search.replicates.created
        ]
        assert view.created == sum(trials[trial].state is not TrialState.INVALID for trial in members)
        assert list(view.lengths) == [rung.length for rung in bracket.rungs]
        for at, (step, rung) in enumerate(zip(view.rungs, bracket.rungs, strict=True)):
            assert step.arrived + step.failed == len(rung)
            queued = [(trial, towards) for trial, (towards, _) in bracket.queued.items()]
            jobs = [*bracket.training.items(), *queued]
            assert step.training == {trial for trial, towards in jobs if towards == at}
            waiting = {trial for trial in rung.waiting() if trials[trial].state is TrialState.PAUSED}
            assert step.waiting == waiting - bracket.queued.keys()
        if bracket.finished:
            assert view.created == view.planned


def test_ladder_agrees_with_search_if_trials_skip_a_rung() -> None:
    settings = asha(120, mode=Mode.AUTO, max_length=16, divisor=Fraction(2))
    # The ranking after one step is the reverse of all later rankings.
    ran = Workers(
        spec_of(settings), lambda trial, length: (trial * 37 % 101) * (-1.0 if length == 1 else 1.0), workers=3
    )
    ran.run()
    (bracket,), (view,) = ran.experiment.search.brackets, ladder_of(ran).brackets
    assert isinstance(bracket, LearningBracket)
    assert bracket.entry == 1
    assert [step.arrived for step in view.rungs] == [len(rung) for rung in bracket.rungs]
    assert view.rungs[0].arrived < view.created == 120


@given(ran=runs())
def test_ladder_counts_decided_promotions(ran: Workers) -> None:
    if ran.spec.search.stop_once:
        return  # A validation past several rungs promotes from each of them with one decision.
    ladder, trials = ladder_of(ran), ran.experiment.trials
    decided: dict[tuple[int, int], int] = {}
    audited: set[tuple[int, int, int]] = set()
    for entry in ran.entries:
        for decision in entry.decisions:
            if isinstance(decision, TrainTrial | ContinueTrial) and isinstance(
                decision.why, Promoted | Audited | LastChance
            ):
                if trials[decision.trial].state is TrialState.INVALID:
                    continue
                bracket, _ = ran.experiment.search.address(decision.trial)
                decided[bracket, decision.why.rung] = decided.get((bracket, decision.why.rung), 0) + 1
                if isinstance(decision.why, Audited):
                    audited.add((bracket, decision.why.rung, decision.trial))
    shown = {(b.number, at): rung.promoted for b in ladder.brackets for at, rung in enumerate(b.rungs)}
    assert {place: count for place, count in shown.items() if count} == decided
    audits = {(b.number, at): rung.audits for b in ladder.brackets for at, rung in enumerate(b.rungs)}
    assert audits == {place: sum((bracket, rung) == place for bracket, rung, _ in audited) for place in shown}
    now = {(b, at, t.trial): t for b, rungs in enumerate(ladder.now()) for at, r in enumerate(rungs) for t in r.ranked}
    assert {place for place, ranked in now.items() if ranked.audited} == audited
    rows = fold(TrialTable(ran.spec), ran.entries).rows
    valid = [trial for trial in rows if trials[trial].state is not TrialState.INVALID]
    assert sum(rows[trial].audits for trial in valid) == len(audited)


@given(ran=runs())
def test_each_trial_that_has_not_ended_is_at_one_rung(ran: Workers) -> None:
    ladder = ladder_of(ran)
    places = {
        trial: (bracket.number, at)
        for bracket in ladder.brackets
        for at, rung in enumerate(bracket.rungs)
        for trial in [*rung.training, *rung.waiting]
    }
    alive = [
        trial.id
        for trial in ran.experiment.trials.values()
        if trial.state in (TrialState.RUNNING, TrialState.PAUSED) and trial.id not in ladder.originals
    ]
    assert sorted(places) == alive
    for trial in alive:
        assert (ladder.paths[trial].bracket, ladder.rung(trial)) == places[trial]


def test_report_past_several_rungs_counts_in_each() -> None:
    settings = asha(1, method=Method.ASYNC_HALVING, max_length=8, divisor=Fraction(2), num_rungs=3, stop_once=True)
    many = asha(8, method=Method.ASYNC_HALVING, max_length=8, divisor=Fraction(2), num_rungs=3, stop_once=True)
    assert Ladder(spec_of(settings)).lengths == ((8,),)
    ladder, experiment = Ladder(spec_of(many)), Experiment(spec_of(many))
    assert ladder.lengths == ((2, 4, 8),)
    for event in (
        DriverStarted(2),
        ValidationReported(0, 1, 5, {"loss": 1.0}),
        ValidationReported(1, 1, 4, {"loss": 2.0}),
    ):
        ladder.apply(Entry(0.0, event, experiment.handle(event)))
    assert [(rung.arrived, rung.promoted) for rung in ladder.brackets[0].rungs] == [(2, 1), (2, 1), (0, 0)]
    assert (ladder.rung(0), ladder.paths[0].ended) == (2, None)
    assert ladder.paths[1].state is TrialState.STOPPED


def test_promotion_while_experiment_pauses_counts_at_once() -> None:
    settings = asha(8, method=Method.ASYNC_HALVING, max_length=8, divisor=Fraction(2), stop_once=True)
    ladder, experiment = Ladder(spec_of(settings)), Experiment(spec_of(settings))
    for event in (DriverStarted(1), PauseRequested(), ValidationReported(0, 1, 1, {"loss": 1.0})):
        ladder.apply(Entry(0.0, event, experiment.handle(event)))
    assert ladder.rung(0) == 1


def test_trial_killed_on_the_way_to_a_rung_counts_as_killed_there() -> None:
    settings = asha(8, method=Method.ASYNC_HALVING, max_length=8, divisor=Fraction(2))
    ladder, experiment = Ladder(spec_of(settings)), Experiment(spec_of(settings))
    for event in (DriverStarted(2), TrialKillRequested(0)):
        ladder.apply(Entry(0.0, event, experiment.handle(event)))
    assert (ladder.brackets[0].rungs[0].failed, ladder.brackets[0].rungs[0].killed) == (1, 1)


@given(ran=runs())
def test_rankings_agree_with_counts(ran: Workers) -> None:
    ladder = ladder_of(ran)
    for rungs, bracket in zip(ladder.now(), ladder.brackets, strict=True):
        for ranking, counts in zip(rungs, bracket.rungs, strict=True):
            assert (ranking.length, len(ranking.ranked)) == (counts.length, counts.arrived)
            assert (ranking.promoted, len(ranking.dropped_out)) == (counts.promoted, counts.failed)
            killed = [trial for trial in ranking.dropped_out if ladder.paths[trial].state is TrialState.KILLED]
            assert len(killed) == counts.killed
            assert {each.trial for each in ranking.ranked if each.standing is Standing.WAITS} == counts.waiting
            assert set(ranking.training) == counts.training


def test_rankings_leave_out_trials_that_skipped_the_rung() -> None:
    ran = Workers(spec_of(asha(12, mode=Mode.AUTO, max_length=4, divisor=Fraction(2))), power_law(1), workers=2)
    ran.run()
    ladder, (search,) = ladder_of(ran), ran.experiment.search.brackets
    ranked = [[each.trial for each in ranking.ranked] for ranking in ladder.now()[0]]
    assert ranked == [rung.ranking() for rung in search.rungs]
    assert any(ladder.first_rung(trial) for trial in range(12))


@given(ran=runs())
def test_trials_at_a_rung_are_sorted_best_first(ran: Workers) -> None:
    sign = 1 if ran.spec.smaller_is_better else -1
    for rungs in ladder_of(ran).now():
        for rung in rungs:
            keys = [ranking_key(each.trial, sign * each.metric) for each in rung.ranked]
            assert keys == sorted(keys)


@given(ran=runs())
def test_rank_of_each_trial_agrees_with_rankings(ran: Workers) -> None:
    ladder = ladder_of(ran)
    if ran.spec.search.open_ended:
        return
    expected = {}
    for rungs in ladder.now():
        for number, ranking in enumerate(rungs):
            of, promoted = len(ranking.ranked) + len(ranking.dropped_out), ranking.promoted
            for rank, each in enumerate(ranking.ranked, 1):
                expected[each.trial] = (number, rank, of, None if number == len(rungs) - 1 else promoted)
    out = {trial for rungs in ladder.now() for ranking in rungs for trial in ranking.dropped_out}
    ranks = {trial: ladder.rank(trial) for trial in range(len(ladder.paths))}
    found = {trial: (each.rung, each.rank, each.of, each.promoted) for trial, each in ranks.items() if each is not None}
    assert found == {trial: each for trial, each in expected.items() if trial not in out}
    if ran.experiment.state is ExperimentState.COMPLETED:
        assert all(each.is_final for each in ranks.values() if each is not None)


def test_rank_is_described_with_number_of_promoted_trials() -> None:
    assert Rank(1, 4, 41, 78, 25, is_final=True).describe("epochs") == "41st of 78 at 4 epochs; 25 were promoted"
    assert Rank(0, 1, 2, 3, 0, is_final=False).describe("epochs") == "2nd of 3 so far at 1 epoch; none were promoted"
    assert Rank(2, 16, 1, 12, None, is_final=True).describe("epochs") == "1st of 12 at 16 epochs"


@given(ran=runs(), data=st.data())
def test_earlier_moment_shows_ladder_of_that_time(ran: Workers, data: st.DataObject) -> None:
    entries = ran.entries
    cut = data.draw(st.integers(1, len(entries)))
    if cut < len(entries) and entries[cut].at <= entries[cut - 1].at:
        return  # More happened at the same time.
    if any(isinstance(each, ReopenTrial | ExtendSearch) for entry in entries[cut:] for each in entry.decisions):
        return  # Paths do not keep that a trial had ended before it was reopened.
    then = fold(Ladder(ran.spec), entries[:cut])
    assert repr(ladder_of(ran).at(entries[cut - 1].at)) == repr(then.now())


@given(ran=runs())
def test_trials_arrive_rung_by_rung(ran: Workers) -> None:
    ladder = ladder_of(ran)
    for trial, path in enumerate(ladder.paths):
        if trial in ladder.originals:
            assert path.arrivals == (), "a replicate is compared at no rung"
            continue
        # A trial that skips a rung has no result at all before its first one at a higher rung.
        assert len(path.arrivals) >= len(path.promotions) or not path.arrivals
        assert [arrival.rung for arrival in path.arrivals] == list(range(len(path.arrivals)))
        # A trial that skips rungs has passed them when it is created, and has its first result at a higher rung.
        skipped = sum(promoted == path.created for promoted in path.promotions)
        assert all(arrival.at >= path.created for arrival in path.arrivals)
        for arrival, promoted in list(zip(path.arrivals, path.promotions, strict=False))[skipped:]:
            assert arrival.at <= promoted
        for promoted, arrival in zip(path.promotions, path.arrivals[1:], strict=False):
            assert promoted <= arrival.at


@given(ran=runs())
def test_paths_agree_with_table(ran: Workers) -> None:
    table = fold(TrialTable(ran.spec), ran.entries)
    # The table shows the trials of a paused experiment as paused although they keep their jobs.
    rests = ran.experiment.state is ExperimentState.PAUSED
    shown = {TrialState.RUNNING: TrialState.PAUSED} if rests else {}
    paths = [(shown.get(path.state, path.state), path.ended) for path in ladder_of(ran).paths]
    assert paths == [(row.state, row.ended_at) for row in table.rows.values()]
