"""Builds the JSON schema of experiment files, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from ashwood.config.determined import IGNORED
from ashwood.config.shape import LEAVES, ExperimentFile
from ashwood.search.settings import Method

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WITH_MAX_TRIALS = [Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING, Method.SYNC_HALVING, Method.RANDOM]


def experiment_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of an experiment file, with descriptions and defaults.

    Editors use it to complete and check keys and types.  Rules about several values, such as
    minval < maxval, are checked only when Ashwood reads the file.
    """
    models = [(ExperimentFile, "validation"), *((leaf, "validation") for leaf in LEAVES.values())]
    _, schema = models_json_schema(models)  # type: ignore[arg-type]
    definitions = schema["$defs"]
    definitions["Hyperparameter"] = _hyperparameter()
    searcher = definitions["Searcher"]
    searcher["allOf"] = [_needs_max_trials()]
    searcher["anyOf"] = [{"required": ["max_length"]}, {"required": ["time_metric", "max_time"]}]
    top = definitions.pop("ExperimentFile")
    for path, instead in IGNORED.items():
        section = definitions[path[0].capitalize()] if len(path) > 1 else top  # type: ignore[union-attr]
        section["properties"][path[-1]] = {"deprecated": True, "description": f"Of Determined, no effect; {instead}."}
    for definition in (top, *definitions.values()):
        _tidy(definition)
    return {"$schema": _DIALECT, **top, "title": "Ashwood experiment", "$defs": definitions}


def _hyperparameter() -> dict[str, Any]:
    """Return the schema of a hyperparameter: a map with a type, nested hyperparameters, or a constant."""
    leaves = [{"$ref": f"#/$defs/{leaf.__name__}"} for leaf in LEAVES.values()]
    nested = {
        "description": "Nested hyperparameters.",
        "type": "object",
        "properties": {"type": {"$ref": "#/$defs/Hyperparameter", "type": "object"}},
        "additionalProperties": {"$ref": "#/$defs/Hyperparameter"},
    }
    constant = {"description": "A constant.", "type": ["number", "string", "boolean", "null", "array"]}
    return {"anyOf": [*leaves, nested, constant]}


def _needs_max_trials() -> dict[str, Any]:
    named = {"properties": {"name": {"enum": [method.value for method in _WITH_MAX_TRIALS]}}, "required": ["name"]}
    return {"if": named, "then": {"required": ["max_trials"]}}


def _tidy(definition: dict[str, Any]) -> None:
    """Remove generated titles and empty defaults, which editors would show without telling users anything."""
    definition.pop("title", None)
    for each in definition.get("properties", {}).values():
        each.pop("title", None)
        if each.get("default", ...) is None or isinstance(each.get("default"), dict):
            del each["default"]
