"""Entries and specs as JSON text and back.

Every NamedTuple becomes an object that names its class under ``is``.  Floats keep every
bit; NaN and infinities are written as Python's JSON dialect writes them.  ``VERSION`` is
stored beside every record: when a shape changes, it rises, and the reader of the old
shape stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Any, Final

from ashwood.errors import EventLogError
from ashwood.eventlog.port import Entry
from ashwood.experiment import decisions, events
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Length, Unit
from ashwood.search import space as spaces
from ashwood.search import vocabulary
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.space import Hyperparameter, Space, Tree

VERSION: Final = 1

_EVENTS: Final = {cls.__name__: cls for cls in events.Event.__args__}
_DECISIONS: Final = {cls.__name__: cls for cls in decisions.Decision.__args__}
_REASONS: Final = {
    cls.__name__: cls
    for cls in (
        *vocabulary.Reason.__args__,
        decisions.Retried,
        decisions.Recovered,
        decisions.ExperimentEnded,
        decisions.GaveUp,
        decisions.RejectedHparams,
        decisions.StoppedItself,
    )
}
_LEAVES: Final = {
    cls.__name__.lower(): cls for cls in (spaces.Const, spaces.Int, spaces.Double, spaces.Log, spaces.Categorical)
}

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encode_entry(entry: Entry) -> str:
    """An entry, its time aside, as one line of JSON."""
    body: dict[str, Any] = {"event": _named(entry.event)}
    if entry.decisions:
        body["decisions"] = [_decision(decision) for decision in entry.decisions]
    return _encode(body)


def decode_entry(at: float, version: int, text: str) -> Entry:
    """The entry that `encode_entry` wrote.

    Raises:
        EventLogError: the text is damaged, or from a newer Ashwood.
    """
    if version > VERSION:
        raise EventLogError(f"the record has version {version}, this Ashwood reads up to {VERSION}: upgrade Ashwood")
    try:
        body = json.loads(text)
        event = _from_named(_EVENTS, body["event"])
        caused = tuple(_decode_decision(data) for data in body.get("decisions", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EventLogError(f"the record is damaged ({error}): {text[:200]}") from error
    return Entry(at, event, caused)


def encode_spec(spec: ExperimentSpec) -> str:
    """A spec as JSON."""
    return _encode(
        {
            **{field.name: getattr(spec, field.name) for field in fields(spec)},
            "space": _tree(spec.space.tree),
            "search": {
                **{field.name: getattr(spec.search, field.name) for field in fields(spec.search)},
                "divisor": str(spec.search.divisor),
            },
            "entrypoint": {"kind": spec.entrypoint.kind, "target": spec.entrypoint.target},
            "min_validation_period": _length(spec.min_validation_period),
            "min_checkpoint_period": _length(spec.min_checkpoint_period),
            "data": dict(spec.data),
            "environment": dict(spec.environment),
        }
    )


def decode_spec(text: str) -> ExperimentSpec:
    """The spec that `encode_spec` wrote.

    Raises:
        EventLogError: the text is damaged.
    """
    try:
        data = json.loads(text)
        search = data["search"]
        return ExperimentSpec(
            **data
            | {
                "space": Space(_decode_tree(data["space"])),
                "search": SearchSettings(
                    **search
                    | {
                        "method": Method(search["method"]),
                        "mode": Mode(search["mode"]),
                        "divisor": Fraction(search["divisor"]),
                        "bracket_rungs": tuple(search["bracket_rungs"]),
                    }
                ),
                "unit": Unit(data["unit"]),
                "entrypoint": Entrypoint(EntrypointKind(data["entrypoint"]["kind"]), data["entrypoint"]["target"]),
                "labels": tuple(data["labels"]),
                "min_validation_period": _decode_length(data["min_validation_period"]),
                "min_checkpoint_period": _decode_length(data["min_checkpoint_period"]),
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise EventLogError(f"the experiment's description is damaged ({error})") from error


# -- entries --------------------------------------------------------------------------------


def _named(record: Any) -> dict[str, Any]:
    return {"is": type(record).__name__, **record._asdict()}


def _decision(decision: Any) -> dict[str, Any]:
    data = _named(decision)
    why = data.get("why")
    if type(why).__name__ in _REASONS:
        data["why"] = _named(why)
    return data


def _from_named(classes: Mapping[str, Callable[..., Any]], data: dict[str, Any]) -> Any:
    return classes[data.pop("is")](**data)


def _decode_decision(data: dict[str, Any]) -> Any:
    if isinstance(why := data.get("why"), dict):
        data["why"] = _from_named(_REASONS, why)
    if state := data.get("state"):
        data["state"] = (TrialState if data["is"] == "CloseTrial" else ExperimentState)(state)
    return _from_named(_DECISIONS, data)


# -- specs ----------------------------------------------------------------------------------


def _tree(tree: Tree) -> dict[str, Any]:
    # A list marks a hyperparameter, so that a nested map may have any names in it.
    return {name: _tree(node) if isinstance(node, Mapping) else _leaf(node) for name, node in tree.items()}


def _leaf(leaf: Hyperparameter) -> list[Any]:
    return [type(leaf).__name__.lower(), {field.name: getattr(leaf, field.name) for field in fields(leaf)}]


def _decode_tree(data: Mapping[str, Any]) -> Tree:
    return {name: _decode_tree(node) if isinstance(node, dict) else _decode_leaf(*node) for name, node in data.items()}


def _decode_leaf(kind: str, data: dict[str, Any]) -> Hyperparameter:
    if kind == "categorical":
        data["vals"] = tuple(data["vals"])
    return _LEAVES[kind](**data)


def _length(length: Length | None) -> list[Any] | None:
    return None if length is None else [length.count, length.unit]


def _decode_length(data: list[Any] | None) -> Length | None:
    return None if data is None else Length(data[0], Unit(data[1]))
