"""Checks data against a model of `ashwood.config.shape`, and says how to fix each mismatch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ashwood.config import determined
from ashwood.config.report import Report
from ashwood.config.shape import LEAVES, MOST_WHOLE, ExperimentFile, Leaf, Section
from ashwood.config.wording import Path, all_of, any_of, dotted, nearest, not_one_of, number, shorten, shown
from ashwood.experiment.spec import SaveOn
from ashwood.search.settings import Method, Mode

_M = TypeVar("_M", bound=BaseModel)

_LONGEST_FIX = 60

_WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a map (key: value)",
    "model_type": "a map (key: value)",
    "model_attributes_type": "a map (key: value)",
}


def checked(data: dict[str, Any], report: Report) -> ExperimentFile:
    """Return the file as a model.  Wrong values are reported and replaced by their defaults."""
    try:
        return ExperimentFile.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    _report_all(details, (), ExperimentFile, report)
    pruned = _copy(data)
    for detail in details:
        _remove(pruned, detail["loc"])
    return ExperimentFile.model_validate(pruned)


def checked_leaf(model: type[_M], data: dict[str, Any], at: Path, report: Report) -> _M | None:
    """Return a hyperparameter as a model, or None if it is wrong, which is reported."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        _report_all(error.errors(include_url=False), at, model, report)
        return None


def must_be(expected: str, value: Any) -> str:
    """Return a message that a value has the wrong type, with a correct spelling if one can be guessed."""
    return f"must be {expected}, not {shown(value)}{_fix(expected, value)}"


def _report_all(details: Iterable[ErrorDetails], at: Path, model: type[BaseModel], report: Report) -> None:
    # Report unknown keys first.  If such a key is a misspelling of a required one, that one is not reported as missing.
    for detail in sorted(details, key=lambda detail: detail["type"] != "extra_forbidden"):
        if report.is_full:
            break
        path = (*at, *detail["loc"])
        match detail["type"]:
            case "extra_forbidden" if not report.known_bad(path):
                _report_unknown_key(path, at, model, report)
            case "missing" if not report.known_bad(path):
                needs = all_of(name for name, field in model.model_fields.items() if field.is_required())
                report.error(path, f"is missing; needed are {needs}")
            case "extra_forbidden" | "missing":
                pass  # The problem has been reported under the misspelt key.
            case "int_type" if (most := _too_large(detail, model)) is not None:
                report.error(path, f"must be at most {most}, not {shown(detail['input'])}")
            case _:
                report.error(path, _message(detail))


def _too_large(detail: ErrorDetails, model: type[BaseModel]) -> int | None:
    """Return the largest whole number that a key takes, if the value is a whole float above it, such as 1e9."""
    *inner, key = detail["loc"]
    value = detail["input"]
    if not isinstance(value, float) or not value.is_integer() or not isinstance(key, str):
        return None
    field = _section(model, inner).model_fields[key]
    bounds: list[int] = [each.le for each in field.metadata if hasattr(each, "le")]
    return next((bound for bound in bounds if value > bound), None)


def _message(detail: ErrorDetails) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    match kind:
        case "enum":
            return _not_in_enum(str(detail["loc"][-1]), value)
        case "greater_than":
            return f"must be above {context['gt']:g}, not {shown(value)}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {shown(value)}"
        case "less_than_equal":
            return f"must be at most {number(context['le'])}, not {shown(value)}"
        case "finite_number":
            return f"must be a finite number, not {shown(value)}"
        case "string_too_short":
            return "must not be empty"
        case "too_long":
            return f"must hold at most {context['max_length']} values, not {context['actual_length']:,}"
        case "too_short":
            return "must hold at least one value, not an empty list"
        case "int_from_float" | "int_parsing_size":
            return must_be("a whole number", value)
        case _ if kind in _WORDS:
            return must_be(_WORDS[kind], value)
        case _:
            return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {shown(value)}"


def _not_in_enum(key: str, value: Any) -> str:
    if key == "mode" and isinstance(value, str) and (instead := _DIRECTIONS.get(value.lower())):
        return f"is how early trials stop, not a direction: for that, write {instead}"
    if key == "mode":
        return not_one_of(value, list(Mode), "a mode")
    if key == "checkpoint_policy":
        return not_one_of(value, list(SaveOn), "a checkpoint policy")
    if isinstance(value, str) and (instead := determined.METHODS.get(value.lower())):
        return f"{shown(value)} isn't a search method of Ashwood; {instead}"
    return not_one_of(value, list(Method), "a search method")


def _fix(expected: str, value: Any) -> str:
    """Return a correct spelling of the value to append to a message, or an empty text if none can be guessed."""
    if expected == "text" and isinstance(value, bool | int | float):
        return f': write "{shown(value)}" in quotes'
    if expected == "a list" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f": write [{shorten(value, _LONGEST_FIX) if isinstance(value, str) else shown(value)}]"
    if isinstance(value, str) and expected in ("a whole number", "a number", "true or false"):
        return f": write {shorten(value, _LONGEST_FIX)} without quotes" if _reads_as(expected, value) else ""
    if expected == "a whole number" and isinstance(value, float) and value.is_integer() and abs(value) <= MOST_WHOLE:
        return f": write {int(value)}"
    return ""


def _reads_as(expected: str, text: str) -> bool:
    if expected == "true or false":
        return text in ("true", "false")
    try:
        return isfinite(float(text) if expected == "a number" else int(text))
    except (ValueError, OverflowError):
        return False


_DIRECTIONS = {
    "max": "smaller_is_better: false",
    "maximize": "smaller_is_better: false",
    "min": "smaller_is_better: true",
    "minimize": "smaller_is_better: true",
}

# -- unknown keys -----------------------------------------------------------------------------


def _report_unknown_key(path: Path, at: Path, model: type[BaseModel], report: Report) -> None:
    *inner, key = path[len(at) :]
    name, around = str(key), path[:-1]
    if issubclass(model, Leaf):
        known, elsewhere, far = sorted(model.model_fields), _types_with(name), None
    else:
        known, elsewhere = sorted(_section(model, inner).model_fields), _right_place(name, around)
        far = _similar_elsewhere(name)
    if elsewhere is not None:
        report.error(path, elsewhere)
    elif name in ("direction", "objective", "goal"):
        report.error(path, "unknown key; write smaller_is_better: false if a larger metric is better")
    elif close := nearest(name, known):
        report.error(path, f"unknown key; did you mean {close}?")
        report.excuse((*around, close))
    elif far:
        report.error(path, f"unknown key; did you mean {dotted(far)}?")
        report.excuse(far)
    else:
        report.error(path, f"unknown key; here may be {any_of(known)}")


def _types_with(key: str) -> str | None:
    types = [kind.value for kind, leaf in LEAVES.items() if key in leaf.model_fields]
    return f"is for {any_of(types)}: leave it out" if types else None


def _right_place(key: str, around: Path) -> str | None:
    for section, keys in _homes():
        if key in keys and section != around:
            return f"is in the wrong place: write it as {dotted((*section, key))}{'' if section else ', at the top'}"
    return None


def _similar_elsewhere(key: str) -> Path | None:
    for section, keys in _homes():
        if close := nearest(key, sorted(keys)):
            return (*section, close)
    return None


def _homes() -> Iterator[tuple[Path, set[str]]]:
    """Yield every section of the file with its keys, including Determined's keys without effect."""
    sections: list[tuple[Path, type[BaseModel]]] = [((), ExperimentFile)]
    for path, model in sections:  # The loop appends nested sections to this list.
        yield path, {*model.model_fields, *(str(key[-1]) for key in determined.IGNORED if key[:-1] == path)}
        for name, info in model.model_fields.items():
            if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
                sections.append(((*path, name), info.annotation))


def _section(model: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel]:
    for name in path:
        annotation = model.model_fields[str(name)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            raise TypeError(f"{model.__name__}.{name} is no section")
        model = annotation
    return model


# -- leaving out what is wrong ------------------------------------------------------------------


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    """Copy the file's map and the sections in it, which is as deep as `_remove` changes them."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}


def _remove(data: dict[str, Any], path: Path) -> None:
    """Remove a key of the file or of a section.  A list with a wrong item is removed as a whole."""
    first, *rest = path
    section = data.get(str(first))
    if rest and isinstance(rest[0], str) and isinstance(section, dict):
        section.pop(rest[0], None)
    else:
        data.pop(str(first), None)
