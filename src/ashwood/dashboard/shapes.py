"""Types of the API's answers, for the OpenAPI schema and for readers.

Times are in seconds since 1970, durations in seconds.

A row of the table of trials is flat.  Besides fixed names, it has ``best.NAME`` and ``seen.NAME`` for the search's
metric (the best result and the best report), ``last.NAME`` for the last report of each metric, and ``hparams.NAME`` for
each hyperparameter.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypeAlias

# Pydantic reads these at run time, which takes this one before Python 3.12.
from typing_extensions import TypedDict

Row: TypeAlias = dict[str, Any]


class Explained(TypedDict):
    """An error: ``what`` went wrong, and a ``hint`` that says what to do."""

    what: str
    hint: str


class Failure(TypedDict):
    """The body of every error response."""

    error: Explained


class Home(TypedDict):
    """The home that the dashboard shows."""

    name: str
    version: str
    read_only: bool


class Best(TypedDict):
    """A value of the metric, with its trial, length and time."""

    trial: int
    metric: float
    length: int
    at: float


class Card(TypedDict):
    """An experiment in a list; ``damage`` says what is damaged and what to do, if the state is ``damaged``."""

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
    """The list of all experiments, the latest first."""

    experiments: list[Card]


class Rung(TypedDict):
    """A rung of a bracket, with counts of its trials.

    ``arrived``: compared at the rung; ``promoted``: promoted from it; ``failed``: ended before they were compared, or
    while paused; ``training``: training towards it now; ``waiting``: paused at it, and may still be promoted.
    """

    length: int
    arrived: int
    promoted: int
    failed: int
    training: int
    waiting: int


class Bracket(TypedDict):
    """A bracket: how many trials it plans and has created, and its rungs."""

    number: int
    planned: int
    created: int
    rungs: list[Rung]


class Node(TypedDict):
    """A machine of a cluster, its number of slots, and the trials that it trains."""

    name: str
    slots: int
    trials: list[int]


class Settings(TypedDict):
    """The current values of the settings that can change while an experiment runs."""

    max_concurrent_trials: int
    max_trials: int
    max_invalid_trials: int
    metric_at: float | None
    max_seconds: float | None


class Possible(TypedDict):
    """Which actions are allowed in the current state of an experiment."""

    pause: bool
    activate: bool
    cancel: bool
    kill: bool
    set: bool


class Header(Card):
    """The current state of an experiment; ``read`` is the fraction of its event log that the state includes.

    ``seen`` is the best report if it is better than the best result, because no checkpoint was saved at its length.
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
    """The part of an experiment that never changes."""

    description: str
    seed: int
    entrypoint: str
    workdir: str
    config: str
    provenance: dict[str, Any]
    divisor: float
    lengths: list[list[int]]


class ExperimentPage(Header, Description):
    """An experiment; its best trial is a row with ``hyperparameters``, ``as_yaml``, ``as_python`` and ``download``."""

    best_trial: Row | None


class Spark(TypedDict):
    """The best metric so far as a few points, each the seconds that drivers had run and the metric."""

    points: list[list[float]]


class Column(TypedDict):
    """A column of a table; its ``kind`` is number, text, time, duration, state or trial."""

    key: str
    label: str
    kind: str
    hyperparameter: bool


class Trials(TypedDict):
    """A page of the table of trials; ``total`` counts all trials, ``matching`` those that meet the conditions."""

    total: int
    matching: int
    seq: int
    sort: str
    columns: list[Column]
    rows: list[Row]


class Step(TypedDict):
    """A decision about a trial, with the numbers in its reason."""

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
    """An attempt: one process that trained a trial."""

    number: int
    slot: int
    node: str | None
    length: int
    started_at: float
    ended_at: float | None
    how: str
    error: str | None


class Happening(TypedDict):
    """An event of a trial, described in a few words."""

    at: float
    text: str


class Checkpoint(TypedDict):
    """A checkpoint; ``download`` is the address of its tar archive, or null if it cannot be downloaded."""

    name: str
    length: int
    metric: float | None
    saved_at: float
    kept_as: list[str]
    place: str
    download: str | None


class PossibleOfTrial(TypedDict):
    """Which actions are allowed in the current state of a trial."""

    stop: bool
    kill: bool


class Copies(TypedDict):
    """A trial's hyperparameters in formats to copy: JSON, YAML and Python."""

    hyperparameters: dict[str, Any]
    as_yaml: str
    as_python: str


class TrialPage(Copies):
    """A trial's page, without its curves and its output."""

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
    """A metric of a trial by length; a value is null if it is not a finite number."""

    lengths: list[int]
    at: list[float]
    values: list[float | None]


class Metrics(TypedDict):
    """A trial's curves, by the name of the metric; ``total`` is its number of reports."""

    total: int
    seq: int
    metrics: dict[str, Curve]


class EventLine(TypedDict):
    """A readable line for an entry of the event log."""

    seq: int
    at: float
    trial: int | None
    text: str
    decided: list[str]


class Events(TypedDict):
    """Entries of the event log, the oldest first; ``first`` is the lowest sequence number that was searched."""

    events: list[EventLine]
    first: int
    last: int


class Output(TypedDict):
    """A part of a trial's output; ``begin``, ``end`` and ``size`` are in bytes."""

    text: str
    begin: int
    end: int
    size: int
    exists: bool


class Wrong(TypedDict):
    """A problem in an experiment file, with its line and key."""

    line: int | None
    key: str
    message: str


class Previewed(TypedDict):
    """The preview of an experiment file: its plan, or its problems."""

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
    """An option of a figure; ``allowed`` lists its values, or is null for a flag or a number."""

    name: str
    title: str
    kind: str
    default: str | int | bool | None
    allowed: list[str] | None
    least: NotRequired[int]
    most: NotRequired[int]


class Figure(TypedDict):
    """A kind of figure that can be drawn, with its options."""

    name: str
    title: str
    about: str
    options: list[FigureOption]
