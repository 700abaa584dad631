"""The trust meter as a view: the input of its statistics, its words and its advice."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from ashwood.experiment.decisions import Decision, TrainTrial
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import ValidationReported
from ashwood.search.draw import unit_draw
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.trust import ENOUGH, Level
from ashwood.search.vocabulary import Audited
from ashwood.views.ladder import Standing
from ashwood.views.plain import plain
from ashwood.views.progress import Progress
from ashwood.views.table import to_json
from ashwood.views.trust import How, RungPair, Trust, TrustReading, expected_training
from tests.views.simulate import Curve, Workers, asha, power_law, spec_of
from tests.views.streams import runs


def search_of(trials: int, **more: Any) -> SearchSettings:
    return asha(trials, **{"mode": Mode.AGGRESSIVE, **more})


def agreeing(trial: int, length: int) -> float:
    """Metrics whose ranking is nearly the same at all lengths."""
    return unit_draw(1, "final", trial) + float(length**-0.5) + 0.1 * unit_draw(1, "noise", trial, length)


def misleading(trial: int, length: int) -> float:
    """Metrics that are noise before length 64, and the final result from then on."""
    return unit_draw(1, "final", trial) if length >= 64 else 3 + unit_draw(1, "noise", trial, length)


def ran(curve: Curve, trials: int = 300, *, smaller_is_better: bool = True, **search: Any) -> Progress:
    spec = spec_of(search_of(trials, **search), smaller_is_better=smaller_is_better)
    workers = Workers(spec, curve, workers=8)
    return fold(Progress(workers.spec), workers.run())


def reading_of(progress: Progress) -> TrustReading:
    reading = progress.trust.reading()
    assert reading is not None
    return reading


# -- the verdict -----------------------------------------------------------------------------------


@pytest.mark.parametrize("smaller_is_better", [True, False])
def test_search_whose_rungs_agree_is_trustworthy(*, smaller_is_better: bool) -> None:
    sign = 1 if smaller_is_better else -1
    progress = ran(lambda trial, length: sign * agreeing(trial, length), smaller_is_better=smaller_is_better)
    reading = reading_of(progress)
    assert (reading.level, reading.rung, reading.length) == (Level.TRUSTWORTHY, 0, 1)
    assert reading.sentence == (
        "Early stopping can be trusted: the first rung (1 epoch) predicts which trials are good later."
    )
    assert not reading.advice
    first = reading.pairs[0]
    assert (first.lower, first.upper, first.arrived, first.trusted) == (0, 1, 300, True)
    assert first.both == progress.ladder.brackets[0].rungs[1].arrived
    (chance,) = [each.chance for each in reading.pairs if each.lower == 0 and each.chance is not None]
    assert chance < 0.1


@pytest.mark.parametrize(
    "search", [{}, {"stop_once": True}, {"method": Method.ASYNC_HALVING}, {"method": Method.SYNC_HALVING}]
)
def test_search_whose_first_rungs_are_noise_is_not_trustworthy(search: dict[str, Any]) -> None:
    reading = reading_of(ran(misleading, **search))
    assert reading.level is Level.NOT_TRUSTWORTHY
    assert reading.sentence.startswith("Early stopping cannot be trusted: no rung is known to predict")
    assert reading.reasons[0].startswith("rung 0 (1 epoch) and rung 1 (4 epochs): agreement ")
    assert any("was not promoted with a probability of" in reason for reason in reading.reasons)
    (chance,) = [each.chance for each in reading.pairs if each.lower == 0 and each.chance is not None]
    assert chance > 0.5


def test_search_whose_first_rung_is_noise_is_trustworthy_if_the_others_agree() -> None:
    def metric(trial: int, length: int) -> float:
        return agreeing(trial, length) if length >= 4 else unit_draw(2, "noise", trial)

    reading = reading_of(ran(metric, 600))
    assert (reading.level, reading.rung, reading.length) == (Level.TRUSTWORTHY, 0, 1)
    assert reading.sentence == (
        "Early stopping can be trusted on the whole, although rung 0 (1 epoch) hardly predicts which trials are good "
        "later."
    )


def test_search_with_a_reversed_first_rung_is_trustworthy_from_the_next_one() -> None:
    def metric(trial: int, length: int) -> float:
        return agreeing(trial, length) if length >= 4 else 0.5 * unit_draw(2, "noise", trial) - agreeing(trial, length)

    reading = reading_of(ran(metric, 600))
    assert (reading.level, reading.rung, reading.length) == (Level.FROM_RUNG, 1, 4)
    assert reading.sentence.startswith("Early stopping can be trusted from rung 1 (4 epochs) on")
    (advice,) = reading.advice
    assert advice.settings == ("searcher.max_rungs=3",)
    assert advice.cost is not None
    assert advice.cost > 1


def test_early_state_says_how_many_trials_are_missing() -> None:
    workers = Workers(spec_of(search_of(300)), agreeing)
    progress = Progress(workers.spec)
    sentences = []
    for entry in workers.run():
        progress.apply(entry)
        arrived = progress.ladder.brackets[0].rungs[1].arrived
        if arrived < ENOUGH:
            reading = reading_of(progress)
            assert reading.level is Level.TOO_EARLY
            assert f"{arrived} of {ENOUGH} trials needed have reached rung 1 (4 epochs)." in reading.sentence
            sentences.append(reading.sentence)
    assert len(set(sentences)) == ENOUGH


@pytest.mark.parametrize(
    "search",
    [
        SearchSettings(method=Method.RANDOM, max_length=8, max_trials=20),
        SearchSettings(method=Method.SINGLE, max_length=8, max_trials=1),
        SearchSettings(method=Method.ADAPTIVE_ASHA, max_length=8, max_trials=20, max_rungs=1),
    ],
)
def test_search_that_stops_no_trial_early_has_no_reading(search: SearchSettings) -> None:
    workers = Workers(spec_of(search), agreeing)
    progress = fold(Progress(workers.spec), workers.run())
    assert progress.trust.reading() is None
    assert not progress.trust.pairs()


def test_trials_that_skip_a_rung_do_not_count_as_compared_there() -> None:
    progress = ran(misleading, 400, mode=Mode.AUTO)
    reading = reading_of(progress)
    at_first = [trial for trial in range(400) if progress.ladder.first_rung(trial) == 0]
    assert reading.pairs[0].arrived <= len(at_first)


def test_reports_at_the_length_of_a_skipped_rung_count_in_agreement() -> None:
    spec = spec_of(search_of(60, mode=Mode.AUTO, divisor=Fraction(2), max_length=8))
    workers = Workers(spec, agreeing, workers=4)
    entries = workers.run()
    progress, without = fold(Progress(workers.spec), entries), reading_of(fold(Progress(workers.spec), entries))
    skips = [trial for trial in range(60) if progress.ladder.first_rung(trial) == 1]
    lengths = progress.ladder.brackets[0].lengths
    for trial in skips:
        event = ValidationReported(trial, 1, lengths[0], {"loss": agreeing(trial, lengths[0])})
        progress.trust.apply(Entry(0.0, event, ()))
    with_them = reading_of(progress)
    assert skips
    assert with_them.pairs[0].both == without.pairs[0].both + len(skips)
    assert with_them.pairs[0].arrived == without.pairs[0].arrived


# -- the input -------------------------------------------------------------------------------------


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
@given(runs())
def test_results_are_those_of_the_ladder(ran: Workers) -> None:
    progress = fold(Progress(ran.spec), ran.entries)
    sign = 1 if ran.spec.smaller_is_better else -1
    for bracket, rungs in zip(progress.ladder.now(), progress.trust._results(), strict=True):
        for ranking, results in zip(bracket, rungs, strict=True):
            assert set(results.failed) == set(ranking.dropped_out)
            known = {each.trial: sign * each.metric for each in ranking.ranked}
            own = {trial: loss for trial, loss in results.losses.items() if trial not in results.failed}
            assert own.keys() <= known.keys()
            assert repr(own) == repr({trial: known[trial] for trial in own})
            promoted = {each.trial for each in ranking.ranked if each.standing is Standing.PROMOTED}
            # Trials that skipped the rung, or passed it with a report of a greater length, are left out.
            assert promoted & own.keys() <= promoted
    reading = progress.trust.reading()
    assert (reading is None) == (not progress.trust.applies())
    json.dumps(to_json(plain(reading)), allow_nan=False)
    for pair in progress.trust.pairs():
        assert all(each.rank > 0 for each in progress.trust.comparisons(pair))


def test_report_that_passes_two_rungs_counts_at_the_higher_one() -> None:
    """A report at 4 epochs for the rung at 1 epoch gives no evidence that the two rungs agree."""
    workers = Workers(spec_of(search_of(100)), agreeing, workers=8)
    entries = workers.run()
    compared = fold(Progress(workers.spec), entries).trust.comparisons(RungPair(0, 0, 1))
    late = compared[0].trial
    changed = [
        entry._replace(event=entry.event._replace(length=4))
        if isinstance(entry.event, ValidationReported) and (entry.event.trial, entry.event.length) == (late, 1)
        else entry
        for entry in entries
    ]
    progress = fold(Progress(workers.spec), changed)
    assert late not in [each.trial for each in progress.trust.comparisons(RungPair(0, 0, 1))]
    assert late in progress.trust._results()[0][1].losses


def test_failed_trials_count_in_the_rung_but_not_in_the_agreement() -> None:
    workers = Workers(spec_of(search_of(200), max_restarts=0), agreeing, faults=(0.05, 0.0, 0.0), workers=8)
    progress = fold(Progress(workers.spec), workers.run())
    rungs = progress.ladder.brackets[0].rungs
    first = reading_of(progress).pairs[0]
    assert rungs[0].failed > 0
    assert first.arrived == rungs[0].arrived + rungs[0].failed
    assert first.both == rungs[1].arrived


def audited(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """Return the entries with the first promotion from rung 0 as an audit, and its trial."""
    changed, trial = list[Entry](), -1
    for entry in entries:
        decisions: list[Decision] = []
        for decision in entry.decisions:
            if trial < 0 and isinstance(decision, TrainTrial) and getattr(decision.why, "rung", None) == 0:
                trial = decision.trial
                decisions.append(decision._replace(why=Audited(0, 7, 9)))
            else:
                decisions.append(decision)
        changed.append(entry._replace(decisions=tuple(decisions)))
    return changed, trial


def test_audits_are_counted_and_named() -> None:
    workers = Workers(spec_of(search_of(200)), agreeing, workers=8)
    entries, trial = audited(workers.run())
    progress = fold(Progress(workers.spec), entries)
    assert reading_of(progress).pairs[0].audits == 1
    (found,) = [each for each in progress.trust.comparisons(RungPair(0, 0, 1)) if each.trial == trial]
    assert found.promotion == (7, 9, How.AUDIT)
    assert not found.early
    assert any("1 audit" in reason for reason in reading_of(progress).reasons)


def test_comparisons_have_the_recorded_reason_of_each_promotion() -> None:
    progress = ran(power_law(3), 120)
    comparisons = progress.trust.comparisons(RungPair(0, 0, 1))
    assert {each.trial for each in comparisons} == {each.trial for each in progress.ladder.now()[0][1].ranked}
    assert [each.rank for each in comparisons] == sorted(each.rank for each in comparisons)
    quota = int(120 / 4)
    for each in comparisons:
        assert each.promotion is not None
        assert each.early == (each.rank > quota and each.promotion.how is How.RANK)


# -- the fold --------------------------------------------------------------------------------------


def test_snapshot_continues_the_fold() -> None:
    workers = Workers(spec_of(search_of(120)), agreeing, workers=8)
    entries = workers.run()
    whole = fold(Progress(workers.spec), entries)
    half = fold(Progress(workers.spec), entries[: len(entries) // 2])
    half.trust.reading()
    restored: Progress = pickle.loads(pickle.dumps(half))
    assert restored.trust.ladder is restored.ladder
    assert reading_of(fold(restored, entries[len(entries) // 2 :])) == reading_of(whole)


def test_reading_is_computed_once_for_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = ran(agreeing, 100)
    reading = progress.trust.reading()
    monkeypatch.setattr(Trust, "_read", None)
    assert progress.trust.reading() is reading
    restored: Progress = pickle.loads(pickle.dumps(progress))
    assert restored.trust.reading() == reading


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(runs())
def test_reading_includes_latest_results(monkeypatch: pytest.MonkeyPatch, ran: Workers) -> None:
    monkeypatch.setattr(Trust, "_read", Trust._results)
    progress = Progress(ran.spec)
    for entry in ran.entries:
        progress.apply(entry)
        # NaN differs from itself, so texts are compared.
        assert repr(progress.trust.reading()) in ("None", repr(progress.trust._results()))


def test_extended_search_has_a_reading_with_its_new_rungs() -> None:
    workers = Workers(spec_of(search_of(60, max_length=16)), agreeing, workers=8)
    workers.run()
    workers.extend(120, 64)
    progress = fold(Progress(workers.spec), workers.run())
    assert progress.ladder.brackets[0].lengths[-1] == 64
    assert reading_of(progress).pairs[-1].upper_length == 64


# -- the advice ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "settings"),
    [
        ({}, "searcher.max_rungs=1"),
        ({"bracket_rungs": (4,)}, "searcher.bracket_rungs=[1]"),
        ({"method": Method.ASYNC_HALVING, "num_rungs": 4}, "searcher.num_rungs=1"),
        ({"method": Method.SYNC_HALVING, "num_rungs": 4}, "searcher.num_rungs=1"),
    ],
)
def test_random_search_is_advised_with_as_much_training(search: dict[str, Any], settings: str) -> None:
    progress = ran(misleading, **search)
    (random,) = [each for each in reading_of(progress).advice if settings in each.settings]
    trials = int(random.settings[1].removeprefix("searcher.max_trials="))
    assert trials * 64 == pytest.approx(expected_training(progress.spec.search), abs=32)
    assert random.cost == pytest.approx(1, abs=0.05)
    assert random.price == " Expected: about as much training as this search."


def test_gentler_mode_is_advised_with_its_price() -> None:
    progress = ran(misleading)
    gentler = next(each for each in reading_of(progress).advice if each.settings == ("searcher.mode=conservative",))
    conservative = replace(progress.spec.search, mode=Mode.CONSERVATIVE)
    ratio = expected_training(conservative) / expected_training(progress.spec.search)
    assert gentler.cost == pytest.approx(ratio, rel=0.05)


def test_expected_training_of_one_rung_is_all_trials_at_full_length() -> None:
    search = asha(50, max_rungs=1)
    assert len(plan_search(search).brackets[0].lengths) == 1
    assert expected_training(search) == 50 * 64
