"""The JSON schema of experiment files, for editors."""

from __future__ import annotations

from typing import Any

from ashwood.config.file import FILE
from ashwood.config.hyperparameters import hyperparameter_schema
from ashwood.config.searcher import SearcherSection


def experiment_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of an experiment file, with descriptions and defaults.

    Editors use it to complete and check keys and types.  Rules about several values, such as
    minval < maxval, are checked only when Ashwood reads the file.
    """
    properties: dict[str, Any] = FILE.schema["properties"]
    # These methods sample max_trials trials.
    sampled = [str(method) for method in SearcherSection.declared()["sampler"].only]
    searcher = properties["searcher"] | {
        "if": {"properties": {"name": {"enum": sampled}}, "required": ["name"]},
        "then": {"required": ["max_trials"]},
        "anyOf": [{"required": ["max_length"]}, {"required": ["time_metric", "max_time"]}],
    }
    return FILE.schema | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ashwood experiment",
        "properties": properties | {"searcher": searcher},
        "$defs": {"Hyperparameter": hyperparameter_schema()},
    }
