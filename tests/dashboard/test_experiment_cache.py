"""Tests of the experiment cache: what it reads, finds and keeps of an experiment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ashwood.dashboard.answers import ExperimentSummary, list_experiments
from ashwood.dashboard.experiment_cache import CachedExperiment, ExperimentCache, WeightedCache
from ashwood.eventlog.fold_cache import fold, save
from ashwood.eventlog.home import Home, open_home
from ashwood.eventlog.port import Seq
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.entry import Entry
from ashwood.experiment.entry import fold as fold_entries
from ashwood.experiment.events import CheckpointSaved, ValidationReported
from ashwood.views.descriptions import trials_of
from ashwood.views.history import STRETCH, History
from tests.views.test_history import views_of

from .homes import add, append, ran


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with open_home(tmp_path_factory.mktemp("home"), create=True) as home:
        add(home, ran(60))
        yield home


@pytest.fixture
def cached(home: Home) -> CachedExperiment:
    cached = ExperimentCache(home).get(1)
    while not cached.read_entries():
        pass
    return cached


def everything_in(cached: CachedExperiment) -> list[tuple[Seq, Entry]]:
    return list(cached.cache.home.store.log(cached.id).read())


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_entries_of_a_trial_are_found_page_by_page(cached: CachedExperiment, limit: int) -> None:
    everything = everything_in(cached)
    assert len(everything) > 2 * STRETCH
    for trial in (0, 7, 30):
        about = [seq for seq, entry in everything if trial in trials_of(entry.event, entry.decisions)]
        found: list[int] = []
        before = None
        while before is None or before > 1:
            page, before = cached.latest_entries(before=before, limit=limit, trial=trial)
            found = [*(seq for seq, _ in page), *found]
        assert found == about


def test_entries_are_found_while_more_come(tmp_path: Path) -> None:
    workers = ran(60)
    spec, entries = workers.experiment.spec, workers.entries
    cuts = [0, 5, STRETCH - 1, STRETCH, STRETCH + 7, 2 * STRETCH + 1, len(entries)]
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, workers, until=0)
        cached = ExperimentCache(home).get(experiment)
        for begin, end in pairwise(cuts):
            append(home, experiment, spec, entries[begin:end], before=entries[:begin])
            while not cached.read_entries():
                pass
            everything = everything_in(cached)
            for _ in "as it was", "as it is known":
                assert cached.latest_entries(limit=20)[0] == everything[-20:]
                about = [each for each in everything if 3 in trials_of(each[1].event, each[1].decisions)]
                assert cached.latest_entries(limit=10**6, trial=3)[0] == about


def test_first_checkpoint_changes_the_rows_of_all_trials(tmp_path: Path) -> None:
    workers = ran(60)
    spec, saves = workers.experiment.spec, [e for e in workers.entries if isinstance(e.event, CheckpointSaved)]
    reports = [entry for entry in workers.entries[:80] if not isinstance(entry.event, CheckpointSaved)]
    entries, first = [*reports, saves[0]], len(reports)
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, workers, until=0)
        cached = ExperimentCache(home).get(experiment)
        append(home, experiment, spec, entries[:first], before=[])
        while not cached.read_entries():
            pass
        reported = [trial for trial in cached.find() if cached.record(trial)["best.loss"] is not None]
        assert len(reported) > 1
        since = cached.seq
        append(home, experiment, spec, entries[first : first + 1], before=entries[:first])
        while not cached.read_entries():
            pass
        saved = [trial for trial in cached.find() if cached.record(trial)["best.loss"] is not None]
        assert saved == [entries[first].event.trial]  # type: ignore[union-attr]
        assert set(reported) <= set(cached.changed_trials(since))
        ranked = [row.id for row in cached.history.progress.trials.ranked()]
        assert list(cached.find()) == ranked


def test_no_entries_are_found_for_a_missing_trial(cached: CachedExperiment) -> None:
    assert cached.latest_entries(limit=10, trial=10**6) == ([], 1)


def test_locked_experiment_reads_no_entries(home: Home) -> None:
    cached = ExperimentCache(home).get(1)
    with cached.lock:
        assert cached.read_entries()
        assert cached.seq == 0
    while not cached.read_entries():
        pass
    assert cached.seq > 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 120))))
def test_weighted_cache_keeps_the_latest_values_within_its_limit(puts: list[tuple[int, int]]) -> None:
    remembered: WeightedCache[int, int] = WeightedCache(100)
    for place, (key, weight) in enumerate(puts):
        remembered.put(key, place, weight)
        latest = {of: (earlier, weighs) for earlier, (of, weighs) in enumerate(puts[: place + 1])}
        there = {of for of in latest if remembered.get(of) is not None}
        assert all(remembered.get(of) == latest[of][0] for of in there)
        assert sum(latest[of][1] for of in there) <= 100
        for of, (earlier, _) in latest.items():
            assert of in there or sum(weighs for _, weighs in puts[earlier : place + 1]) > 100


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE experiments SET spec = '{' WHERE id = 1",
        "UPDATE experiments SET summary = '{' WHERE id = 1",
        "UPDATE experiments SET labels = '5' WHERE id = 1",
        "UPDATE experiments SET created_at = 1e300 WHERE id = 1",
    ],
)
def test_damaged_experiment_does_not_break_the_list(tmp_path: Path, change: str) -> None:
    with open_home(tmp_path, create=True) as home:
        for _ in range(2):
            add(home, ran(3))
        sound, _ = list_experiments(ExperimentCache(home))
        assert isinstance(home.store, SqliteStore)
        home.store._connection.execute(change)
        cache = ExperimentCache(home)
        other, damaged = list_experiments(cache)
        assert other == sound
        assert damaged.state == "damaged"
        assert damaged.damage
        assert cache.get(2).spec == home.store.spec(2)
        assert TypeAdapter(ExperimentSummary).validate_python(damaged) == damaged


@pytest.mark.parametrize("cut", [1, 200, None])
def test_progress_is_read_from_the_snapshot_of_a_driver_and_history_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int | None
) -> None:
    monkeypatch.setattr("ashwood.dashboard.experiment_cache._TURN_SECONDS", 0.0)
    workers = ran(60)
    spec, entries = workers.experiment.spec, workers.entries
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, workers, until=cut)
        home.directory(experiment)
        spec, log = home.store.spec(experiment), home.store.log(experiment)
        save(home.snapshot(experiment), fold(spec, log))
        append(home, experiment, spec, entries[log.last() :], before=entries[: log.last()])
        cached = ExperimentCache(home).get(experiment)
        assert cached.seq == (cut or len(entries))
        while not cached.read_entries(with_history=False):
            pass
        assert cached.seq == len(entries)
        assert not cached.has_history
        assert cached.fraction_read < 1
        while not cached.read_entries():
            pass
        assert cached.fraction_read == 1
        assert views_of(cached.history) == views_of(fold_entries(History(spec), entries))
        assert cached.entries_about(3) == [
            entry
            for _, entry in cached.latest_entries(limit=10**6, trial=3)[0]
            if entry.decisions or not isinstance(entry.event, ValidationReported)
        ]
