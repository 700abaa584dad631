"""The codec: encodes entries, requests and specs as JSON text, and decodes them.

A NamedTuple becomes an object with the name of its class under the key ``is``.  Floats are encoded exactly; NaN and
infinities are written as Python's ``json`` module writes them.  The text is ASCII, so the encoding of a database does
not matter.  ``VERSION`` is stored with each record.  It rises when the shape of a record changes, and all earlier
shapes can still be decoded.  From version 2 on, a digest is stored with each record, so that damage is detected.

| version | changes |
|---|---|
| 1 | first version |
| 2 | digests; requests of users; checkpoint policy, bounds and provenance of a spec; relative paths of checkpoints |
| 3 | preempted workers; nodes of a cluster |
| 4 | metrics of a checkpoint; number of the rule set of a spec |
| 5 | ``StorageFailed`` with a cause instead of ``DiskFilled``; requests to retry failed trials |
| 6 | ``TrialWarned`` |
| 7 | ``TrialTrained``; ``max_invalid_trials`` among the settings |
| 8 | ``HparamsInvalid`` and ``DeclaredInvalid`` instead of ``HparamsRejected`` and ``RejectedHparams`` |
| 8 | ``metric_at`` and ``max_time`` instead of ``stop_at`` and ``max_seconds`` |
| 9 | added trials, extended searches, sizes of checkpoints; steps, conditions and constraints of a space |
| 10 | ``Audited``, ``CreatedHedged``, replicates; the share of audits of a search, and whether it is hedged |
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from hashlib import blake2b
from types import UnionType
from typing import Any, Final, ForwardRef, NamedTuple, Union, get_args, get_origin, get_type_hints

from ashwood.errors import EventLogError
from ashwood.eventlog.port import Seq
from ashwood.experiment import decisions, events
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Request
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import (
    CheckpointPolicy,
    Demand,
    Entrypoint,
    EntrypointKind,
    ExperimentSpec,
    Length,
    RayCluster,
    SaveOn,
    Unit,
)
from ashwood.search import space as spaces
from ashwood.search.guides import Confidence, PastTrials, Prior
from ashwood.search.settings import Method, Mode, Sampler, SearchSettings
from ashwood.search.space import Group, Hyperparameter, Space, Tree

VERSION: Final = 10

_FORMER_EVENTS: Final = {"DiskFilled": events.StorageFailed, "HparamsRejected": events.HparamsInvalid}
_EVENTS: Final = _FORMER_EVENTS | {cls.__name__: cls for cls in events.Event.__args__}
_REQUESTS: Final = {cls.__name__: cls for cls in events.Request.__args__}
_DECISIONS: Final = {cls.__name__: cls for cls in decisions.Decision.__args__}
_REASONS: Final = {"RejectedHparams": decisions.DeclaredInvalid, "OverQuota": decisions.OverQuota} | {
    cls.__name__: cls
    for why in (decisions.WhyTrained, decisions.WhyClosed, decisions.WhyReopened, decisions.WhyLeave)
    for cls in why.__args__
}
_LEAVES: Final = {
    cls.__name__.lower(): cls for cls in (spaces.Const, spaces.Int, spaces.Double, spaces.Log, spaces.Categorical)
}

_FORMER_FIELDS: Final = {"stop_at": "metric_at", "max_seconds": "max_time"}
"""Former names of the bounds of a search, in specs, requests and decisions."""

# Records contain no circular references.  Looking for them would cost time for each entry that is appended.
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class StoredEntry(NamedTuple):
    """An entry as it is stored in a table.

    Attributes:
        seq: number of the entry in its log.
        at: when its event was handled, in seconds since 1970.
        version: version of the codec that encoded it.
        body: its text, from `encode_entry`.
        digest: digest of all of these; None in version 1.
    """

    seq: Seq
    at: float
    version: int
    body: str
    digest: int | None


def to_row(seq: Seq, entry: Entry) -> StoredEntry:
    """Encode an entry with its number in the log."""
    body = encode_entry(entry)
    return StoredEntry(seq, entry.at, VERSION, body, digest_of(body, _pack_header(seq, VERSION, entry.at)))


def from_rows(rows: Sequence[StoredEntry]) -> Iterator[tuple[Seq, Entry]]:
    """Decode rows, and yield the entries with their numbers.

    Raises:
        EventLogError: a row is damaged or from a newer Ashwood; the entries before it have been yielded.
    """
    if all(_is_sound(*row) for row in rows):
        # The digests show that the texts are exactly as they were encoded.  So most reports can be recognised by a
        # regular expression, and all other texts can be parsed as one JSON array.  This takes a third of the time that
        # `_from_row` takes for each row.
        entries = [_report(row.at, row.body) for row in rows]
        others = (row.body for row, entry in zip(rows, entries, strict=True) if entry is None)
        bodies = iter(json.loads(f"[{','.join(others)}]"))
        for row, entry in zip(rows, entries, strict=True):
            yield row.seq, _entry(row.at, next(bodies), row.body) if entry is None else entry
        return
    for row in rows:
        yield row.seq, _from_row(row)


def digest_of(text: str, header: bytes = b"") -> int:
    """Return the digest of a record, a signed 64-bit integer.

    ``header`` is the fixed-size part of the record, so that a text that was moved to another entry is detected.
    """
    return int.from_bytes(blake2b(header + text.encode(), digest_size=8).digest(), "big", signed=True)


def check_digest(digest: int | None, text: object, header: bytes = b"") -> None:
    """Check the digest that is stored with a record.

    Raises:
        EventLogError: the record is damaged.
    """
    # A damaged column of SQLite may hold another type than text.
    if not isinstance(text, str) or digest != digest_of(text, header):
        raise EventLogError(f"the record is damaged, its digest is wrong: {text!s:.200}")


def check_version(version: object) -> None:
    """Check that this version of Ashwood can decode a record.

    Raises:
        EventLogError: the record is from a newer Ashwood, or its version is damaged.
    """
    if not isinstance(version, int):
        raise EventLogError(f"the record is damaged, its version is {version!r}")
    if version > VERSION:
        raise EventLogError(
            f"the record has version {version}, but this Ashwood reads versions up to {VERSION}: upgrade Ashwood"
        )


def encode_entry(entry: Entry) -> str:
    """Encode an entry, except its time, as one line of JSON."""
    body: dict[str, Any] = {"event": _named(entry.event)}
    if entry.decisions:
        body["decisions"] = [_decision(decision) for decision in entry.decisions]
    return _encode(body)


def decode_entry(at: float, version: int, text: str) -> Entry:
    """Decode a text from `encode_entry`, and return the entry.

    Raises:
        EventLogError: the text is damaged or from a newer Ashwood.
    """
    check_version(version)
    return _entry(at, _parse(text), text)


def encode_request(request: Request) -> str:
    """Encode a request as one line of JSON."""
    return _encode(_named(request))


def decode_request(version: int, text: str) -> Request:
    """Decode a text from `encode_request`, and return the request.

    Raises:
        EventLogError: the text is damaged or from a newer Ashwood.
    """
    try:
        check_version(version)
        request: Request = _from_named(_REQUESTS, _parse(text))
        _check_fields(request)
    except _DAMAGE as error:
        raise _damaged(error, text) from error
    return request


def encode_spec(spec: ExperimentSpec) -> str:
    """Encode a spec as JSON."""
    return _encode(
        {
            **_fields(spec),
            "space": _tree(spec.space.tree),
            "constraints": spec.space.constraints,
            "search": {
                **_fields(spec.search),
                "divisor": str(spec.search.divisor),
                "audit": str(spec.search.audit),
            },
            "entrypoint": _fields(spec.entrypoint),
            "min_validation_period": _length(spec.min_validation_period),
            "min_checkpoint_period": _length(spec.min_checkpoint_period),
            "data": dict(spec.data),
            "environment": dict(spec.environment),
            "demand": _fields(spec.demand),
            "ray": None if spec.ray is None else _fields(spec.ray),
            "checkpoint_policy": None if spec.checkpoint_policy is None else _fields(spec.checkpoint_policy),
            "provenance": dict(spec.provenance),
            "start_with": [dict(given) for given in spec.start_with],
            "warm_start": [_fields(past) for past in spec.warm_start],
        }
    )


def decode_spec(text: str) -> ExperimentSpec:
    """Decode a text from `encode_spec`, and return the spec; fields that its version did not have get their defaults.

    Raises:
        EventLogError: the text is damaged.
    """
    try:
        data = _with_present_names(json.loads(text))
        search = data["search"]
        constraints = tuple(data.pop("constraints", ()))
        return ExperimentSpec(
            **data
            | {
                "space": Space(_decode_tree(data["space"]), constraints),
                "search": SearchSettings(
                    **search
                    | {
                        "method": Method(search["method"]),
                        "mode": Mode(search["mode"]),
                        "sampler": Sampler(search.get("sampler", Sampler.RANDOM)),
                        "divisor": Fraction(search["divisor"]),
                        "audit": Fraction(search.get("audit", 0)),
                        "hedged": search.get("hedged", False),
                        "bracket_rungs": tuple(search["bracket_rungs"]),
                        "bracket_lengths": _decode_lengths(search.get("bracket_lengths", ())),
                        "bracket_trials": tuple(search.get("bracket_trials", ())),
                    }
                ),
                "unit": Unit(data["unit"]),
                "entrypoint": Entrypoint(EntrypointKind(data["entrypoint"]["kind"]), data["entrypoint"]["target"]),
                "labels": tuple(data["labels"]),
                "arguments": tuple(data.get("arguments", ())),
                "start_with": tuple(data.get("start_with", ())),
                "min_validation_period": _decode_length(data["min_validation_period"]),
                "min_checkpoint_period": _decode_length(data["min_checkpoint_period"]),
                "checkpoint_policy": _decode_policy(data.get("checkpoint_policy")),
                "save_on": SaveOn(data.get("save_on", SaveOn.BEST)),
                "demand": Demand(**data.get("demand", {})),
                "ray": None if data.get("ray") is None else RayCluster(**data["ray"]),
                "rules": data.get("rules", 0),
                "warm_start": tuple(_decode_past(each) for each in data.get("warm_start", ())),
            }
        )
    except (*_DAMAGE, RecursionError, ZeroDivisionError, OverflowError) as error:
        raise EventLogError(f"the spec of the experiment is damaged ({error})") from error


def check_spec(spec: ExperimentSpec) -> None:
    """Check that each value of a spec has the type of its field.

    A spec from a file needs this check; one from a database has a digest.

    Raises:
        EventLogError: a value has another type.
    """
    parts = (spec, *(leaf for _, leaf in spec.space.leaves()))
    conditions = (when for _, _, owned in spec.space.conditional() for _, when in owned)
    if not all(fits(part, type(part)) for part in parts) or not all(isinstance(when, dict) for when in conditions):
        raise EventLogError("the spec of the experiment is damaged: a value has the wrong type for its field")
    try:
        spec.space.check()
    except ValueError as error:
        raise EventLogError(f"the spec of the experiment is damaged: {error}") from error


def fits(value: object, hint: Any) -> bool:
    """Return whether a value has the type of an annotation; only annotations that specs use are supported.

    A spec may come from an untrusted file, and the code that uses it relies on its types.
    """
    if isinstance(hint, type) and is_dataclass(hint):
        parts = _hints(hint).items()
        return isinstance(value, hint) and all(fits(getattr(value, name), of) for name, of in parts)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin in (tuple, Sequence):
        return isinstance(value, tuple) and all(fits(each, arguments[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(
            isinstance(key, str) and fits(each, arguments[1]) for key, each in value.items()
        )
    if hint in (int, float):  # Not isinstance, because bool is a subclass of int.
        return type(value) is int or (hint is float and type(value) is float)
    # A forward reference is the tree of a space, which has been checked when it was decoded.
    return hint is Any or isinstance(hint, ForwardRef) or isinstance(value, hint)


@cache
def _hints(of: type) -> dict[str, Any]:
    return get_type_hints(of)


# -- entries and requests -------------------------------------------------------------------

_DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error)


# The number of the experiment is not part of a digest, because a log that is copied to another home gets a new number.
_pack_header = struct.Struct("<qqd").pack  # seq, version, at


def _is_sound(seq: Seq, at: float, version: int, body: str, digest: int | None) -> bool:
    try:
        return 1 < version <= VERSION and digest == digest_of(body, _pack_header(seq, version, at))
    except _DAMAGE:  # A value has the wrong type.
        return False


def _from_row(row: StoredEntry) -> Entry:
    try:
        check_version(row.version)
        if row.version > 1:
            check_digest(row.digest, row.body, _pack_header(row.seq, row.version, row.at))
        return decode_entry(row.at, row.version, row.body)
    except _DAMAGE as error:
        raise _damaged(error, str(row.body)) from error


def _damaged(error: Exception, text: str) -> EventLogError:
    return EventLogError(f"the record is damaged ({error}): {text!s:.200}")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except _DAMAGE as error:
        raise _damaged(error, text) from error


_parse_at: Final = json.JSONDecoder().raw_decode
_begins_report: Final = re.compile(
    r'\{"event":\{"is":"ValidationReported","trial":([0-9]+),"attempt":([0-9]+),"length":([0-9]+),"metrics":'
).match


def _report(at: float, text: str) -> Entry | None:
    """Decode an entry that has a `ValidationReported` event without decisions; return None for any other entry.

    Nearly all entries of a long log are of this kind.
    """
    found = _begins_report(text)
    if found is None:
        return None
    metrics, end = _parse_at(text, found.end())
    if text[end:] != "}}":
        return None
    trial, attempt, length = map(int, found.groups())
    return Entry(at, events.ValidationReported(trial, attempt, length, metrics), ())


def _entry(at: float, body: Any, text: str) -> Entry:
    try:
        event = _from_named(_EVENTS, body["event"])
        decisions = body.get("decisions", [])
        # Replaced in place to save memory: the last entry of a search may close 100,000 trials, and the dictionaries
        # are large.
        for index, data in enumerate(decisions):
            decisions[index] = _decode_decision(data)
        return Entry(at, event, tuple(decisions))
    except _DAMAGE as error:
        raise _damaged(error, text) from error


def _check_fields(request: Request) -> None:
    """Raise TypeError if a field of a request has a type that an experiment cannot handle."""
    match request:
        case events.TrialKillRequested(trial) | events.TrialStopRequested(trial):
            fits = type(trial) is int
        case events.ExtendRequested():
            fits = all(field is None or type(field) is int for field in request)
        case events.PauseRequested():
            fits = all(isinstance(field, str) for field in request)
        case events.SettingsChanged(settings):
            fits = isinstance(settings, dict)
        case events.AddTrialRequested(hparams, extra):
            fits = isinstance(hparams, dict) and isinstance(extra, bool)
        case _:
            fits = True
    if not fits:
        raise TypeError(f"a field of {type(request).__name__} has a wrong type")


def _named(record: Any) -> dict[str, Any]:
    return {"is": type(record).__name__, **record._asdict()}


def _decision(decision: Any) -> dict[str, Any]:
    data = _named(decision)
    why = data.get("why")
    if type(why).__name__ in _REASONS:
        data["why"] = _named(why)
    return data


def _from_named(classes: Mapping[str, Callable[..., Any]], data: dict[str, Any]) -> Any:
    name = data.pop("is")
    if name == "SettingsChanged":
        data["settings"] = _with_present_names(data["settings"])
    elif name == "ChangeSettings":
        data = _with_present_names(data)
    return classes[name](**data)


def _with_present_names(data: Any) -> Any:
    """Return a dictionary with the present names of fields that had another name."""
    if not isinstance(data, dict):  # It is damaged, and `_check_fields` reports it.
        return data
    return {_FORMER_FIELDS.get(name, name): value for name, value in data.items()}


def _decode_decision(data: dict[str, Any]) -> Any:
    if isinstance(why := data.get("why"), dict):
        data["why"] = _from_named(_REASONS, why)
    if state := data.get("state"):
        data["state"] = (TrialState if data["is"] in ("CloseTrial", "ReopenTrial") else ExperimentState)(state)
    if "bracket_trials" in data:
        data["bracket_trials"] = tuple(data["bracket_trials"])
    if "bracket_lengths" in data:
        data["bracket_lengths"] = _decode_lengths(data["bracket_lengths"])
    return _from_named(_DECISIONS, data)


# -- specs ----------------------------------------------------------------------------------


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _tree(tree: Tree) -> dict[str, Any]:
    # A hyperparameter and a group are lists and a nested map an object, so any key is allowed in a nested map.
    return {name: _tree(node) if isinstance(node, Mapping) else _node(node) for name, node in tree.items()}


def _node(node: Hyperparameter | Group) -> list[Any]:
    data = _fields(node)
    if isinstance(node, Group):
        data |= {"tree": _tree(node.tree)}
    elif node.prior is not None:
        data |= {"prior": _fields(node.prior)}
    return [type(node).__name__.lower(), data]


def _decode_tree(data: Mapping[str, Any]) -> Tree:
    return {name: _decode_tree(node) if isinstance(node, dict) else _decode_node(*node) for name, node in data.items()}


def _decode_node(kind: str, data: dict[str, Any]) -> Hyperparameter | Group:
    if kind == "group":
        return Group(_decode_tree(data["tree"]), data["when"])
    if kind == "categorical":
        data["vals"] = tuple(data["vals"])
    if (prior := data.get("prior")) is not None:
        data["prior"] = Prior(prior["value"], Confidence(prior["confidence"]))
    return _LEAVES[kind](**data)


def _decode_lengths(data: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, data))


def _length(length: Length | None) -> list[Any] | None:
    return None if length is None else [length.count, length.unit]


def _decode_length(data: list[Any] | None) -> Length | None:
    return None if data is None else Length(data[0], Unit(data[1]))


def _decode_past(data: Mapping[str, Any]) -> PastTrials:
    return PastTrials(data["source"], tuple(data["good"]), tuple(data["others"]))


def _decode_policy(data: Mapping[str, int] | None) -> CheckpointPolicy | None:
    return None if data is None else CheckpointPolicy(**data)
