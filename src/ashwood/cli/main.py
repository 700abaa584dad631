"""All commands and their options."""

# Typer reads annotations at run time, so this module does not postpone their evaluation.  Each
# command imports its own module when it is called, so that ``--help`` and shell completion answer
# within a tenth of a second.

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ashwood.cli.keys import ending_on_ctrl_c
from ashwood.cli.text import OutputLost, abandon, prepare_streams, say
from ashwood.errors import AshwoodError, ConfigError

LARGEST_ID = 2**63 - 1
"""Largest number that a store can look up: SQLite and PostgreSQL have 64-bit signed integers."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PAUSED = 3
EXIT_CANCELED = 4

app = typer.Typer(
    name="ashwood",
    help="Find good hyperparameters fast, with adaptive ASHA.",
    epilog="Start with: ashwood init DIR. Exit codes: 0 done (an experiment: completed, or stopped by stop_when); "
    "1 failed, refused, or paused: needs a fix; 2 wrong usage or file; 3 paused; 4 canceled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HomeOption = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR|URL",
        envvar="ASHWOOD_HOME",
        help="Home of the experiments: a directory, or postgresql://USER@HOST/DATABASE.",
        show_default=".ashwood",
    ),
]
FileArgument = Annotated[Path, typer.Argument(help="Experiment file.", metavar="FILE")]
IdsArgument = Annotated[list[int], typer.Argument(help="Numbers of the experiments.", metavar="ID...", max=LARGEST_ID)]
IdArgument = Annotated[
    int, typer.Argument(help="Number of the experiment; see: ashwood list.", metavar="ID", max=LARGEST_ID)
]
TrialArgument = Annotated[int, typer.Argument(help="Number of the trial.", metavar="TRIAL", max=LARGEST_ID)]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Value that replaces one of the file, e.g. searcher.max_trials=50."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Number of slots; on a Ray cluster, largest number of workers.",
        show_default="all GPUs, or all cores if there are none",
    ),
]
ShareOption = Annotated[
    bool,
    typer.Option(
        "--share", help="Use of all GPUs of this machine without waiting, even if other runs have reserved them."
    ),
]


class Backend(StrEnum):
    """A kind of backend: where trials run."""

    LOCAL = "local"
    RAY = "ray"


BackendOption = Annotated[
    Backend | None,
    typer.Option(
        "--backend",
        help="Place where trials run: this machine, or a Ray cluster.",
        show_default="that of the file or the recorded experiment",
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="Address of the head of the Ray cluster, e.g. 10.0.0.1:6379; implies --backend ray.",
        show_default="RAY_ADDRESS, or the cluster of this machine",
    ),
]
StopWhenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stop-when",
        metavar="metric_at=METRIC|max_time=TIME",
        help="Goal or time limit at which the experiment stops, e.g. metric_at=0.98 (or 0.98), max_time=2h, or none. "
        "Can be given twice.",
    ),
]
UnitTimeOption = Annotated[
    str | None,
    typer.Option("--unit-time", metavar="TIME", help="Average time to train one unit of max_length, e.g. 40s."),
]
UnitTimeSpreadOption = Annotated[
    str | None,
    typer.Option(
        "--unit-time-spread",
        metavar="FACTOR",
        help="Spread of the training time, e.g. 1.5x: two thirds of the trials take between 1/FACTOR and FACTOR times "
        "the median.",
        show_default="anything up to 2x",
    ),
]
StartTimeOption = Annotated[
    str | None,
    typer.Option("--start-time", metavar="TIME", help="Time to start or resume a trial.", show_default="0"),
]
SaveTimeOption = Annotated[
    str | None,
    typer.Option("--save-time", metavar="TIME", help="Time to save a checkpoint.", show_default="0"),
]
CostOption = Annotated[
    str | None,
    typer.Option("--cost-per-worker-hour", metavar="MONEY", help="Cost per worker-hour, e.g. 2.10."),
]
CheckpointSizeOption = Annotated[
    str | None, typer.Option("--checkpoint-size", metavar="SIZE", help="Size of a checkpoint, e.g. 300MB.")
]
LikeOption = Annotated[
    int | None,
    typer.Option(
        "--like", metavar="ID", max=LARGEST_ID, help="Experiment whose event log supplies the training times."
    ),
]
MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Measurement of the training times with a few short trials.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON output instead of text.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from ashwood import __version__

        say(f"ashwood {__version__}")
        raise typer.Exit


class _Command(TyperCommand):
    """A command that runs on this machine or, after ``--on``, on the head of a cluster."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        if ctx.obj is not None:
            from ashwood.cli.remote import run_on_cluster

            code = run_on_cluster(ctx.obj, ctx.info_name, ctx.meta[_ARGUMENTS], _given_options(ctx))
            if code is not None:
                raise typer.Exit(code)
        return super().invoke(ctx)


_ARGUMENTS = "ashwood.arguments"


def _given_options(ctx: typer.Context) -> dict[str, Any]:
    """Return the options that were given on the command line.

    Those from environment variables are left out, because they describe this machine and not the cluster.
    """
    return {
        name: value
        for name, value in ctx.params.items()
        if (source := ctx.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }


@app.callback()
def _ashwood(
    ctx: typer.Context,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="URL",
            envvar="ASHWOOD_ON",
            help="URL of the dashboard of a Ray cluster, e.g. http://HEAD:8265, on whose head the command runs and "
            "experiments were submitted.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 the callback has printed it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version of Ashwood.")
    ] = False,
) -> None:
    ctx.obj = on


@app.command()
def run(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Experiment file.", metavar="FILE", show_default=False)] = None,
    home: HomeOption = None,
    workers: WorkersOption = None,
    backend: BackendOption = None,
    ray_address: RayAddressOption = None,
    set_: SetOption = None,
    stop_when: StopWhenOption = None,
    source: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="ID",
            max=LARGEST_ID,
            help="Experiment to run again with the same seed, instead of FILE.",
        ),
    ] = None,
    checkout: Annotated[bool, typer.Option("--checkout", help="With --from: code of the recorded commit.")] = False,
    resume_latest: Annotated[
        bool,
        typer.Option(
            "--resume-latest",
            help="Latest unfinished experiment (of FILE) instead of a new one, if there is one.",
        ),
    ] = False,
    submit: Annotated[
        str | None,
        typer.Option(
            "--submit",
            metavar="URL",
            help="URL of the dashboard of a Ray cluster, http://HEAD:8265, where a job with this directory's code "
            "becomes the driver.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="With --submit: output of the driver, until Ctrl-C.")
    ] = False,
    share: ShareOption = False,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON per event.")] = False,
) -> None:
    """Run the experiment of FILE until it ends.

    Ctrl-C pauses it: running trials save a checkpoint, and `ashwood resume` continues. A second Ctrl-C stops
    immediately.
    """
    from ashwood.cli.run import RunOptions, rerun, resume_latest_or_run, run_file
    from ashwood.cli.where import BackendOptions

    if (url := submit or ctx.obj) is not None:
        if file is None or source is not None or resume_latest or backend is Backend.LOCAL or ray_address or share:
            raise typer.BadParameter(
                "--submit and --on need FILE, and can't be combined with --from, --resume-latest, --backend local, "
                "--ray-address or --share"
            )
        from ashwood.cli import remote

        submit_options = remote.SubmitOptions(
            home=_given_options(ctx).get("home"),
            workers=workers,
            set_=set_ or [],
            stop_when=stop_when or [],
            json=json,
            follow=follow,
        )
        raise typer.Exit(remote.submit(url, file, submit_options))
    if follow:
        raise typer.BadParameter("--follow needs --submit: without it the output is shown anyway")
    where = BackendOptions(backend, ray_address)
    options = RunOptions(
        home=home,
        workers=workers,
        where=where,
        overrides=set_ or [],
        stop_when=stop_when or [],
        share=share,
        json=json,
    )
    match file, source, resume_latest:
        case _, None, True if not checkout:
            code = resume_latest_or_run(file, options)
        case Path(), None, False if not checkout:
            code = run_file(file, options)
        case None, int(), False:
            code = rerun(source, options, checkout=checkout)
        case _:
            raise typer.BadParameter("give one of: FILE, --from ID [--checkout], --resume-latest [FILE]")
    raise typer.Exit(code)


@app.command()
def resume(
    experiment: IdArgument,
    home: HomeOption = None,
    workers: WorkersOption = None,
    backend: BackendOption = None,
    ray_address: RayAddressOption = None,
    stop_when: StopWhenOption = None,
    workdir: Annotated[
        Path | None,
        typer.Option("--workdir", metavar="DIR", help="Directory of the training code, if it was moved or copied."),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Retries of failed trials from their latest checkpoints, also after the search has ended.",
        ),
    ] = False,
    share: ShareOption = False,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON per event.")] = False,
) -> None:
    """Resume a paused, stopped or interrupted experiment (--backend: on another backend, this time only)."""
    from ashwood.cli.run import RunOptions, resume_experiment
    from ashwood.cli.where import BackendOptions

    where = BackendOptions(backend, ray_address)
    options = RunOptions(
        home=home,
        workers=workers,
        where=where,
        stop_when=stop_when or [],
        workdir=workdir,
        share=share,
        json=json,
    )
    raise typer.Exit(resume_experiment(experiment, options, retry_failed=retry_failed))


@app.command()
def activate(
    experiment: IdArgument,
    home: HomeOption = None,
    workers: WorkersOption = None,
    backend: BackendOption = None,
    ray_address: RayAddressOption = None,
    share: ShareOption = False,
) -> None:
    """Resume an experiment in the background."""
    from ashwood.cli.activate import activate_experiment
    from ashwood.cli.where import BackendOptions

    say(activate_experiment(home, experiment, workers=workers, where=BackendOptions(backend, ray_address), share=share))


@app.command()
def pause(experiment: IdArgument, home: HomeOption = None) -> None:
    """Pause an experiment: running trials save a checkpoint and release their workers."""
    from ashwood.cli.control import pause_experiment

    pause_experiment(home, experiment)


@app.command()
def cancel(experiment: IdArgument, home: HomeOption = None) -> None:
    """Stop an experiment permanently, after running trials have saved a checkpoint."""
    from ashwood.cli.control import cancel_experiment

    cancel_experiment(home, experiment)


@app.command()
def kill(experiment: IdArgument, home: HomeOption = None) -> None:
    """Stop an experiment immediately and permanently."""
    from ashwood.cli.control import kill_experiment

    kill_experiment(home, experiment)


@app.command()
def kill_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None) -> None:
    """Stop a trial immediately and permanently; it is ranked last in its rung."""
    from ashwood.cli.control import kill_trial as kill_one

    kill_one(home, experiment, trial)


@app.command()
def stop_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None) -> None:
    """Stop a trial early; its results still count."""
    from ashwood.cli.control import stop_trial as stop_one

    stop_one(home, experiment, trial)


@app.command(name="set")
def set_command(
    experiment: IdArgument,
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Settings to change: max_concurrent_trials=8, max_trials=200, max_invalid_trials=500, stop_when=0.98 "
            "or max_time=2h; stop_when and max_time can be none.",
        ),
    ],
    home: HomeOption = None,
) -> None:
    """Change settings of an experiment, even while it runs."""
    from ashwood.cli.control import change_settings

    change_settings(home, experiment, settings)


@app.command()
def rename(
    experiment: IdArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="New name.")],
    home: HomeOption = None,
) -> None:
    """Rename an experiment."""
    from ashwood.cli.control import rename_experiment

    rename_experiment(home, experiment, name)


@app.command()
def label(
    experiment: IdArgument,
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="Labels to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="LABEL", help="Label to remove.")] = None,
    home: HomeOption = None,
) -> None:
    """Add, remove or list labels of an experiment."""
    from ashwood.cli.control import label_experiment

    label_experiment(home, experiment, labels or [], remove or [])


@app.command()
def archive(
    experiment: IdArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Return to the lists.")] = False,
    home: HomeOption = None,
) -> None:
    """Hide an experiment from lists without deleting anything."""
    from ashwood.cli.control import archive_experiment

    archive_experiment(home, experiment, archived=not undo)


@app.command()
def delete(
    experiments: IdsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="No question before deletion.")] = False,
    home: HomeOption = None,
) -> None:
    """Delete experiments permanently, with their checkpoints and logs; asks first."""
    from ashwood.cli.control import delete_experiments

    delete_experiments(home, experiments, yes=yes)


@app.command()
def preview_search(
    file: FileArgument,
    workers: WorkersOption = None,
    unit_time: UnitTimeOption = None,
    unit_time_spread: UnitTimeSpreadOption = None,
    start_time: StartTimeOption = None,
    save_time: SaveTimeOption = None,
    cost_per_worker_hour: CostOption = None,
    checkpoint_size: CheckpointSizeOption = None,
    like: LikeOption = None,
    measure: MeasureOption = False,
    share: ShareOption = False,
    home: HomeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Preview a search: how many trials train how long.

    With --unit-time, --like or --measure it also estimates run time, worker-hours, cost, idle workers and disk space,
    and compares them with other modes, synchronous halving and random search.
    """
    from ashwood.cli.conditions import PreviewOptions
    from ashwood.cli.preview import preview_file

    options = PreviewOptions(
        workers=workers,
        unit_time=unit_time,
        unit_time_spread=unit_time_spread,
        start_time=start_time,
        save_time=save_time,
        cost_per_worker_hour=cost_per_worker_hour,
        checkpoint_size=checkpoint_size,
        like=like,
        measure=measure,
        share=share,
        home=home,
    )
    preview_file(file, options, overrides=set_ or [], json=json)


@app.command()
def check(
    file: FileArgument,
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            metavar="N",
            min=1,
            help="Total training length, in the unit of max_length.",
            show_default="the first rung, but at least three validations",
        ),
    ] = None,
    set_: SetOption = None,
    share: ShareOption = False,
    json: JsonOption = False,
) -> None:
    """Check that a trial restores its whole state when it is resumed.

    One short trial trains without pauses, with pauses and new processes, and with another seed. Its metrics are
    equal, within the noise of seeds, or different; then a hint says which state is probably not restored.

    Nothing is recorded. The exit code is 1 if the metrics are different or the trial fails.
    """
    from ashwood.cli.check import check_file

    if not check_file(file, length=length, overrides=set_ or [], share=share, json=json):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def plan(
    max_length: Annotated[
        str | None, typer.Option("--max-length", metavar="LENGTH", help='Length of the best trials: "27 epochs".')
    ] = None,
    unit_time: UnitTimeOption = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Number of trials that can train at once."),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="TIME", help="Time limit of the search, e.g. 6h.")
    ] = None,
    worker_hours: Annotated[
        str | None,
        typer.Option("--worker-hours", metavar="HOURS", help="Limit of the total time of all workers, e.g. 40."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Experiment file whose search is fitted.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Experiment file to write.")] = None,
    divisor: Annotated[
        str | None,
        typer.Option(
            "--divisor", metavar="N", help="Divisor: the best 1 in N trials of a rung are promoted.", show_default="4"
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="Metric to compare.")] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="Mode to propose.", show_default="standard, aggressive if few trials fit"),
    ] = None,
    unit_time_spread: UnitTimeSpreadOption = None,
    start_time: StartTimeOption = None,
    save_time: SaveTimeOption = None,
    cost_per_worker_hour: CostOption = None,
    like: LikeOption = None,
    measure: MeasureOption = False,
    share: ShareOption = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Propose a search that fits a budget, with reasons and alternatives, and write its file.

    For example: ashwood plan --max-length "27 epochs" --unit-time 40s --workers 8 --deadline 6h --out search.yaml
    """
    from ashwood.cli.conditions import PreviewOptions
    from ashwood.cli.plan import PlanOptions, plan_search_for

    options = PreviewOptions(
        workers=workers,
        unit_time=unit_time,
        unit_time_spread=unit_time_spread,
        start_time=start_time,
        save_time=save_time,
        cost_per_worker_hour=cost_per_worker_hour,
        like=like,
        measure=measure,
        share=share,
        home=home,
    )
    plan_options = PlanOptions(
        max_length=max_length,
        deadline=deadline,
        worker_hours=worker_hours,
        divisor=divisor,
        metric=metric,
        mode=mode,
        file=file,
        out=out,
    )
    plan_search_for(options, plan_options, json=json)


@app.command(name="list")
def list_(
    home: HomeOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Archived experiments, too.")] = False,
    label: Annotated[
        str | None, typer.Option("--label", metavar="LABEL", help="Label of the experiments to list.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List experiments."""
    from ashwood.cli.show import show_experiments

    show_experiments(home, archived=all_, label=label, json=json)


@app.command()
def describe(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show an experiment: its state, brackets, rungs and best trial."""
    from ashwood.cli.show import show_experiment

    show_experiment(home, experiment, json=json)


@app.command()
def trials(
    experiment: IdArgument,
    home: HomeOption = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="Column to sort by: a metric (its best result), a hyperparameter such as optimizer.lr, or a column "
            "such as last.loss; in reverse after a -.",
        ),
    ] = "trial",
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            help="Condition for a metric, hyperparameter or column; also !=, <, <=, > and >=.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="Maximum rows (0 = all).")] = 0,
    json: JsonOption = False,
) -> None:
    """Show the trials of an experiment."""
    from ashwood.cli.show import show_trials

    show_trials(home, experiment, sort=sort, where=where or [], limit=limit, json=json)


@app.command()
def best(
    experiment: IdArgument,
    home: HomeOption = None,
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", min=1, help="Number of trials.")] = 1,
    json: JsonOption = False,
) -> None:
    """Show the trials with the best checkpoints: metric, checkpoint path, and hyperparameters as YAML.

    If the experiment saves no checkpoints, show the trials with the best reports.
    """
    from ashwood.cli.show import show_best

    show_best(home, experiment, n=n, json=json)


@app.command()
def logs(
    experiment: IdArgument,
    trial: TrialArgument,
    home: HomeOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="New output, too, until Ctrl-C.")] = False,
) -> None:
    """Print the output of a trial's training code."""
    from ashwood.cli.show import show_logs

    show_logs(home, experiment, trial, follow=follow)


@app.command()
def events(
    experiment: IdArgument,
    home: HomeOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="New events, too, until the experiment ends or Ctrl-C.")
    ] = False,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="TRIAL", min=0, max=LARGEST_ID, help="Trial of the events.")
    ] = None,
    after: Annotated[
        int,
        typer.Option("--after", metavar="SEQ", min=0, max=LARGEST_ID, help="Only events after this sequence number."),
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON per event.")] = False,
) -> None:
    """Show the event log: what happened, what was decided, and why."""
    from ashwood.cli.events import show_events

    show_events(home, experiment, follow=follow, trial=trial, after=after, json=json)


@app.command()
def watch(
    experiment: IdArgument,
    home: HomeOption = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="Seconds between two updates.")
    ] = 1.0,
    best: Annotated[
        int | None,
        typer.Option(
            "--best", "-n", metavar="N", min=1, help="Number of best trials.", show_default="as many as fit, up to 10"
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Current state only, printed once; the default if the output is not a terminal."),
    ] = False,
) -> None:
    """Watch an experiment on the whole terminal: progress, rungs, best trials, latest events.

    It only reads the event log, wherever the driver runs. q or Ctrl-C leaves; the experiment continues.
    After --on it prints the current state once.
    """
    from ashwood.cli.watch import watch_experiment

    watch_experiment(home, experiment, interval=interval, best=best, once=once)


@app.command()
def timeline(
    experiment: IdArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Page to write: one self-contained .html file.")
    ],
    home: HomeOption = None,
) -> None:
    """Write a page that shows which worker trained which trial and when, coloured by bracket and rung."""
    from ashwood.cli.timeline import write_timeline

    write_timeline(home, experiment, out)


@app.command()
def animate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Animation to write: .gif, .mp4, or .html with a player."),
    ],
    experiment: Annotated[
        int | None,
        typer.Argument(
            help="Experiment to animate. Without one: simulated synchronous and asynchronous halving, side by side.",
            metavar="ID",
            max=LARGEST_ID,
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Number of simulated workers.", show_default="8")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=1_000, help="Number of simulated trials.", show_default="81")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the simulated trials.", show_default="typical")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600.0, help="Length of the animation in seconds.")] = 14.0,
    fps: Annotated[int, typer.Option(min=1, max=50, help="Frames per second.")] = 15,
) -> None:
    """Animate a search: trials reach rungs, the best are promoted, workers train or idle."""
    from ashwood.cli.animate import TYPICAL_SEED, animate_experiment, animate_halving

    if experiment is None:
        seed = TYPICAL_SEED if seed is None else seed
        animate_halving(out, workers=workers or 8, trials=trials or 81, seed=seed, seconds=seconds, fps=fps)
    elif workers is trials is seed is None:
        animate_experiment(home, experiment, out, seconds=seconds, fps=fps)
    else:
        raise typer.BadParameter("--workers, --trials and --seed are for a simulated search, without ID")


@app.command()
def report(
    experiment: IdArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write: .html; or .pdf or .png, which need a browser."
        ),
    ],
    home: HomeOption = None,
) -> None:
    """Write a report to share: one file with the result, the figures and the experiment file."""
    from ashwood.cli.report import report_experiment

    report_experiment(home, experiment, out)


@app.command()
def replay(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Verify the event log: replay it and check every decision. `ashwood verify` checks this and more."""
    from ashwood.cli.events import check_replay

    check_replay(home, experiment, json=json)


@app.command()
def verify(
    experiment: Annotated[
        int | None,
        typer.Argument(help="Number of the experiment.", metavar="[ID]", max=LARGEST_ID, show_default="all"),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All experiments, which is the default.")] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Repair of what can be repaired: damaged data is rebuilt, a log that is older than its head is "
            "accepted, and files that do not belong to the experiment are moved aside.",
        ),
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Check the database, event logs, checkpoints and other files of a home; print one line for each problem.

    The exit code is 0 if no problem is left, otherwise 1. Without --repair nothing is changed. --repair deletes
    nothing.
    """
    from ashwood.cli.verify import verify as check

    if experiment is not None and all_:
        raise typer.BadParameter("give an experiment's number or --all, not both", param_hint="--all")
    if not check(home, experiment, repair=repair, json=json):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def ui(
    directory: Annotated[
        str | None, typer.Argument(metavar="[HOME]", help="Home of the experiments, instead of --home.")
    ] = None,
    home: HomeOption = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; all except loopback addresses require a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="Port to listen on.", show_default="8642, or the next free one"),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="No changes from the dashboard.")] = False,
    token: Annotated[bool, typer.Option("--token", help="Token required on this machine, too.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Additional host name that browsers may use."),
    ] = None,
    browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Whether to open a browser.", show_default="if there is one")
    ] = None,
) -> None:
    """Start the dashboard: watch and control experiments in a browser."""
    from ashwood.cli.ui import DashboardOptions, serve_dashboard

    serve_dashboard(
        directory or home,
        DashboardOptions(
            host=host,
            port=port,
            read_only=read_only,
            with_token=token,
            allowed_hosts=allow_host or (),
            browser=browser,
        ),
    )


@app.command()
def export(
    experiment: IdArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File to write: .csv, .parquet or .json; or .ashwood for the whole experiment.",
        ),
    ],
    home: HomeOption = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="One row per report instead of one per trial.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help=".ashwood: checkpoints, too.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help=".ashwood: output of trials, too.")] = False,
    directories: Annotated[
        bool, typer.Option("--directories", help=".ashwood: directories of trials (trial.directory), too.")
    ] = False,
    until: Annotated[
        int | None,
        typer.Option(
            "--until", metavar="SEQ", min=0, max=LARGEST_ID, help=".ashwood: sequence number of the last event."
        ),
    ] = None,
) -> None:
    """Export the trials or reports of an experiment as a table, or the whole experiment as one file."""
    from ashwood.cli.export import export_experiment

    export_experiment(
        home,
        experiment,
        out,
        metrics=metrics,
        checkpoints=checkpoints,
        logs=logs,
        directories=directories,
        until=until,
    )


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="File of ashwood export: .ashwood.", metavar="FILE")],
    home: HomeOption = None,
    workdir: Annotated[
        Path | None,
        typer.Option("--workdir", exists=True, file_okay=False, help="Directory of its training code on this machine."),
    ] = None,
) -> None:
    """Import an exported experiment under a new number, so that it can be resumed here."""
    from ashwood.cli.bundle import import_experiment

    import_experiment(home, file, workdir=workdir)


@app.command()
def checkpoints(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show the checkpoints of an experiment: metric, size, path, and why each is kept."""
    from ashwood.cli.checkpoints import show_checkpoints

    show_checkpoints(home, experiment, json=json)


@app.command()
def download(
    experiment: IdArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for the copies, as DIR/trial-N.")],
    home: HomeOption = None,
    best: Annotated[int, typer.Option("--best", "-n", metavar="N", min=1, help="Number of best trials.")] = 1,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="TRIAL", min=0, max=LARGEST_ID, help="Trial to take instead.")
    ] = None,
    directories: Annotated[
        bool,
        typer.Option("--directories", help="Directories of these trials, too, as DIR/trial-N-directory."),
    ] = False,
) -> None:
    """Copy the best checkpoints of an experiment and verify their integrity.

    Damaged checkpoints are skipped, and the exit code is then 1.
    """
    from ashwood.cli.checkpoints import download as download_checkpoints

    download_checkpoints(home, experiment, best=best, trial=trial, out=out, directories=directories)


@app.command()
def gc(
    experiment: IdArgument,
    home: HomeOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List of what would be deleted, without deletion.")
    ] = False,
) -> None:
    """Delete unneeded checkpoints, leftovers of interrupted saves, and directories of ended trials.

    A running experiment deletes unneeded checkpoints itself. Some are left if it was killed or its storage could not
    be reached. Directories of trials (trial.directory) are only deleted by this command.
    """
    from ashwood.cli.checkpoints import collect_garbage

    collect_garbage(home, experiment, dry_run=dry_run)


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="Directory for the files.", metavar="DIR")]) -> None:
    """Create a working example: an experiment file and training code to adapt."""
    from ashwood.cli.init import make_starter

    make_starter(directory)


@app.command()
def schema() -> None:
    """Print the JSON schema of the experiment file, for editors."""
    import json

    from ashwood.config import experiment_schema

    say(json.dumps(experiment_schema(), indent=2))


for _command in app.registered_commands:
    _command.cls = _Command


def main() -> None:
    """Run the command line, and print errors that users can act on without a traceback."""
    prepare_streams()
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except OutputLost as lost:
        abandon(sys.stdout)
        if str(lost):
            _fail(f"cannot write to standard output: {lost}", EXIT_FAILED)
        sys.exit(0)


def _run() -> None:
    arguments: dict[str, Any] = {"args": sys.argv[1:], "prog_name": "ashwood"}
    try:
        with ending_on_ctrl_c():
            app(**arguments)
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except AshwoodError as error:
        _fail(str(error), EXIT_FAILED)


def _fail(message: str, code: int) -> None:
    lines = message.splitlines() or [""]
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    say(lines[0], err=True)
    for line in lines[1:]:
        say(f"       {line}", err=True)
    sys.exit(code)
