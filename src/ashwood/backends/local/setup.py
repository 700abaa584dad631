"""The settings that a worker reads from its standard input when it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Team(NamedTuple):
    """The rank of a process among those that train a trial together; see `ashwood.trial.job.WorkerJob`."""

    rank: int
    world_size: int
    rendezvous: str | None


ALONE = Team(0, 1, None)


class Setup(NamedTuple):
    """The settings of an experiment that its workers need.

    Attributes:
        kind: kind of the training code, an `ashwood.experiment.spec.EntrypointKind`.
        target: the training code, such as ``module:function``.
        workdir: directory that it runs in.
        logs: directory of the trials' logs.
        arguments: ``sys.argv`` of the training code; if empty, it is the path of the training code alone.
        process_per_attempt: whether every attempt runs in a process of its own.
        others: values, common to all trials, of placeholders in a command that stand for no hyperparameter.
        common: fields of `ashwood.trial.job.WorkerJob` that are the same in all jobs.
    """

    kind: str
    target: str
    workdir: str
    logs: str
    arguments: Sequence[str]
    process_per_attempt: bool
    others: Mapping[str, Any]
    common: Mapping[str, Any]


def file_settings(text: str) -> dict[str, Any]:
    """Return the settings of an experiment file as JSON-able values, or nothing if there is no file."""
    if not text:
        return {}
    import yaml  # imported here, because workers import this module and need no YAML

    settings = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    settings = json.loads(json.dumps(settings, default=str))
    return settings if isinstance(settings, dict) else {}
