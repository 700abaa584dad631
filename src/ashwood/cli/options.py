"""Options that several commands share, and groups of options."""

# Typer reads annotations at run time, so this module does not postpone their evaluation.  It is imported for every
# command, so it imports nothing that is slow.

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from ashwood.cli.completion import complete_experiments, complete_keys, complete_trials
from ashwood.cli.where import Omitted, reference, whole_number
from ashwood.errors import ConfigError, Problem


class BackendKind(StrEnum):
    """A kind of backend: where trials run."""

    LOCAL = "local"
    RAY = "ray"


# -- shared options ------------------------------------------------------------------------------

HomeOption = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR|URL",
        envvar="ASHWOOD_HOME",
        help="Home of the experiments: a directory, or postgresql://USER@HOST/DATABASE.",
        show_default=".ashwood here or in a parent directory",
    ),
]
FileArgument = Annotated[
    Path,
    typer.Argument(
        help="Experiment file.",
        metavar="FILE",
        show_default="experiment.yaml, or the only YAML file here with a searcher",
    ),
]
_ID_HELP = "Number or name of the experiment; see: ashwood list."
IdArgument = Annotated[
    int, typer.Argument(help=_ID_HELP, metavar="ID", parser=reference, autocompletion=complete_experiments)
]
NewestArgument = Annotated[
    int,
    typer.Argument(
        help=_ID_HELP,
        metavar="ID",
        parser=reference,
        autocompletion=complete_experiments,
        show_default=str(Omitted.NEWEST),
    ),
]
RunningArgument = Annotated[
    int,
    typer.Argument(
        help=_ID_HELP,
        metavar="ID",
        parser=reference,
        autocompletion=complete_experiments,
        show_default=str(Omitted.RUNNING),
    ),
]
UnfinishedArgument = Annotated[
    int,
    typer.Argument(
        help=_ID_HELP,
        metavar="ID",
        parser=reference,
        autocompletion=complete_experiments,
        show_default=str(Omitted.UNFINISHED),
    ),
]
IdsArgument = Annotated[
    list[Any],
    typer.Argument(
        help="Numbers or names of experiments, such as 3 or 1,2; see: ashwood list.",
        metavar="ID",
        parser=reference,
        autocompletion=complete_experiments,
        show_default=str(Omitted.NEWEST),
    ),
]
_OMITTED = (
    (NewestArgument, Omitted.NEWEST),
    (RunningArgument, Omitted.RUNNING),
    (UnfinishedArgument, Omitted.UNFINISHED),
    (IdsArgument, None),
    (FileArgument, None),
)
"""Arguments that can be left out, with the values that stand for them until `ashwood.cli.where.fill_in`."""
TrialArgument = Annotated[
    int,
    typer.Argument(help="Number of the trial.", metavar="TRIAL", parser=whole_number, autocompletion=complete_trials),
]


def trial_option(help: str) -> Any:  # noqa: A002 - as typer names it
    """Return an option ``--trial`` with the number of a trial."""
    return typer.Option("--trial", metavar="TRIAL", parser=whole_number, autocompletion=complete_trials, help=help)


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete_keys,
        help="Value that replaces the one in the file, e.g. searcher.max_trials=50.",
    ),
]
ShareOption = Annotated[
    bool,
    typer.Option(
        "--share", help="Use all GPUs of this machine without waiting, even if other runs have reserved them."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON output instead of text.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="One line of JSON per event.")]

LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        metavar="N",
        min=0,
        help="Maximum rows (0 = all).",
        show_default="20 on a terminal, otherwise all",
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="All rows and columns, also on a terminal.")]


# -- groups of options ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """Options of every command that starts a driver."""

    home: HomeOption = None
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            help="Number of slots; on a Ray cluster, largest number of workers.",
            show_default="all GPUs, or all cores if there are none",
        ),
    ] = None
    backend: Annotated[
        BackendKind | None,
        typer.Option(
            "--backend",
            help="Place where trials run: this machine, or a Ray cluster.",
            show_default="that of the file or the recorded experiment",
        ),
    ] = None
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="ADDRESS",
            help="Address of the head of the Ray cluster, e.g. 10.0.0.1:6379; implies --backend ray.",
            show_default="RAY_ADDRESS, or the cluster of this machine",
        ),
    ] = None
    share: ShareOption = False

    def __post_init__(self) -> None:
        """Check the address of the cluster.

        Raises:
            ConfigError: the address is wrong, or it is combined with the backend ``local``.
        """
        if self.ray_address is not None:
            from ashwood.config import parse_backend

            if self.backend == BackendKind.LOCAL:
                raise ConfigError([Problem("", "needs --backend ray, not local", "--ray-address")])
            parse_backend({"type": "ray", "address": self.ray_address})

    @property
    def arguments(self) -> list[str]:
        """The options as arguments for another command, without the home."""
        values = {"--workers": self.workers, "--backend": self.backend, "--ray-address": self.ray_address}
        words = [word for option, value in values.items() if value is not None for word in (option, str(value))]
        return [*words, *["--share"] * self.share]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(DriverOptions):
    """Options of ``ashwood run`` and ``ashwood resume``."""

    stop_when: Annotated[
        list[str] | None,
        typer.Option(
            "--stop-when",
            metavar="metric_at=N|max_time=TIME",
            help="Goal or time limit at which the experiment stops, e.g. metric_at=0.98 (or 0.98), max_time=2h, or "
            "none. Can be given twice.",
        ),
    ] = None
    json: JsonLinesOption = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """Options about training times, workers and costs, as unparsed text."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            help="Number of trials that can train at once; a preview assumes as many as fit this machine.",
        ),
    ] = None
    unit_time: Annotated[
        str | None,
        typer.Option("--unit-time", metavar="TIME", help="Average time to train one unit of max_length, e.g. 40s."),
    ] = None
    unit_time_spread: Annotated[
        str | None,
        typer.Option(
            "--unit-time-spread",
            metavar="N",
            help="Spread of the training time, e.g. 1.5x: two thirds of the trials take between 1/N and N times the "
            "median.",
            show_default="anything up to 2x",
        ),
    ] = None
    start_time: Annotated[
        str | None,
        typer.Option("--start-time", metavar="TIME", help="Time to start or resume a trial.", show_default="0"),
    ] = None
    save_time: Annotated[
        str | None,
        typer.Option("--save-time", metavar="TIME", help="Time to save a checkpoint.", show_default="0"),
    ] = None
    cost_per_worker_hour: Annotated[
        str | None,
        typer.Option("--cost-per-worker-hour", metavar="N", help="Cost per worker-hour, e.g. 2.10 or '2.10 EUR'."),
    ] = None
    like: Annotated[
        int | None,
        typer.Option(
            "--like",
            metavar="ID",
            parser=reference,
            autocompletion=complete_experiments,
            help="Experiment whose event log supplies the training times.",
        ),
    ] = None
    measure: Annotated[
        bool, typer.Option("--measure", help="Measurement of the training times with a few short trials.")
    ] = False
    share: ShareOption = False
    home: HomeOption = None

    @property
    def has_unit_time(self) -> bool:
        """Whether the options give the time to train one unit, or a way to find it."""
        return self.unit_time is not None or self.like is not None or self.measure


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewOptions(TrainingOptions):
    """Options of ``ashwood preview``, which also predicts the disk space."""

    checkpoint_size: Annotated[
        str | None, typer.Option("--checkpoint-size", metavar="SIZE", help="Size of a checkpoint, e.g. 300MB.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options of ``ashwood plan`` as unparsed text."""

    max_length: Annotated[
        str | None, typer.Option("--max-length", metavar="LENGTH", help='Length of the best trials: "27 epochs".')
    ] = None
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="TIME", help="Time limit of the search, e.g. 6h.")
    ] = None
    worker_hours: Annotated[
        str | None,
        typer.Option("--worker-hours", metavar="N", help="Limit of the total time of all workers in hours, e.g. 40."),
    ] = None
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Experiment file whose search is fitted.")
    ] = None
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Experiment file to write.")] = None
    divisor: Annotated[
        str | None,
        typer.Option(
            "--divisor", metavar="N", help="Divisor: the best 1 in N trials of a rung are promoted.", show_default="4"
        ),
    ] = None
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="Metric to compare.")] = None
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode", metavar="NAME", help="Mode to propose.", show_default="standard, aggressive if few trials fit"
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of ``ashwood export``."""

    metrics: Annotated[bool, typer.Option("--metrics", help="One row per report instead of one per trial.")] = False
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="For .ashwood: include checkpoints.")] = False
    logs: Annotated[bool, typer.Option("--logs", help="For .ashwood: include the output of trials.")] = False
    directories: Annotated[
        bool, typer.Option("--directories", help="For .ashwood: include the directories of trials (trial.directory).")
    ] = False
    until: Annotated[
        int | None,
        typer.Option(
            "--until",
            metavar="N",
            parser=whole_number,
            help="For .ashwood: sequence number of the last event to export.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """Options of ``ashwood ui``."""

    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Address to listen on; all except loopback addresses require a token."
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65_535,
            help="Port to listen on.",
            show_default="8642, or the next free one",
        ),
    ] = None
    read_only: Annotated[bool, typer.Option("--read-only", help="Allow no changes from the dashboard.")] = False
    token: Annotated[bool, typer.Option("--token", help="Require a token on this machine, too.")] = False
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Additional host name that browsers may use."),
    ] = None
    browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Whether to open a browser.", show_default="if there is one")
    ] = None


def with_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function for Typer, in whose signature the fields of a group of options replace the group."""
    signature = inspect.signature(function)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if is_dataclass(parameter.annotation):
            groups[name] = parameter.annotation
            options = [(field.name, field.default, field.type) for field in fields(parameter.annotation)]
        else:
            omitted = [value for kind, value in _OMITTED if parameter.annotation is kind]
            options = [(name, omitted[0] if omitted else parameter.default, parameter.annotation)]
        parameters += [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for option, default, annotation in options
        ]

    @wraps(function)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        function(**values)

    vars(call)["__signature__"] = signature.replace(parameters=parameters)
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
