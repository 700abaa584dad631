"""Convert hyperparameters to objects of the user's dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, get_origin, get_type_hints

from ashwood.errors import TrainingCodeError, did_you_mean

_T = TypeVar("_T")


def build(cls: type[_T], values: Mapping[str, Any], where: str = "") -> _T:
    """Return an object of a dataclass whose fields have the values of the same names.

    Args:
        cls: the dataclass.
        values: values by name; a nested mapping becomes an object of the dataclass of its field.
        where: prefix of names in messages, such as ``optimizer.``.

    Raises:
        TrainingCodeError: a field is missing, a value has no field, or a value has another type.
    """
    if not is_dataclass(cls):
        raise TrainingCodeError(f"hparams_as() needs a dataclass, not {cls!r}")
    hints = get_type_hints(cls)
    own = {field.name: field for field in fields(cls) if field.init}
    for name in values:
        if name not in own:
            raise TrainingCodeError(
                f"{cls.__name__} has no field for the hyperparameter {where + name!r}{did_you_mean(name, list(own))}; "
                f"its fields: {', '.join(own)}"
            )
    for name, field in own.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise TrainingCodeError(
                f"there is no hyperparameter {where + name!r} for the field of {cls.__name__}"
                f"{did_you_mean(name, list(values))}: add it to the experiment, or give the field a default"
            )
    return cls(**{name: _as(hints[name], value, where + name) for name, value in values.items()})


def _as(hint: Any, value: Any, name: str) -> Any:
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, f"{name}.")
    if isinstance(hint, type) and issubclass(hint, Enum) and not isinstance(value, hint):
        try:
            return hint(value)
        except ValueError:
            raise _wrong(hint, value, name) from None
    if hint is float and type(value) is int:
        return float(value)
    if (hint is tuple or get_origin(hint) is tuple) and isinstance(value, list):
        return tuple(value)
    # In Python a bool is an int, but a bool for a field of type int is most likely a mistake.
    if hint in (int, float, str, bool) and (not isinstance(value, hint) or (hint is int and type(value) is bool)):
        raise _wrong(hint, value, name)
    return value


def _wrong(hint: type, value: Any, name: str) -> TrainingCodeError:
    return TrainingCodeError(
        f"the hyperparameter {name!r} must be of type {hint.__name__} for its field, but is {value!r} "
        f"({type(value).__name__})"
    )
