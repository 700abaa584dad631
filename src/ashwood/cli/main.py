"""All commands."""

# Typer reads annotations at run time, so this module does not postpone their evaluation.  Each
# command imports its own module when it is called, so that ``--help`` and shell completion answer
# within a tenth of a second.

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ashwood.cli.options import (
    BackendKind,
    DashboardOptions,
    DriverOptions,
    ExportOptions,
    FileArgument,
    HomeOption,
    IdArgument,
    IdsArgument,
    JsonLinesOption,
    JsonOption,
    PlanOptions,
    PreviewOptions,
    RunOptions,
    SetOption,
    ShareOption,
    TrainingOptions,
    TrialArgument,
    whole_number,
    whole_numbers,
    with_groups,
)
from ashwood.errors import AshwoodError, ConfigError
from ashwood.terminal.keys import ending_on_ctrl_c
from ashwood.terminal.text import OutputLost, abandon, prepare_streams, say

EXIT_FAILED = 1
EXIT_USAGE = 2


class _Commands(TyperGroup):
    """The commands; for those of Determined, the error says which of Ashwood's commands to use."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            from ashwood.cli.determined import advice_for

            if (advice := advice_for(args)) is not None:
                ctx.fail(advice)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="ashwood",
    cls=_Commands,
    help="Find good hyperparameters fast, with adaptive ASHA.",
    epilog="Start with: ashwood init DIR. Exit codes: 0 done (an experiment: completed, or stopped by stop_when); "
    "1 failed, refused, or paused: needs a fix; 2 wrong usage or file; 3 paused; 4 canceled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_set: bool) -> None:
    if is_set:
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

            code = run_on_cluster(ctx.obj, ctx.info_name, ctx.meta[_ARGUMENTS], _options_on_command_line(ctx))
            if code is not None:
                raise typer.Exit(code)
        return super().invoke(ctx)


_ARGUMENTS = "ashwood.arguments"


def command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a function a command; parameters of it can be groups of options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, cls=_Command)(with_groups(function))
        return function

    return register


def _options_on_command_line(ctx: typer.Context) -> dict[str, Any]:
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


@command()
def run(
    ctx: typer.Context,
    options: RunOptions,
    file: Annotated[Path | None, typer.Argument(help="Experiment file.", metavar="FILE", show_default=False)] = None,
    set_: SetOption = None,
    source: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="ID",
            parser=whole_number,
            help="Experiment to run again with the same seed, instead of FILE.",
        ),
    ] = None,
    checkout: Annotated[
        bool,
        typer.Option("--checkout", help="With --from: the code of the recorded commit instead of the present code."),
    ] = False,
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
) -> None:
    """Run the experiment of FILE until it ends.

    Ctrl-C pauses it: running trials save a checkpoint, and `ashwood resume` continues. A second Ctrl-C stops
    immediately.
    """
    from ashwood.cli.run import rerun, resume_latest_or_run, run_file

    overrides = set_ or []
    if (url := submit or ctx.obj) is not None:
        is_local = options.backend is BackendKind.LOCAL or options.share
        if file is None or source is not None or resume_latest or is_local or options.ray_address:
            raise typer.BadParameter(
                "--submit and --on need FILE, and can't be combined with --from, --resume-latest, --backend local, "
                "--ray-address or --share"
            )
        from ashwood.cli.remote import submit as submit_driver

        # The variable ASHWOOD_HOME describes this machine and not the cluster.
        options = replace(options, home=_options_on_command_line(ctx).get("home"))
        raise typer.Exit(submit_driver(url, file, options, overrides, follow=follow))
    if follow:
        raise typer.BadParameter("--follow needs --submit: without it the output is shown anyway")
    match file, source, resume_latest:
        case _, None, True if not checkout:
            code = resume_latest_or_run(file, options, overrides)
        case Path(), None, False if not checkout:
            code = run_file(file, options, overrides)
        case None, int(), False:
            code = rerun(source, options, overrides, checkout=checkout)
        case _:
            raise typer.BadParameter("give one of: FILE, --from ID [--checkout], --resume-latest [FILE]")
    raise typer.Exit(code)


@command()
def resume(
    options: RunOptions,
    experiment: IdArgument,
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
) -> None:
    """Resume a paused, stopped or interrupted experiment (--backend: on another backend, this time only)."""
    from ashwood.cli.run import resume_experiment

    raise typer.Exit(resume_experiment(experiment, options, workdir=workdir, retry_failed=retry_failed))


@command()
def extend(
    options: RunOptions,
    experiment: IdArgument,
    max_trials: Annotated[
        int | None, typer.Option("--max-trials", min=1, metavar="N", help="New total number of trials.")
    ] = None,
    max_length: Annotated[
        str | None,
        typer.Option("--max-length", metavar="LENGTH", help="New length of the best trials: '{epochs: 243}' or 243."),
    ] = None,
    replicates: Annotated[
        int | None,
        typer.Option(
            "--replicates", min=1, metavar="N", help="Number of best trials to train again, with other seeds."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Trials, training, time and cost of the extension, without extending.")
    ] = False,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Only extend the search; ashwood resume runs the rest.")
    ] = False,
    cost_per_worker_hour: Annotated[
        str | None,
        typer.Option("--cost-per-worker-hour", metavar="N", help="Cost per worker-hour, e.g. 2.10."),
    ] = None,
) -> None:
    """Add trials, longer training or replicates to a search, also after it has ended, and run the rest.

    Nothing is trained again: trials continue from their checkpoints.
    """
    from ashwood.cli.extend import extend_experiment

    asked = (max_trials, max_length, replicates, cost_per_worker_hour)
    raise typer.Exit(extend_experiment(experiment, options, *asked, dry_run=dry_run, run=not no_run))


@command()
def activate(options: DriverOptions, experiment: IdArgument) -> None:
    """Resume an experiment in the background."""
    from ashwood.cli.run import activate_experiment

    say(activate_experiment(experiment, options))


@command()
def pause(experiment: IdArgument, home: HomeOption = None) -> None:
    """Pause an experiment: running trials save a checkpoint and release their workers."""
    from ashwood.cli.control import pause_experiment

    pause_experiment(home, experiment)


@command()
def cancel(experiment: IdArgument, home: HomeOption = None) -> None:
    """Stop an experiment permanently, after running trials have saved a checkpoint."""
    from ashwood.cli.control import RELEASING, steer
    from ashwood.experiment.events import CancelRequested

    steer(home, experiment, CancelRequested(), f"is being canceled: {RELEASING}")


@command()
def kill(experiment: IdArgument, home: HomeOption = None) -> None:
    """Stop an experiment immediately and permanently."""
    from ashwood.cli.control import steer
    from ashwood.experiment.events import KillRequested

    steer(home, experiment, KillRequested(), "is being killed")


@command()
def kill_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None) -> None:
    """Stop a trial immediately and permanently; it is ranked last in its rung."""
    from ashwood.cli.control import kill_trial as kill_one

    kill_one(home, experiment, trial)


@command()
def stop_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None) -> None:
    """Stop a trial early; its results still count."""
    from ashwood.cli.control import stop_trial as stop_one

    stop_one(home, experiment, trial)


@command()
def add_trial(
    experiment: IdArgument,
    hparams: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE",
            help="Hyperparameters of the trial, such as lr=0.1 or optimizer.name=sgd; the others are drawn.",
        ),
    ],
    extra: Annotated[
        bool, typer.Option("--extra", help="One trial more than max_trials, instead of one of the planned trials.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Add a trial with given hyperparameters, even while the experiment runs.

    It is the next new trial of the first bracket that creates one. Promotions of other trials come first.
    """
    from ashwood.cli.control import add_trial as add_one

    add_one(home, experiment, hparams, extra=extra)


@command("set")
def set_command(
    experiment: IdArgument,
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE",
            help="Settings to change: max_concurrent_trials=8, max_trials=200, max_invalid_trials=500, replicates=3, "
            "metric_at=0.98, max_time=2h or max_size=200GB; the last three can be none.",
        ),
    ],
    home: HomeOption = None,
) -> None:
    """Change settings of an experiment, even while it runs."""
    from ashwood.cli.control import change_settings

    change_settings(home, experiment, settings)


@command()
def rename(
    experiment: IdArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="New name.")],
    home: HomeOption = None,
) -> None:
    """Rename an experiment."""
    from ashwood.cli.control import rename_experiment

    rename_experiment(home, experiment, name)


@command()
def label(
    experiment: IdArgument,
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL", help="Labels to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="LABEL", help="Label to remove.")] = None,
    home: HomeOption = None,
) -> None:
    """Add, remove or list labels of an experiment."""
    from ashwood.cli.control import label_experiment

    label_experiment(home, experiment, labels or [], remove or [])


@command()
def archive(
    experiment: IdArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Undo: the experiment appears in lists again.")] = False,
    home: HomeOption = None,
) -> None:
    """Hide an experiment from lists without deleting anything."""
    from ashwood.cli.control import archive_experiment

    archive_experiment(home, experiment, archived=not undo)


@command()
def unarchive(experiment: IdArgument, home: HomeOption = None) -> None:
    """Show an archived experiment in lists again."""
    from ashwood.cli.control import archive_experiment

    archive_experiment(home, experiment, archived=False)


@command()
def delete(
    experiments: Annotated[
        list[int], typer.Argument(help="Numbers of the experiments.", metavar="ID", parser=whole_number)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Deletion without asking.")] = False,
    home: HomeOption = None,
) -> None:
    """Delete experiments permanently, with their checkpoints and logs; asks first."""
    from ashwood.cli.control import delete_experiments

    delete_experiments(home, experiments, yes=yes)


@command()
def preview_search(
    training: PreviewOptions, file: FileArgument, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Preview a search: how many trials train how long.

    With --unit-time, --like or --measure it also estimates run time, worker-hours, cost, idle workers and disk space,
    and compares them with other modes, synchronous halving and random search.
    """
    from ashwood.cli.preview import preview_file

    preview_file(file, training, overrides=set_ or [], json=json)


@command()
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


@command()
def plan(training: TrainingOptions, options: PlanOptions, json: JsonOption = False) -> None:
    """Propose a search that fits a budget, with reasons and alternatives, and write its file.

    For example: ashwood plan --max-length "27 epochs" --unit-time 40s --workers 8 --deadline 6h --out search.yaml
    """
    from ashwood.cli.plan import plan_search_for

    plan_search_for(training, options, json=json)


@command("list")
def list_(
    home: HomeOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Include archived experiments.")] = False,
    label: Annotated[
        str | None, typer.Option("--label", metavar="LABEL", help="Label of the experiments to list.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="CSV output instead of a table.")] = False,
    json: JsonOption = False,
) -> None:
    """List experiments."""
    from ashwood.cli.show import show_experiments

    if csv and json:
        raise typer.BadParameter("give one of --csv and --json", param_hint="--csv")
    show_experiments(home, archived=all_, label=label, csv=csv, json=json)


@command()
def describe(experiments: IdsArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show an experiment: its state, brackets, rungs and best trial."""
    from ashwood.cli.show import describe_experiments

    describe_experiments(home, whole_numbers(experiments), json=json)


@command()
def config(experiment: IdArgument, home: HomeOption = None) -> None:
    """Print the configuration of an experiment as YAML: its file with the values of --set, or what its script set."""
    from ashwood.cli.show import show_config

    show_config(home, experiment)


@command()
def wait(experiment: IdArgument, home: HomeOption = None) -> None:
    """Wait until an experiment ends or pauses.

    The exit code is that of its run: 0 completed, or stopped by stop_when; 1 failed, interrupted, or paused and needs a
    fix; 3 paused; 4 canceled.
    """
    from ashwood.cli.wait import wait_for

    raise typer.Exit(wait_for(home, experiment))


@command()
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


@command()
def best(
    experiment: IdArgument,
    home: HomeOption = None,
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", min=1, help="Number of trials.")] = 1,
    json: JsonOption = False,
) -> None:
    """Show the recommended trials: metric, checkpoint path, and hyperparameters as YAML.

    When all trials have been compared, these are the ones with the best expected results at max_length, over all seeds
    with which they were trained. Before, they are those with the best checkpoints, or with the best reports if the
    experiment saves no checkpoints.
    """
    from ashwood.cli.show import show_best

    show_best(home, experiment, n=n, json=json)


@command()
def logs(
    experiment: IdArgument,
    trial: Annotated[
        int | None,
        typer.Argument(
            help="Number of the trial.", metavar="TRIAL", parser=whole_number, show_default="all, the newest first"
        ),
    ] = None,
    home: HomeOption = None,
    tail: Annotated[
        int | None,
        typer.Option("--tail", metavar="N", min=1, help="Only the last N lines of each trial.", show_default="all"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="With TRIAL: continue with new output until Ctrl-C.")
    ] = False,
) -> None:
    """Print the output of the training code of a trial, or of all trials."""
    from ashwood.cli.show import show_all_logs, show_logs

    if trial is not None:
        show_logs(home, experiment, trial, tail=tail, follow=follow)
    elif follow:
        raise typer.BadParameter("needs the number of a trial", param_hint="--follow")
    else:
        show_all_logs(home, experiment, tail=tail)


@command()
def events(
    experiment: IdArgument,
    home: HomeOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue with new events until the experiment ends or Ctrl-C.")
    ] = False,
    trial: Annotated[
        int | None,
        typer.Option("--trial", metavar="TRIAL", parser=whole_number, help="Only events of this trial."),
    ] = None,
    after: Annotated[
        int,
        typer.Option("--after", metavar="N", parser=whole_number, help="Only events after this sequence number."),
    ] = 0,
    json: JsonLinesOption = False,
) -> None:
    """Show the event log: what happened, what was decided, and why."""
    from ashwood.cli.events import show_events

    show_events(home, experiment, follow=follow, trial=trial, after=after, json=json)


@command()
def watch(
    experiment: IdArgument,
    home: HomeOption = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="N", min=0.1, help="Seconds between two updates.")
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
    from ashwood.terminal.watch import watch_experiment

    watch_experiment(home, experiment, interval=interval, best=best, once=once)


@command()
def timeline(
    experiment: IdArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Page to write: one self-contained .html file.")
    ],
    home: HomeOption = None,
) -> None:
    """Write a page that shows which worker trained which trial and when, coloured by bracket and rung."""
    from ashwood.cli.figures import write_timeline

    write_timeline(home, experiment, out)


@command()
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
            parser=whole_number,
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=64, help="Number of simulated workers.", show_default="8")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1_000, help="Number of simulated trials.", show_default="81")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Seed of the simulated trials.", show_default="typical")
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="N", min=0.1, max=600.0, help="Length of the animation in seconds.")
    ] = 14.0,
    fps: Annotated[int, typer.Option(metavar="N", min=1, max=50, help="Frames per second.")] = 15,
) -> None:
    """Animate a search: trials reach rungs, the best are promoted, workers train or idle."""
    from ashwood.cli.figures import TYPICAL_SEED, animate_experiment, animate_halving

    if experiment is None:
        seed = TYPICAL_SEED if seed is None else seed
        animate_halving(out, workers=workers or 8, trials=trials or 81, seed=seed, seconds=seconds, fps=fps)
    elif workers is trials is seed is None:
        animate_experiment(home, experiment, out, seconds=seconds, fps=fps)
    else:
        raise typer.BadParameter("--workers, --trials and --seed are for a simulated search, without ID")


@command()
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
    from ashwood.cli.figures import report_experiment

    report_experiment(home, experiment, out)


@command()
def replay(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Verify the event log: replay it and check every decision. `ashwood verify` checks this and more."""
    from ashwood.cli.events import check_replay

    check_replay(home, experiment, json=json)


@command()
def verify(
    experiment: Annotated[
        int | None,
        typer.Argument(help="Number of the experiment.", metavar="ID", parser=whole_number, show_default="all"),
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


@command()
def ui(
    options: DashboardOptions,
    directory: Annotated[
        str | None, typer.Argument(metavar="HOME", help="Home of the experiments, instead of --home.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Start the dashboard: watch and control experiments in a browser."""
    from ashwood.cli.ui import serve_dashboard

    serve_dashboard(directory or home, options)


@command()
def export(
    options: ExportOptions,
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
) -> None:
    """Export the trials or reports of an experiment as a table, or the whole experiment as one file."""
    from ashwood.cli.export import export_experiment

    export_experiment(home, experiment, out, options)


@command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="File of ashwood export: .ashwood.", metavar="FILE")],
    home: HomeOption = None,
    workdir: Annotated[
        Path | None,
        typer.Option(
            "--workdir",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Directory of its training code on this machine.",
        ),
    ] = None,
) -> None:
    """Import an exported experiment under a new number, so that it can be resumed here."""
    from ashwood.cli.export import import_experiment

    import_experiment(home, file, workdir=workdir)


@command()
def checkpoints(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show the checkpoints of an experiment: metric, size, path, and why each is kept."""
    from ashwood.cli.checkpoints import show_checkpoints

    show_checkpoints(home, experiment, json=json)


@command()
def download(
    experiment: IdArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for the copies, as DIR/trial-N.")],
    home: HomeOption = None,
    best: Annotated[int, typer.Option("--best", "-n", metavar="N", min=1, help="Number of best trials.")] = 1,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial",
            metavar="TRIAL",
            parser=whole_number,
            help="Trial whose checkpoint is copied instead of the best ones.",
        ),
    ] = None,
    directories: Annotated[
        bool,
        typer.Option("--directories", help="Also copy the directories of these trials, as DIR/trial-N-directory."),
    ] = False,
) -> None:
    """Copy the best checkpoints of an experiment and verify their integrity.

    Damaged checkpoints are skipped, and the exit code is then 1.
    """
    from ashwood.cli.checkpoints import download as download_checkpoints

    download_checkpoints(home, experiment, best=best, trial=trial, out=out, directories=directories)


@command()
def gc(
    experiment: IdArgument,
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
) -> None:
    """Delete unneeded checkpoints, leftovers of interrupted saves, and directories of ended trials.

    A running experiment deletes unneeded checkpoints itself. Some are left if it was killed or its storage could not
    be reached. Directories of trials (trial.directory) are only deleted by this command.
    """
    from ashwood.cli.checkpoints import collect_garbage

    collect_garbage(home, experiment, dry_run=dry_run)


@command()
def init(directory: Annotated[Path, typer.Argument(help="Directory for the files.", metavar="DIR")]) -> None:
    """Create a working example: an experiment file and training code to adapt."""
    from ashwood.cli.init import make_starter

    make_starter(directory)


@command()
def schema() -> None:
    """Print the JSON schema of the experiment file, for editors."""
    import json

    from ashwood.config import experiment_schema

    say(json.dumps(experiment_schema(), indent=2))


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
