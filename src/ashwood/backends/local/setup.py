"""The settings that a worker reads from its standard input when it starts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Team(NamedTuple):
    """The rank of a process among those that train a trial together; see `ashwood.trial.job.WorkerJob`."""

    rank: int
    world_size: int
    rendezvous: str | None


_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+\Z")

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


def file_settings(text: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings of an experiment file as JSON-able values, or nothing if there is no file.

    Args:
        text: text of the file.
        overrides: values of the command line that replace those of the file, such as ``searcher.max_trials=9``.
    """
    if not text:
        return {}
    import yaml  # imported here, because workers import this module and need no YAML

    from ashwood.views.plain import put

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """A safe loader for which ``1e-4`` is a number, as for the reader of experiment files."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789."))
    settings = yaml.load(text, Loader)  # noqa: S506 - it is safe
    if not isinstance(settings, dict):
        return {}
    for override in overrides:
        path, _, value = override.partition("=")
        put(settings, [name.strip() for name in path.split(".")], yaml.load(value, Loader))  # noqa: S506
    return dict(json.loads(json.dumps(settings, default=str)))
