"""Codec: all entries, requests and specs can be encoded and decoded without change, and damage is detected."""

import json
import math
from dataclasses import fields, replace
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.errors import EventLogError
from ashwood.eventlog.codec import (
    VERSION,
    StoredEntry,
    check_spec,
    decode_entry,
    decode_request,
    decode_spec,
    encode_entry,
    encode_request,
    encode_spec,
    from_rows,
    to_row,
)
from ashwood.experiment import decisions, events
from ashwood.experiment.decisions import CloseTrial, DeclaredInvalid, LeaveExperiment, NoSpace
from ashwood.experiment.entry import Entry
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import RULES, Demand, ExperimentSpec
from ashwood.search import vocabulary
from ashwood.search.space import Const, Group, Space, Tree
from ashwood.testing.records import control_entries, edge_case_entries, full_spec, sample_requests

# With surrogates, which UTF-8 cannot encode, because file names can contain them.
# Few of them are named, because Hypothesis writes all strategies into one text, which may not be too long.
texts = st.text(st.characters() | st.sampled_from("a \n\"'\\\0\ud800\udcff☃"))
numbers = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 0.1 + 0.2])
mappings = st.dictionaries(texts, numbers | texts | st.none() | st.booleans() | st.integers(), max_size=3)


def any_of(cls: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for all records of a class."""
    return st.builds(cls, **{name: any_value(kind) for name, kind in get_type_hints(cls).items()})


def any_value(kind: Any) -> st.SearchStrategy[Any]:
    if kind is float:
        return numbers
    if kind is str:
        return texts
    if getattr(kind, "__origin__", None) is not None and "Mapping" in str(kind):
        return mappings
    if get_origin(kind) is tuple:
        return st.lists(any_value(get_args(kind)[0])).map(tuple)
    if alternatives := get_args(kind):
        return st.one_of([any_value(alternative) for alternative in alternatives])
    if hasattr(kind, "_fields"):
        return any_of(kind)
    return st.from_type(kind)


all_events = st.one_of([any_of(cls) for cls in get_args(events.Event)])
all_decisions = st.one_of([any_of(cls) for cls in get_args(decisions.Decision)])
all_entries = st.builds(Entry, numbers, all_events, st.lists(all_decisions, max_size=3).map(tuple))


def test_bounds_are_read_by_their_former_names() -> None:
    spec = full_spec()
    former = encode_spec(spec).replace('"metric_at"', '"stop_at"').replace('"max_time"', '"max_seconds"')
    assert decode_spec(former) == spec
    request = '{"is":"SettingsChanged","settings":{"stop_at":0.5,"max_seconds":null,"max_trials":7}}'
    changed = decode_request(7, request)
    assert changed == events.SettingsChanged({"metric_at": 0.5, "max_time": None, "max_trials": 7})


@given(all_entries)
def test_every_entry_is_decoded_unchanged(entry: Entry) -> None:
    text = encode_entry(entry)
    assert text.isascii()
    assert "\n" not in text
    assert repr(decode_entry(entry.at, VERSION, text)) == repr(entry)
    assert repr(list(from_rows([to_row(7, entry)]))) == repr([(7, entry)])


@given(st.one_of([any_of(cls) for cls in get_args(events.Request)]))
def test_every_request_is_decoded_unchanged(request: events.Request) -> None:
    assert repr(decode_request(VERSION, encode_request(request))) == repr(request)


def test_records_for_tests_include_every_class() -> None:
    assert {type(request) for request in sample_requests()} == set(get_args(events.Request))
    seen = {type(d.why) for entry in control_entries() for d in entry.decisions if isinstance(d, LeaveExperiment)}
    assert set(get_args(decisions.WhyLeave)) <= seen
    known = {*get_args(vocabulary.Reason), *get_args(decisions.WhyLeave)}
    assert all(hasattr(reason, "_fields") for reason in known)


def test_spec_of_version_1_gets_defaults_for_new_fields() -> None:
    new = ("max_common_failures", "metric_at", "max_time", "checkpoint_policy", "provenance")
    text = json.dumps({name: value for name, value in json.loads(encode_spec(full_spec())).items() if name not in new})
    spec = decode_spec(text)
    defaults = {field.name: field.default for field in fields(ExperimentSpec)}
    assert [getattr(spec, name) for name in new[:4]] == [defaults[name] for name in new[:4]]
    assert spec.provenance == {}
    assert decode_spec(encode_spec(full_spec())) == full_spec()


def test_spec_of_version_2_runs_locally_with_unlimited_preemptions() -> None:
    new = ("max_preemptions", "demand", "ray")
    text = json.dumps({name: value for name, value in json.loads(encode_spec(full_spec())).items() if name not in new})
    spec = decode_spec(text)
    assert (spec.max_preemptions, spec.demand, spec.ray) == (None, Demand(), None)


def test_events_of_version_2_have_no_nodes() -> None:
    changed = decode_entry(1.0, 2, '{"event":{"is":"CapacityChanged","slots":3},"decisions":[]}')
    assert changed.event == events.CapacityChanged(3, {}, "")
    started = '{"event":{"is":"AttemptStarted","trial":0,"attempt":1,"slot":2,"length":0},"decisions":[]}'
    assert decode_entry(1.0, 2, started).event == events.AttemptStarted(0, 1, 2, 0, "")


def test_checkpoint_of_version_3_has_no_metrics() -> None:
    saved = '{"event":{"is":"CheckpointSaved","trial":0,"attempt":1,"length":4,"path":"trial-0/length-4-attempt-1"}}'
    assert decode_entry(1.0, 3, saved).event == events.CheckpointSaved(0, 1, 4, "trial-0/length-4-attempt-1", None)


def test_disk_filled_of_version_4_becomes_storage_failed() -> None:
    text = (
        '{"event":{"is":"DiskFilled","trial":0,"attempt":1,"error":"full"},"decisions":[{"is":"LeaveExperiment",'
        '"state":"paused","why":{"is":"NoSpace","error":"full"}}]}'
    )
    left = LeaveExperiment(ExperimentState.PAUSED, NoSpace("full"))
    assert decode_entry(1.0, 4, text) == Entry(1.0, events.StorageFailed(0, 1, "full", events.FULL), (left,))


def test_hparams_rejected_of_version_7_becomes_hparams_invalid() -> None:
    text = (
        '{"event":{"is":"HparamsRejected","trial":0,"attempt":1,"why":"too wide"},"decisions":[{"is":"CloseTrial",'
        '"trial":0,"state":"invalid","why":{"is":"RejectedHparams","why":"too wide"}}]}'
    )
    closed = CloseTrial(0, TrialState.INVALID, DeclaredInvalid("too wide"))
    assert decode_entry(1.0, 7, text) == Entry(1.0, events.HparamsInvalid(0, 1, "too wide"), (closed,))


def test_spec_without_rules_has_rules_0() -> None:
    text = json.dumps({name: value for name, value in json.loads(encode_spec(full_spec())).items() if name != "rules"})
    assert decode_spec(text).rules == 0
    assert full_spec().rules == RULES > 0


@given(
    st.lists(all_entries, min_size=1, max_size=5),
    st.data(),
)
def test_from_rows_yields_entries_before_damaged_row_and_raises(entries: list[Entry], data: st.DataObject) -> None:
    rows = [to_row(seq, entry) for seq, entry in enumerate(entries, start=1)]
    damaged = data.draw(st.integers(0, len(rows) - 1))
    row = rows[damaged]
    assert row.digest is not None
    at = data.draw(st.integers(0, len(row.body) - 1))
    rows[damaged] = data.draw(
        st.sampled_from(
            [
                row._replace(body=row.body[:at] + chr(ord(row.body[at]) ^ 1) + row.body[at + 1 :]),
                row._replace(body=row.body[:at]),
                row._replace(seq=row.seq + 1),
                row._replace(at=math.nextafter(row.at, math.inf) if math.isfinite(row.at) else 0.0),
                row._replace(version=VERSION + 1),
                row._replace(digest=row.digest ^ 1),
                row._replace(digest=None),
            ]
        )
    )
    reading = from_rows(rows)
    assert repr([next(reading)[1] for _ in range(damaged)]) == repr(entries[:damaged])
    with pytest.raises(EventLogError):
        next(reading)


def test_rows_of_version_1_are_read_without_digests() -> None:
    entries = edge_case_entries()
    rows = [StoredEntry(seq, entry.at, 1, encode_entry(entry), None) for seq, entry in enumerate(entries, start=1)]
    assert [repr(entry) for _, entry in from_rows(rows)] == [repr(entry) for entry in entries]


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"is":"Unheard"}', '{"is":"DriverStopped"}', '{"is":"KillRequested","x":1}']
)
def test_decode_request_rejects_damaged_text_and_newer_version(body: str) -> None:
    with pytest.raises(EventLogError, match="the record is damaged"):
        decode_request(VERSION, body)
    with pytest.raises(EventLogError, match="upgrade Ashwood"):
        decode_request(99, body)


@pytest.mark.parametrize(
    "tree",
    [
        {"a": Const(1, when={"b": 1})},
        {"a": Const(1, when={"a": 1})},
        {"a": Const(1), "b": Const(1, when={"a": []})},
        {"a": Const(1), "b": Group({"c": Const(1)}, [1])},  # type: ignore[arg-type]
    ],
)
def test_wrong_condition_of_spec_is_damage(tree: Tree) -> None:
    check_spec(decode_spec(encode_spec(full_spec())))
    with pytest.raises(EventLogError, match="the spec of the experiment is damaged"):
        check_spec(replace(full_spec(), space=Space(tree)))


@pytest.mark.parametrize("constraint", ["missing > 1", "open('x')"])
def test_wrong_constraint_of_spec_is_damage(constraint: str) -> None:
    spec = replace(full_spec(), space=Space(full_spec().space.tree, (constraint,)))
    with pytest.raises(EventLogError, match="the spec of the experiment is damaged"):
        check_spec(spec)
