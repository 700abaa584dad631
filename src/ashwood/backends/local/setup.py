"""What a worker is told once, at its start, through its standard input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Team(NamedTuple):
    """The processes that train a trial together; see `ashwood.trial.job.Job`."""

    rank: int
    world_size: int
    rendezvous: str | None


ALONE = Team(0, 1, None)


class Setup(NamedTuple):
    """The experiment, as far as a worker needs it.

    Attributes:
        kind: how the training code is found, an `ashwood.experiment.spec.EntrypointKind`.
        target: the training code.
        workdir: directory that it runs in.
        logs: directory of the trials' logs.
        arguments: what training code sees as ``sys.argv``; empty: its own path alone.
        process_per_attempt: run every attempt in a process of its own.
        others: values of placeholders in a command that stand for no hyperparameter, as far as all trials share them.
        common: the fields of `ashwood.trial.job.Job` that all jobs share.
    """

    kind: str
    target: str
    workdir: str
    logs: str
    arguments: Sequence[str]
    process_per_attempt: bool
    others: Mapping[str, Any]
    common: Mapping[str, Any]
