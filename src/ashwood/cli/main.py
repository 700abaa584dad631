"""Every command and its options, on one page."""

# Typer reads annotations at run time, and each command imports its room when it is called: the
# command line answers in a tenth of a second, and a trial starts within the first one.

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
"""What a store can look up."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PAUSED = 3
EXIT_CANCELED = 4

app = typer.Typer(
    name="ashwood",
    help="Find good hyperparameters fast, with adaptive ASHA.",
    epilog="Start with: ashwood init DIR. Exit codes: 0 done (an experiment: completed, or stopped by stop_when); "
    "1 failed, refused, or paused because something has to be mended; 2 wrong usage or file; 3 paused; 4 canceled.",
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
        help="Where experiments live: a directory, or postgresql://USER@HOST/DATABASE.",
        show_default=".ashwood",
    ),
]
FileArgument = Annotated[Path, typer.Argument(help="The experiment file.", metavar="FILE")]
IdsArgument = Annotated[list[int], typer.Argument(help="The experiments' numbers.", metavar="ID...", max=LARGEST_ID)]
IdArgument = Annotated[
    int, typer.Argument(help="The experiment's number; see: ashwood list.", metavar="ID", max=LARGEST_ID)
]
TrialArgument = Annotated[int, typer.Argument(help="The trial's number.", metavar="TRIAL", max=LARGEST_ID)]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the file, e.g. searcher.max_trials=50."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Slots to use; on a Ray cluster, at most so many workers.",
        show_default="all GPUs, or all cores where there are none",
    ),
]
ShareOption = Annotated[
    bool,
    typer.Option(
        "--share", help="Use all GPUs of this machine, also those that other Ashwood runs have reserved; don't wait."
    ),
]


class Backend(StrEnum):
    """Where trials run."""

    LOCAL = "local"
    RAY = "ray"


BackendOption = Annotated[
    Backend | None,
    typer.Option(
        "--backend",
        help="Where trials run: on this machine, or on a Ray cluster.",
        show_default="as the file, or the record, says",
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="The head of the Ray cluster, e.g. 10.0.0.1:6379; implies --backend ray.",
        show_default="RAY_ADDRESS, or the cluster of this machine",
    ),
]
StopWhenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stop-when",
        metavar="metric_at=METRIC|max_time=TIME",
        help="What is enough, e.g. metric_at=0.98 (or 0.98) or max_time=2h; none: no bound. May be given for both.",
    ),
]
UnitTimeOption = Annotated[
    str | None,
    typer.Option(
        "--unit-time", metavar="TIME", help="What one unit of max_length takes to train on average, e.g. 40s."
    ),
]
UnitTimeSpreadOption = Annotated[
    str | None,
    typer.Option(
        "--unit-time-spread",
        metavar="FACTOR",
        help="Two thirds of the trials take between 1/FACTOR and FACTOR times as long as the median, e.g. 1.5x.",
        show_default="anything up to 2x",
    ),
]
StartTimeOption = Annotated[
    str | None,
    typer.Option("--start-time", metavar="TIME", help="What it takes to start or resume a trial.", show_default="0"),
]
SaveTimeOption = Annotated[
    str | None,
    typer.Option("--save-time", metavar="TIME", help="What it takes to save a checkpoint.", show_default="0"),
]
CostOption = Annotated[
    str | None,
    typer.Option("--cost-per-worker-hour", metavar="MONEY", help="What a worker costs an hour, e.g. 2.10."),
]
CheckpointSizeOption = Annotated[
    str | None, typer.Option("--checkpoint-size", metavar="SIZE", help="The size of a checkpoint, e.g. 300MB.")
]
LikeOption = Annotated[
    int | None,
    typer.Option(
        "--like", metavar="ID", max=LARGEST_ID, help="Take what training takes from the log of this experiment."
    ),
]
MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Train a few short trials first, to learn what training takes.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from ashwood import __version__

        say(f"ashwood {__version__}")
        raise typer.Exit


class _Command(TyperCommand):
    """A command that runs here or, after ``--on``, on the head of a cluster."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        if ctx.obj is not None:
            from ashwood.cli.remote import elsewhere

            code = elsewhere(ctx.obj, ctx.info_name, ctx.meta[_ARGUMENTS], _said(ctx))
            if code is not None:
                raise typer.Exit(code)
        return super().invoke(ctx)


_ARGUMENTS = "ashwood.arguments"


def _said(ctx: typer.Context) -> dict[str, Any]:
    """What the command line says: variables of this machine are for this machine."""
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
            help="Run the command on the head of a Ray cluster, where experiments were submitted to: the URL of its "
            "dashboard, e.g. http://HEAD:8265.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 it has been printed
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = on


@app.command()
def run(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="The experiment file.", metavar="FILE", show_default=False)
    ] = None,
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
            help="Instead of FILE: run what an experiment ran, with the same seed.",
        ),
    ] = None,
    checkout: Annotated[
        bool, typer.Option("--checkout", help="With --from: with the code of the commit that was recorded.")
    ] = False,
    resume_latest: Annotated[
        bool,
        typer.Option(
            "--resume-latest", help="Go on with the latest unfinished experiment (of FILE); a new one if there is none."
        ),
    ] = False,
    submit: Annotated[
        str | None,
        typer.Option(
            "--submit",
            metavar="URL",
            help="Have a job of a Ray cluster drive it, with this directory's code; URL: of its dashboard, "
            "http://HEAD:8265.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="With --submit: print what the driver prints, until Ctrl-C.")
    ] = False,
    share: ShareOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
) -> None:
    """Run the experiment that FILE describes, to its end.

    Ctrl-C pauses it: running trials save a checkpoint, and `ashwood resume` goes on. A second Ctrl-C ends at once.
    """
    from ashwood.cli.run import Run, rerun, resume_latest_or_run, run_file
    from ashwood.cli.where import Where

    if (url := submit or ctx.obj) is not None:
        if file is None or source is not None or resume_latest or backend is Backend.LOCAL or ray_address or share:
            raise typer.BadParameter(
                "what is submitted is FILE, to the cluster at the URL: without --from, --resume-latest, "
                "--backend local, --ray-address and --share"
            )
        from ashwood.cli import remote

        to_submit = remote.Wanted(
            home=_said(ctx).get("home"),
            workers=workers,
            set_=set_ or [],
            stop_when=stop_when or [],
            json=json,
            follow=follow,
        )
        raise typer.Exit(remote.submit(url, file, to_submit))
    if follow:
        raise typer.BadParameter("--follow goes with --submit: what runs here is shown anyway")
    where = Where(backend, ray_address)
    wanted = Run(
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
            code = resume_latest_or_run(file, wanted)
        case Path(), None, False if not checkout:
            code = run_file(file, wanted)
        case None, int(), False:
            code = rerun(source, wanted, checkout=checkout)
        case _:
            raise typer.BadParameter("give one of: FILE, --from ID (perhaps with --checkout), --resume-latest [FILE]")
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
        typer.Option(
            "--workdir", metavar="DIR", help="Where the training code is now, if its directory was moved or copied."
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Retry trials that failed, from their latest checkpoints, also after the search ended.",
        ),
    ] = False,
    share: ShareOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
) -> None:
    """Continue an experiment that was paused, stopped or interrupted; with --backend elsewhere, for this time."""
    from ashwood.cli.run import Run, resume_experiment
    from ashwood.cli.where import Where

    where = Where(backend, ray_address)
    wanted = Run(
        home=home,
        workers=workers,
        where=where,
        stop_when=stop_when or [],
        workdir=workdir,
        share=share,
        json=json,
    )
    raise typer.Exit(resume_experiment(experiment, wanted, retry_failed=retry_failed))


@app.command()
def activate(
    experiment: IdArgument,
    home: HomeOption = None,
    workers: WorkersOption = None,
    backend: BackendOption = None,
    ray_address: RayAddressOption = None,
    share: ShareOption = False,
) -> None:
    """Go on with an experiment in the background."""
    from ashwood.cli.activate import activate_experiment
    from ashwood.cli.where import Where

    say(activate_experiment(home, experiment, workers=workers, where=Where(backend, ray_address), share=share))


@app.command()
def pause(experiment: IdArgument, home: HomeOption = None) -> None:
    """Pause an experiment: running trials save a checkpoint and let go."""
    from ashwood.cli.control import pause_experiment

    pause_experiment(home, experiment)


@app.command()
def cancel(experiment: IdArgument, home: HomeOption = None) -> None:
    """End an experiment for good: running trials save a checkpoint first."""
    from ashwood.cli.control import cancel_experiment

    cancel_experiment(home, experiment)


@app.command()
def kill(experiment: IdArgument, home: HomeOption = None) -> None:
    """End an experiment for good, at once."""
    from ashwood.cli.control import kill_experiment

    kill_experiment(home, experiment)


@app.command()
def kill_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None) -> None:
    """End a trial for good, at once; it counts as the worst in its rung."""
    from ashwood.cli.control import kill_trial as kill_one

    kill_one(home, experiment, trial)


@app.command()
def stop_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None) -> None:
    """End a trial where it is; its results stand."""
    from ashwood.cli.control import stop_trial as stop_one

    stop_one(home, experiment, trial)


@app.command(name="set")
def set_command(
    experiment: IdArgument,
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="max_concurrent_trials=8, max_trials=200, max_invalid_trials=500, stop_when=0.98 or max_time=2h; the "
            "last two also none.",
        ),
    ],
    home: HomeOption = None,
) -> None:
    """Change settings of an experiment, also while it runs."""
    from ashwood.cli.control import change_settings

    change_settings(home, experiment, settings)


@app.command()
def rename(
    experiment: IdArgument, name: Annotated[str, typer.Argument(metavar="NAME")], home: HomeOption = None
) -> None:
    """Give an experiment another name."""
    from ashwood.cli.control import rename_experiment

    rename_experiment(home, experiment, name)


@app.command()
def label(
    experiment: IdArgument,
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="Labels to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="LABEL", help="A label to remove.")] = None,
    home: HomeOption = None,
) -> None:
    """Add labels to an experiment, remove some, or just show them."""
    from ashwood.cli.control import label_experiment

    label_experiment(home, experiment, labels or [], remove or [])


@app.command()
def archive(
    experiment: IdArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Show it in lists again.")] = False,
    home: HomeOption = None,
) -> None:
    """Hide an experiment from lists; nothing of it is lost."""
    from ashwood.cli.control import archive_experiment

    archive_experiment(home, experiment, archived=not undo)


@app.command()
def delete(
    experiments: IdsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    home: HomeOption = None,
) -> None:
    """Delete experiments for good, with their checkpoints and logs; asks first."""
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
    """Say what a search will do and take before anything runs.

    How many trials train how long; and, with --unit-time, --like or --measure, wall-clock, worker-hours and money,
    idle workers and disk, beside other modes, synchronous halving and random search.
    """
    from ashwood.cli.conditions import Known
    from ashwood.cli.preview import preview_file

    known = Known(
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
    preview_file(file, known, overrides=set_ or [], json=json)


@app.command()
def check(
    file: FileArgument,
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            metavar="N",
            min=1,
            help="Total length to train to, in the unit of max_length.",
            show_default="the first rung, but at least three validations",
        ),
    ] = None,
    set_: SetOption = None,
    share: ShareOption = False,
    json: JsonOption = False,
) -> None:
    """Train one short trial with and without pauses, and tell whether it restores all of its state.

    The trial trains straight through, with pauses and fresh processes, and with another seed.

    The metrics are equal, within the noise of seeds, or different, with a hint at what is lost.

    Nothing is recorded. The exit code is 1 if they are different or the trial fails.
    """
    from ashwood.cli.check import check_file

    if not check_file(file, length=length, overrides=set_ or [], share=share, json=json):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def plan(
    max_length: Annotated[
        str | None, typer.Option("--max-length", metavar="LENGTH", help='How long the best trials train: "27 epochs".')
    ] = None,
    unit_time: UnitTimeOption = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="How many trials can train at once.")] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="TIME", help="How long the search may take, e.g. 6h.")
    ] = None,
    worker_hours: Annotated[
        str | None,
        typer.Option("--worker-hours", metavar="HOURS", help="How long all workers together may be kept, e.g. 40."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The experiment whose search is to be fitted.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write the experiment file.")
    ] = None,
    divisor: Annotated[
        str | None, typer.Option("--divisor", help="One trial in so many goes on from rung to rung.", show_default="4")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", metavar="NAME", help="The metric to compare.")] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="The mode to propose.", show_default="standard, aggressive if few trials fit"),
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
    """Propose a search that fits a budget, with the reasons and what else would fit, and write its file.

    For example: ashwood plan --max-length "27 epochs" --unit-time 40s --workers 8 --deadline 6h --out search.yaml
    """
    from ashwood.cli.conditions import Known
    from ashwood.cli.plan import Wanted, plan_search_for

    known = Known(
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
    wanted = Wanted(
        max_length=max_length,
        deadline=deadline,
        worker_hours=worker_hours,
        divisor=divisor,
        metric=metric,
        mode=mode,
        file=file,
        out=out,
    )
    plan_search_for(known, wanted, json=json)


@app.command(name="list")
def list_(
    home: HomeOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those that are archived.")] = False,
    label: Annotated[str | None, typer.Option("--label", help="Only those with this label.")] = None,
    json: JsonOption = False,
) -> None:
    """List experiments."""
    from ashwood.cli.show import show_experiments

    show_experiments(home, archived=all_, label=label, json=json)


@app.command()
def describe(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show one experiment: its state, its brackets and rungs, its best trial."""
    from ashwood.cli.show import show_experiment

    show_experiment(home, experiment, json=json)


@app.command()
def trials(
    experiment: IdArgument,
    home: HomeOption = None,
    sort: Annotated[
        str,
        typer.Option(
            help="A metric (the best result), a hyperparameter such as optimizer.lr, or a column such as last.loss; "
            "with a leading - the other way."
        ),
    ] = "trial",
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            help="Only trials where a metric, hyperparameter or column is VALUE; also !=, <, <=, > and >=.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many; 0: all.")] = 0,
    json: JsonOption = False,
) -> None:
    """Show the trials of an experiment."""
    from ashwood.cli.show import show_trials

    show_trials(home, experiment, sort=sort, where=where or [], limit=limit, json=json)


@app.command()
def best(
    experiment: IdArgument,
    home: HomeOption = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many.")] = 1,
    json: JsonOption = False,
) -> None:
    """Show the trials with the best checkpoints: metric, hyperparameters ready to paste, where the checkpoint is.

    If the experiment saves no checkpoints, the trials with the best reports.
    """
    from ashwood.cli.show import show_best

    show_best(home, experiment, n=n, json=json)


@app.command()
def logs(
    experiment: IdArgument,
    trial: TrialArgument,
    home: HomeOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written, until Ctrl-C.")] = False,
) -> None:
    """Print what a trial's training code printed."""
    from ashwood.cli.show import show_logs

    show_logs(home, experiment, trial, follow=follow)


@app.command()
def events(
    experiment: IdArgument,
    home: HomeOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as more happens, until the experiment ends or Ctrl-C.")
    ] = False,
    trial: Annotated[
        int | None, typer.Option("--trial", min=0, max=LARGEST_ID, help="Only what concerns this trial.")
    ] = None,
    after: Annotated[
        int, typer.Option("--after", metavar="SEQ", min=0, max=LARGEST_ID, help="Only what comes behind this one.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print a line of JSON an event.")] = False,
) -> None:
    """Show the log: what happened, what was decided, and why."""
    from ashwood.cli.events import show_events

    show_events(home, experiment, follow=follow, trial=trial, after=after, json=json)


@app.command()
def watch(
    experiment: IdArgument,
    home: HomeOption = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, help="How often to look for what is new.")
    ] = 1.0,
    best: Annotated[
        int | None,
        typer.Option(
            "--best", "-n", min=1, help="How many of the best trials.", show_default="as many as fit, up to 10"
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print how it stands and leave; so does one whose output is no terminal.")
    ] = False,
) -> None:
    """Watch an experiment on the whole terminal: how far it is, the ladder, the best trials, the latest events.

    It only reads the record, wherever the experiment is driven from. q or Ctrl-C leaves, and the experiment goes on.
    After --on it prints how the experiment stands, once.
    """
    from ashwood.cli.watch import watch_experiment

    watch_experiment(home, experiment, interval=interval, best=best, once=once)


@app.command()
def timeline(
    experiment: IdArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write: .html, all in one file.")],
    home: HomeOption = None,
) -> None:
    """Draw which worker trained which trial and when, coloured by bracket and rung."""
    from ashwood.cli.timeline import write_timeline

    write_timeline(home, experiment, out)


@app.command()
def animate(
    out: Annotated[Path, typer.Option("--out", "-o", help="The film to write: .gif, .mp4, or .html with a player.")],
    experiment: Annotated[
        int | None,
        typer.Argument(
            help="Film this experiment. Without one: synchronous beside asynchronous halving, simulated.",
            metavar="ID",
            max=LARGEST_ID,
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Simulated: workers.", show_default="8")] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=1_000, help="Simulated: trials.", show_default="81")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Simulated: which trials.", show_default="typical")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600.0, help="How long the film takes.")] = 14.0,
    fps: Annotated[int, typer.Option(min=1, max=50, help="Frames per second.")] = 15,
) -> None:
    """Film a search: trials climb the rungs, the best are promoted, workers train or idle."""
    from ashwood.cli.animate import TYPICAL_SEED, animate_experiment, animate_halving

    if experiment is None:
        seed = TYPICAL_SEED if seed is None else seed
        animate_halving(out, workers=workers or 8, trials=trials or 81, seed=seed, seconds=seconds, fps=fps)
    elif workers is trials is seed is None:
        animate_experiment(home, experiment, out, seconds=seconds, fps=fps)
    else:
        raise typer.BadParameter("--workers, --trials and --seed are for a simulated film, without ID")


@app.command()
def report(
    experiment: IdArgument,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The file to write: .html; or .pdf or .png, where there is a browser."),
    ],
    home: HomeOption = None,
) -> None:
    """Write a report to send to a colleague: one file with the result, the figures and the experiment file in it."""
    from ashwood.cli.report import report_experiment

    report_experiment(home, experiment, out)


@app.command()
def replay(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Check that every decision in the event log is what the search decides. `ashwood verify` checks this and more."""
    from ashwood.cli.events import check_replay

    check_replay(home, experiment, json=json)


@app.command()
def verify(
    experiment: Annotated[
        int | None,
        typer.Argument(help="The experiment's number.", metavar="[ID]", max=LARGEST_ID, show_default="all"),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All experiments, which is the default.")] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Rebuild what can be rebuilt, accept a log that is older than its head, and set files aside that "
            "do not belong to the experiment.",
        ),
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Check the database, event logs, checkpoints and other files of a home; print one line for each problem.

    The exit code is 0 if no problem is left, and otherwise 1. Nothing is changed without --repair, and nothing is
    deleted with it.
    """
    from ashwood.cli.verify import verify as check

    if experiment is not None and all_:
        raise typer.BadParameter("give an experiment's number or --all, not both", param_hint="--all")
    if not check(home, experiment, repair=repair, json=json):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def ui(
    directory: Annotated[
        str | None, typer.Argument(metavar="[HOME]", help="Where experiments live, instead of --home.")
    ] = None,
    home: HomeOption = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; any but this machine's own requires a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="The port.", show_default="8642, or the next that is free"),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, and change nothing.")] = False,
    token: Annotated[bool, typer.Option("--token", help="Require a token on this machine, too.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name under which browsers ask for it."),
    ] = None,
    browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open a browser.", show_default="where there is one")
    ] = None,
) -> None:
    """Look at experiments in a browser, live, and steer them."""
    from ashwood.cli.ui import Ui, serve_dashboard

    serve_dashboard(
        directory or home,
        Ui(
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
            "--out", "-o", help="The file to write: .csv, .parquet or .json; or .ashwood, the whole experiment."
        ),
    ],
    home: HomeOption = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="A row a report instead of a row a trial.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help=".ashwood: with the checkpoints.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help=".ashwood: with what trials printed.")] = False,
    directories: Annotated[
        bool, typer.Option("--directories", help=".ashwood: with the directories of its trials (trial.directory).")
    ] = False,
    until: Annotated[
        int | None,
        typer.Option("--until", metavar="SEQ", min=0, max=LARGEST_ID, help=".ashwood: only the events up to this one."),
    ] = None,
) -> None:
    """Write the trials of an experiment, or all their reports, as a table; or the whole experiment as one file."""
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
    file: Annotated[Path, typer.Argument(help="A file that ashwood export wrote: .ashwood.", metavar="FILE")],
    home: HomeOption = None,
    workdir: Annotated[
        Path | None,
        typer.Option("--workdir", exists=True, file_okay=False, help="Where its training code is on this machine."),
    ] = None,
) -> None:
    """Take an exported experiment in, under a new number; it can be resumed here."""
    from ashwood.cli.bundle import import_experiment

    import_experiment(home, file, workdir=workdir)


@app.command()
def checkpoints(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show the checkpoints of an experiment: the metric there, their size and place, and why they are kept."""
    from ashwood.cli.checkpoints import show_checkpoints

    show_checkpoints(home, experiment, json=json)


@app.command()
def download(
    experiment: IdArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The directory to put them in, as DIR/trial-N.")],
    home: HomeOption = None,
    best: Annotated[int, typer.Option("--best", "-n", min=1, help="Those of so many best trials.")] = 1,
    trial: Annotated[
        int | None, typer.Option("--trial", min=0, max=LARGEST_ID, help="That of this trial instead.")
    ] = None,
    directories: Annotated[
        bool,
        typer.Option("--directories", help="Also copy the directories of these trials, as DIR/trial-N-directory."),
    ] = False,
) -> None:
    """Copy the best checkpoints of an experiment, from wherever they are, and make sure that they are whole.

    Damaged ones are left out, and the exit code is 1 then.
    """
    from ashwood.cli.checkpoints import download as download_checkpoints

    download_checkpoints(home, experiment, best=best, trial=trial, out=out, directories=directories)


@app.command()
def gc(
    experiment: IdArgument,
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> None:
    """Delete checkpoints that nobody needs, what interrupted saves have left, and directories of ended trials.

    A running experiment deletes checkpoints itself; this is for what it left when it was killed, or its storage was
    away. The directories of trials (trial.directory) are kept until then.
    """
    from ashwood.cli.checkpoints import collect_garbage

    collect_garbage(home, experiment, dry_run=dry_run)


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="Where to put the files.", metavar="DIR")]) -> None:
    """Make a working starter: an experiment file and training code to change to your own."""
    from ashwood.cli.init import make_starter

    make_starter(directory)


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files, for editors."""
    import json

    from ashwood.config import experiment_schema

    say(json.dumps(experiment_schema(), indent=2))


for _command in app.registered_commands:
    _command.cls = _Command


def main() -> None:
    """Run the command line; errors that users can act on are printed without a traceback."""
    prepare_streams()
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except OutputLost as lost:
        abandon(sys.stdout)
        if str(lost):
            _fail(f"standard output can't be written: {lost}", EXIT_FAILED)
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
