"""The shapes of the API's answers, for the schema and for readers; times are seconds since 1970, durations seconds.

A trial as a row of a table is flat: fixed names; ``best.NAME`` and ``seen.NAME`` of the searcher's metric, the best
result and the best report; ``last.NAME``, the last report of each metric; and ``hparams.NAME`` for each hyperparameter.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypeAlias

# Pydantic reads these at run time, which takes this one before Python 3.12.
from typing_extensions import TypedDict

Row: TypeAlias = dict[str, Any]


class Explained(TypedDict):
    """What went wrong, and what to do."""

    what: str
    hint: str


class Failure(TypedDict):
    """Every answer that isn't what was asked for."""

    error: Explained


class Home(TypedDict):
    """What is looked at."""

    name: str
    version: str
    read_only: bool


class Best(TypedDict):
    """A metric, and where and when it came from."""

    trial: int
    metric: float
    length: int
    at: float


class Card(TypedDict):
    """An experiment in a list; ``damage``: what of it is damaged and what to do, for the state ``damaged``."""

    id: int
    name: str
    state: str
    labels: list[str]
    archived: bool
    created_at: float
    method: str
    metric: str
    smaller_is_better: bool
    unit: str
    max_length: int
    fraction: float
    seconds_left: float | None
    seconds: float | None
    trials: dict[str, int]
    trials_created: int
    trials_planned: int | None
    best: Best | None
    damage: str | None


class Experiments(TypedDict):
    """All experiments, the latest first."""

    experiments: list[Card]


class Rung(TypedDict):
    """One step of a bracket: how many trials were compared there, went on, failed, are on their way, may yet go on."""

    length: int
    arrived: int
    promoted: int
    failed: int
    training: int
    waiting: int


class Bracket(TypedDict):
    """One bracket."""

    number: int
    planned: int
    created: int
    rungs: list[Rung]


class Node(TypedDict):
    """One machine of a cluster."""

    name: str
    slots: int
    trials: list[int]


class Settings(TypedDict):
    """What can be changed while an experiment runs, as it is now."""

    max_concurrent_trials: int
    max_trials: int
    max_invalid_trials: int
    metric_at: float | None
    max_seconds: float | None


class Possible(TypedDict):
    """What can be done to an experiment in its state."""

    pause: bool
    activate: bool
    cancel: bool
    kill: bool
    set: bool


class Header(Card):
    """Where an experiment stands; ``read``: how much of its record that takes into account.

    ``seen``: the best report, if it is better than the best result because it has no checkpoint.
    """

    seen: Best | None

    why_ended: str
    utilisation: float
    slots: int
    slots_in_use: int
    nodes: list[Node]
    reports: int
    failed_attempts: int
    length_trained: int
    length_repeated: int
    length_expected: float
    warnings: list[str]
    brackets: list[Bracket]
    settings: Settings
    can: Possible
    seq: int
    read: float


class Description(TypedDict):
    """What of an experiment never changes."""

    description: str
    seed: int
    entrypoint: str
    workdir: str
    config: str
    provenance: dict[str, Any]
    divisor: float
    lengths: list[list[int]]


class ExperimentPage(Header, Description):
    """One experiment; its best trial is a row with ``hyperparameters``, ``as_yaml``, ``as_python`` and ``download``."""

    best_trial: Row | None


class Spark(TypedDict):
    """The best metric so far in a few points: seconds that drivers had run, metric."""

    points: list[list[float]]


class Column(TypedDict):
    """A column of a table; ``kind``: number, text, time, duration, state or trial."""

    key: str
    label: str
    kind: str
    hyperparameter: bool


class Trials(TypedDict):
    """A page of a table of trials; ``total``: all of them, ``matching``: those that fit the conditions."""

    total: int
    matching: int
    seq: int
    sort: str
    columns: list[Column]
    rows: list[Row]


class Step(TypedDict):
    """A decision about a trial, with the numbers that its reason has."""

    at: float
    kind: str
    text: str
    reason: str
    target: int | None
    rung: NotRequired[int]
    rank: NotRequired[int]
    of: NotRequired[int]
    best: NotRequired[int]


class Attempt(TypedDict):
    """One process that worked on a trial."""

    number: int
    slot: int
    node: str | None
    length: int
    started_at: float
    ended_at: float | None
    how: str
    error: str | None


class Happening(TypedDict):
    """What happened, in a few words."""

    at: float
    text: str


class Checkpoint(TypedDict):
    """A checkpoint; ``download``: where to get it as a tar archive."""

    name: str
    length: int
    metric: float | None
    saved_at: float
    kept_as: list[str]
    place: str
    download: str | None


class PossibleOfTrial(TypedDict):
    """What can be done to a trial."""

    stop: bool
    kill: bool


class Copies(TypedDict):
    """A trial's hyperparameters as people take them along."""

    hyperparameters: dict[str, Any]
    as_yaml: str
    as_python: str


class TrialPage(Copies):
    """All about a trial but its curves and its log."""

    row: Row
    target: int
    lengths: list[int]
    way: list[Step]
    attempts: list[Attempt]
    happenings: list[Happening]
    checkpoints: list[Checkpoint]
    errors: list[str]
    can: PossibleOfTrial


class Curve(TypedDict):
    """A metric of a trial by length; null: not a finite number."""

    lengths: list[int]
    at: list[float]
    values: list[float | None]


class Metrics(TypedDict):
    """A trial's curves, by the name of the metric."""

    total: int
    seq: int
    metrics: dict[str, Curve]


class EventLine(TypedDict):
    """An entry of the log for people."""

    seq: int
    at: float
    trial: int | None
    text: str
    decided: list[str]


class Events(TypedDict):
    """Entries of the log, the oldest first; ``first``: how far back was looked."""

    events: list[EventLine]
    first: int
    last: int


class Output(TypedDict):
    """A piece of a trial's output; places are in bytes."""

    text: str
    begin: int
    end: int
    size: int
    exists: bool


class Wrong(TypedDict):
    """One thing that is wrong with an experiment file."""

    line: int | None
    key: str
    message: str


class Previewed(TypedDict):
    """What a file would do: a plan, or what is wrong with it."""

    ok: bool
    problems: list[Wrong]
    warnings: NotRequired[list[str]]
    name: NotRequired[str]
    metric: NotRequired[str]
    smaller_is_better: NotRequired[bool]
    unit: NotRequired[str]
    plan: NotRequired[dict[str, Any] | None]
    too_large: NotRequired[str]


class FigureOption(TypedDict):
    """How a figure can be drawn otherwise; ``allowed``: the values that there are, null: a flag or a number."""

    name: str
    title: str
    kind: str
    default: str | int | bool | None
    allowed: list[str] | None
    least: NotRequired[int]
    most: NotRequired[int]


class Figure(TypedDict):
    """A figure that can be drawn."""

    name: str
    title: str
    about: str
    options: list[FigureOption]
