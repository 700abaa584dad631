"""All commands."""

# Typer reads annotations at run time, so this module does not postpone their evaluation.  Each
# command imports its own module when it is called, so that ``--help`` and shell completion answer
# within a tenth of a second.

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ashwood.cli.completion import (
    ARGUMENTS,
    complete_columns,
    complete_conditions,
    complete_experiments,
    complete_settings,
    complete_trials,
)
from ashwood.cli.options import (
    AllOption,
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
    LimitOption,
    NewestArgument,
    PlanOptions,
    PreviewOptions,
    RunningArgument,
    RunOptions,
    SetOption,
    ShareOption,
    TrainingOptions,
    TrialArgument,
    UnfinishedArgument,
    trial_option,
    with_groups,
)
from ashwood.cli.where import fill_in, reference, whole_number
from ashwood.errors import AshwoodError, ConfigError
from ashwood.terminal.keys import ending_on_ctrl_c
from ashwood.terminal.text import OutputLost, abandon, fitted, prepare_streams, say
from ashwood.views.event_kinds import EventKind

EXIT_FAILED = 1
EXIT_USAGE = 2


class _Commands(TyperGroup):
    """The commands; for those of Determined, the error says which of Ashwood's commands to use."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args:
            args = [ALIASES.get(args[0], args[0]), *args[1:]]
        if args and args[0] not in self.commands:
            from ashwood.cli.determined import advice_for

            if (advice := advice_for(args)) is not None:
                ctx.fail(advice)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from ashwood.cli.help import help_of_group, paragraphs

        listed = [
            (
                group,
                [
                    (str(name), paragraphs(each.help)[0].removesuffix("."))
                    for name, each in self.commands.items()
                    if each.rich_help_panel == group and not each.hidden  # type: ignore[attr-defined]
                ],
            )
            for group in GROUPS
        ]
        formatter.write(help_of_group(self, listed, ctx.command_path))


app = typer.Typer(
    name="ashwood",
    cls=_Commands,
    help="Find good hyperparameters fast, with adaptive ASHA.",
    epilog="Start with: ashwood init DIR. Exit codes: 0 done (an experiment: completed, or stopped by stop_when); "
    "1 failed, refused, or paused: needs a fix; 2 wrong usage or file; 3 paused; 4 canceled.",
    invoke_without_command=True,
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
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        if ctx.obj is not None:
            from ashwood.cli.remote import run_on_cluster

            code = run_on_cluster(ctx.obj, ctx.info_name, ctx.meta[ARGUMENTS], _options_on_command_line(ctx))
            if code is not None:
                raise typer.Exit(code)
        name = str(ctx.info_name)
        fill_in(ctx.params, makes_home=name in _MAKES_HOME, needs_file=name in _NEEDS_FILE)
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from ashwood.cli.help import help_of_command

        formatter.write(help_of_command(self, getattr(self.callback, "examples", ()), ctx.command_path))


GROUPS = ("Run", "Look", "Steer", "Organize", "Plan", "Export")
"""Groups of commands, in the order in which help lists them."""
ALIASES = {"preview-search": "preview"}
"""Former names of commands, which are still accepted."""
_MAKES_HOME = ("run", "import")
"""Commands that make a home in the current directory, and so do not look for one in parent directories."""
_NEEDS_FILE = ("run", "preview", "check")
"""Commands that look for an experiment file if they get none."""


def command(
    group: str, *, name: str | None = None, examples: Sequence[str] = (), hidden: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a function a command; parameters of it can be groups of options.

    Args:
        group: one of `GROUPS`.
        name: name of the command, by default that of the function.
        examples: command lines that its help shows.
        hidden: whether lists of commands leave it out, because another command does the same.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        called = with_groups(function)
        vars(called)["examples"] = examples
        app.command(name, cls=_Command, rich_help_panel=group, hidden=hidden)(called)
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
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(EXIT_USAGE)
    ctx.obj = on


@command("Run", examples=("ashwood init my-search",))
def init(
    directory: Annotated[Path, typer.Argument(help="Directory for the files.", metavar="DIR")], json: JsonOption = False
) -> None:
    """Create a working example: an experiment file and training code to adapt."""
    from ashwood.cli.init import make_starter

    make_starter(directory, json=json)


@command(
    "Run",
    examples=(
        "ashwood run",
        "ashwood run search.yaml --workers 4",
        "ashwood run search.yaml --set searcher.max_trials=50 --stop-when 0.98",
    ),
)
def run(
    ctx: typer.Context,
    options: RunOptions,
    file: FileArgument,
    set_: SetOption = None,
    source: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="ID",
            parser=reference,
            autocompletion=complete_experiments,
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
        if source is not None or resume_latest or is_local or options.ray_address:
            raise typer.BadParameter(
                "--submit and --on run a file, and can't be combined with --from, --resume-latest, --backend local, "
                "--ray-address or --share"
            )
        from ashwood.cli.remote import submit as submit_driver

        # The variable ASHWOOD_HOME describes this machine and not the cluster.
        options = replace(options, home=_options_on_command_line(ctx).get("home"))
        raise typer.Exit(submit_driver(url, file, options, overrides, follow=follow))
    if follow:
        raise typer.BadParameter("--follow needs --submit: without it the output is shown anyway")
    given: Path | None = file
    match given, source, resume_latest:
        case _, None, True if not checkout:
            code = resume_latest_or_run(given, options, overrides)
        case Path(), None, False if not checkout:
            code = run_file(given, options, overrides)
        case None, int(), False:
            code = rerun(source, options, overrides, checkout=checkout)
        case _:
            raise typer.BadParameter("give one of: FILE, --from ID [--checkout], --resume-latest [FILE]")
    raise typer.Exit(code)


@command(
    "Run",
    examples=(
        "ashwood resume",
        "ashwood resume 3 --background",
        "ashwood resume digits --retry-failed",
    ),
)
def resume(
    options: RunOptions,
    experiment: UnfinishedArgument,
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
    background: Annotated[
        bool, typer.Option("--background", help="A driver in the background, which outlives this terminal.")
    ] = False,
) -> None:
    """Resume a paused, stopped or interrupted experiment (--backend: on another backend, this time only)."""
    from ashwood.cli.run import activate_experiment, resume_experiment
    from ashwood.terminal.output import tell

    if background:
        if workdir is not None or retry_failed or options.stop_when:
            raise typer.BadParameter(
                "can't be combined with --workdir, --retry-failed or --stop-when", param_hint="--background"
            )
        activated = activate_experiment(experiment, options)
        tell(str(activated), json=options.json, **activated._asdict())
        return
    raise typer.Exit(resume_experiment(experiment, options, workdir=workdir, retry_failed=retry_failed))


@command(
    "Run",
    examples=(
        "ashwood extend --max-trials 400",
        "ashwood extend 3 --max-length 243 --dry-run",
    ),
)
def extend(
    options: RunOptions,
    experiment: NewestArgument,
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
        typer.Option("--cost-per-worker-hour", metavar="N", help="Cost per worker-hour, e.g. 2.10 or '2.10 EUR'."),
    ] = None,
) -> None:
    """Add trials, longer training or replicates to a search, also after it has ended, and run the rest.

    Nothing is trained again: trials continue from their checkpoints.
    """
    from ashwood.cli.extend import extend_experiment

    asked = (max_trials, max_length, replicates, cost_per_worker_hour)
    raise typer.Exit(extend_experiment(experiment, options, *asked, dry_run=dry_run, run=not no_run))


@command("Run", hidden=True)
def activate(options: DriverOptions, experiment: UnfinishedArgument, json: JsonOption = False) -> None:
    """Resume an experiment in the background, as `ashwood resume --background` does."""
    from ashwood.cli.run import activate_experiment
    from ashwood.terminal.output import tell

    activated = activate_experiment(experiment, options)
    tell(str(activated), json=json, **activated._asdict())


@command(
    "Steer",
    examples=(
        "ashwood pause",
        "ashwood pause 3",
    ),
)
def pause(experiment: RunningArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Pause an experiment: running trials save a checkpoint and release their workers."""
    from ashwood.cli.control import pause_experiment

    pause_experiment(home, experiment, json=json)


@command("Steer", examples=("ashwood cancel", "ashwood cancel 3 --trial 7"))
def cancel(
    experiment: RunningArgument,
    trial: Annotated[
        int | None,
        trial_option("Trial that is stopped early instead of the experiment; its results still count."),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Stop an experiment permanently, after running trials have saved a checkpoint; or stop one trial early."""
    from ashwood.cli.control import cancel_experiment, stop_trial

    if trial is None:
        cancel_experiment(home, experiment, json=json)
    else:
        stop_trial(home, experiment, trial, json=json)


@command("Steer", examples=("ashwood kill 3", "ashwood kill 3 --trial 7"))
def kill(
    experiment: IdArgument,
    trial: Annotated[
        int | None,
        trial_option("Trial that is stopped instead of the experiment; it is ranked last in its rung."),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Stop an experiment, or one trial of it, immediately and permanently."""
    from ashwood.cli.control import kill_experiment, kill_trial

    if trial is None:
        kill_experiment(home, experiment, json=json)
    else:
        kill_trial(home, experiment, trial, json=json)


@command("Steer", hidden=True)
def kill_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Stop a trial immediately and permanently, as `ashwood kill --trial` does; it is ranked last in its rung."""
    from ashwood.cli.control import kill_trial as kill_one

    kill_one(home, experiment, trial, json=json)


@command("Steer", hidden=True)
def stop_trial(experiment: IdArgument, trial: TrialArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Stop a trial early, as `ashwood cancel --trial` does; its results still count."""
    from ashwood.cli.control import stop_trial as stop_one

    stop_one(home, experiment, trial, json=json)


@command(
    "Steer",
    examples=(
        "ashwood add-trial lr=0.1 optimizer.name=sgd",
        "ashwood add-trial 3 lr=0.1 --extra",
    ),
)
def add_trial(
    experiment: RunningArgument,
    hparams: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Hyperparameters of the trial, such as lr=0.1 or optimizer.name=sgd; the others are drawn.",
            show_default=False,
        ),
    ] = None,
    extra: Annotated[
        bool, typer.Option("--extra", help="One trial more than max_trials, instead of one of the planned trials.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Add a trial with given hyperparameters, even while the experiment runs.

    It is the next new trial of the first bracket that creates one. Promotions of other trials come first.
    """
    from ashwood.cli.control import add_trial as add_one

    if not hparams:
        raise typer.BadParameter("give hyperparameters of the trial, such as lr=0.1", param_hint="KEY=VALUE")
    add_one(home, experiment, hparams, extra=extra, json=json)


@command(
    "Steer",
    name="set",
    examples=(
        "ashwood set max_trials=200",
        "ashwood set 3 max_time=2h metric_at=none",
    ),
)
def set_command(
    experiment: RunningArgument,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            autocompletion=complete_settings,
            help="Settings to change: max_concurrent_trials=8, max_trials=200, max_invalid_trials=500, replicates=3, "
            "metric_at=0.98, max_time=2h or max_size=200GB; the last three can be none.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Change settings of an experiment, even while it runs."""
    from ashwood.cli.control import change_settings

    if not settings:
        raise typer.BadParameter("give settings to change, such as max_trials=200", param_hint="KEY=VALUE")
    change_settings(home, experiment, settings, json=json)


@command("Organize", examples=("ashwood rename 3 digits-wide",))
def rename(
    experiment: IdArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="New name.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Rename an experiment."""
    from ashwood.cli.control import rename_experiment

    rename_experiment(home, experiment, name, json=json)


@command(
    "Organize",
    examples=(
        "ashwood label 3 good",
        "ashwood label 3 --remove good",
    ),
)
def label(
    experiment: IdArgument,
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL", help="Labels to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="LABEL", help="Label to remove.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Add, remove or list labels of an experiment."""
    from ashwood.cli.control import label_experiment

    label_experiment(home, experiment, labels or [], remove or [], json=json)


@command(
    "Organize",
    examples=(
        "ashwood note 3 'Good start. Next: a larger **batch size**.'",
        "ashwood note 3 --trial 7 'Diverged twice.'",
        "ashwood note 3 --file notes.md",
        "ashwood note 3",
    ),
)
def note(
    experiment: RunningArgument,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="New text in Markdown, which replaces the whole note.", show_default="print the note"
        ),
    ] = None,
    trial: Annotated[
        int | None,
        trial_option("Trial to which the note belongs, instead of the experiment."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="File with the new text; - is standard input.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the note.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Write or print the note on an experiment or a trial."""
    from ashwood.cli.control import note_on, note_text

    if (text is not None) + (file is not None) + clear > 1:
        raise typer.BadParameter("give only one of TEXT, --file and --clear", param_hint="TEXT")
    note_on(home, experiment, trial, "" if clear else note_text(text, file), json=json)


@command(
    "Organize",
    examples=(
        "ashwood archive 3",
        "ashwood archive 3 --undo",
    ),
)
def archive(
    experiment: IdArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Undo: the experiment appears in lists again.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Hide an experiment from lists without deleting anything."""
    from ashwood.cli.control import archive_experiment

    archive_experiment(home, experiment, archived=not undo, json=json)


@command("Organize", hidden=True)
def unarchive(experiment: IdArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show an archived experiment in lists again, as `ashwood archive --undo` does."""
    from ashwood.cli.control import archive_experiment

    archive_experiment(home, experiment, archived=False, json=json)


@command("Organize", examples=("ashwood delete 3 4",))
def delete(
    experiments: Annotated[
        list[Any],
        typer.Argument(
            help="Numbers or names of the experiments.",
            metavar="ID",
            parser=reference,
            autocompletion=complete_experiments,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Deletion without asking.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Delete experiments permanently, with their checkpoints and logs; asks first."""
    from ashwood.cli.control import delete_experiments

    delete_experiments(home, experiments, yes=yes, json=json)


@command(
    "Plan",
    name="preview",
    examples=(
        "ashwood preview",
        "ashwood preview search.yaml --workers 8 --unit-time 40s",
        "ashwood preview search.yaml --workers 8 --like 3",
    ),
)
def preview_search(
    training: PreviewOptions, file: FileArgument, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Preview a search: how many trials train how long.

    With --unit-time, --like or --measure it also estimates run time, worker-hours, cost, idle workers and disk space,
    and compares them with other modes, synchronous halving and random search.
    """
    from ashwood.cli.preview import preview_file

    preview_file(file, training, overrides=set_ or [], json=json)


@command(
    "Plan",
    examples=(
        "ashwood check",
        "ashwood check search.yaml --length 4",
    ),
)
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


@command(
    "Plan",
    examples=('ashwood plan --max-length "27 epochs" --unit-time 40s --workers 8 --deadline 6h --out search.yaml',),
)
def plan(training: TrainingOptions, options: PlanOptions, json: JsonOption = False) -> None:
    """Propose a search that fits a budget, with reasons and alternatives, and write its file.

    For example: ashwood plan --max-length "27 epochs" --unit-time 40s --workers 8 --deadline 6h --out search.yaml
    """
    from ashwood.cli.plan import plan_search_for

    plan_search_for(training, options, json=json)


@command(
    "Look",
    name="list",
    examples=(
        "ashwood list",
        "ashwood list --label good --csv",
    ),
)
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


@command(
    "Look",
    examples=(
        "ashwood describe",
        "ashwood describe 1,2",
    ),
)
def describe(experiments: IdsArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show an experiment: its state, brackets, rungs and best trial."""
    from ashwood.cli.show import describe_experiments

    describe_experiments(home, experiments, json=json)


@command("Look", examples=("ashwood config 3 > again.yaml",))
def config(experiment: NewestArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Print the configuration of an experiment as YAML: its file with the values of --set, or what its script set."""
    from ashwood.cli.show import show_config

    show_config(home, experiment, json=json)


@command("Run", examples=("ashwood wait && ashwood report",))
def wait(experiment: NewestArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Wait until an experiment ends or pauses.

    The exit code is that of its run: 0 completed, or stopped by stop_when; 1 failed, interrupted, or paused and needs a
    fix; 3 paused; 4 canceled.
    """
    from ashwood.cli.wait import wait_for

    raise typer.Exit(wait_for(home, experiment, json=json))


@command(
    "Look",
    examples=(
        "ashwood trials",
        "ashwood trials --all --filter state=errored",
        "ashwood trials 3 --sort -lr -n 10",
    ),
)
def trials(
    experiment: NewestArgument,
    home: HomeOption = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            autocompletion=complete_columns,
            help="Column to sort by: a metric (its best result), a hyperparameter such as optimizer.lr, or a column "
            "such as last.loss; in reverse after a -.",
            show_default="best; with --json: trial",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            autocompletion=complete_conditions,
            help="Condition for a metric, hyperparameter or column; also !=, <, <=, > and >=. "
            "KEY=A,B is one of several values, and KEY= no value.",
        ),
    ] = None,
    limit: LimitOption = None,
    all_: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Show the trials of an experiment."""
    from ashwood.cli.show import show_trials

    show_trials(home, experiment, sort=sort, where=where or [], limit=limit, whole=all_, json=json)


@command(
    "Look",
    examples=(
        "ashwood best",
        "ashwood best 3 -n 5 --json",
    ),
)
def best(
    experiment: NewestArgument,
    home: HomeOption = None,
    n: Annotated[int, typer.Option("--limit", "-n", "--n", metavar="N", min=1, help="Number of trials.")] = 1,
    json: JsonOption = False,
) -> None:
    """Show the recommended trials: metric, checkpoint path, and hyperparameters as YAML.

    When all trials have been compared, these are the ones with the best expected results at max_length, over all seeds
    with which they were trained. Before, they are those with the best checkpoints, or with the best reports if the
    experiment saves no checkpoints.
    """
    from ashwood.cli.show import show_best

    show_best(home, experiment, n=n, json=json)


@command(
    "Look",
    examples=(
        "ashwood logs",
        "ashwood logs 3 7 --follow",
    ),
)
def logs(
    experiment: NewestArgument,
    trial: Annotated[
        int | None,
        typer.Argument(
            help="Number of the trial.",
            metavar="TRIAL",
            parser=whole_number,
            autocompletion=complete_trials,
            show_default="all, the newest first",
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
    json: Annotated[bool, typer.Option("--json", help="One line of JSON per line of output.")] = False,
) -> None:
    """Print the output of the training code of a trial, or of all trials."""
    from ashwood.cli.show import show_all_logs, show_logs

    if trial is not None:
        show_logs(home, experiment, trial, tail=tail, follow=follow, json=json)
    elif follow:
        raise typer.BadParameter("needs the number of a trial", param_hint="--follow")
    else:
        show_all_logs(home, experiment, tail=tail, json=json)


@command(
    "Look",
    examples=(
        "ashwood events",
        "ashwood events --only failures",
        "ashwood events 3 --trial 7 --follow",
    ),
)
def events(
    experiment: NewestArgument,
    home: HomeOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue with new events until the experiment ends or Ctrl-C.")
    ] = False,
    trial: Annotated[
        int | None,
        trial_option("Only events of this trial."),
    ] = None,
    after: Annotated[
        int,
        typer.Option("--after", metavar="N", parser=whole_number, help="Only events after this sequence number."),
    ] = 0,
    only: Annotated[
        list[EventKind] | None,
        typer.Option(
            "--only",
            help="Kind of events to show: new best results are bests, requests of users are steering. Can be given "
            "twice.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=0, help="Only the last N events (0 = all).")
    ] = 0,
    json: JsonLinesOption = False,
) -> None:
    """Show the event log: what happened, what was decided, and why."""
    from ashwood.cli.events import EventChoice, show_events

    chosen = EventChoice(trial, after, frozenset(only or ()), limit)
    show_events(home, experiment, chosen, follow=follow, json=json)


@command(
    "Look",
    examples=(
        "ashwood watch",
        "ashwood watch 3 --once",
    ),
)
def watch(
    experiment: NewestArgument,
    home: HomeOption = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="N", min=0.1, help="Seconds between two updates.")
    ] = 1.0,
    best: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            "--best",
            metavar="N",
            min=1,
            help="Number of best trials.",
            show_default="as many as fit, up to 10",
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Current state only, printed once; the default if the output is not a terminal."),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="JSON output of the current state, as that of ashwood describe.")
    ] = False,
) -> None:
    """Watch an experiment on the whole terminal: progress, rungs, best trials, latest events.

    It only reads the event log, wherever the driver runs. q or Ctrl-C leaves; the experiment continues.
    After --on it prints the current state once.
    """
    if json:
        from ashwood.cli.show import describe_experiments

        describe_experiments(home, [experiment], json=True)
        return
    from ashwood.terminal.watch import watch_experiment

    watch_experiment(home, experiment, interval=interval, best=best, once=once)


@command(
    "Export",
    examples=(
        "ashwood timeline",
        "ashwood timeline 3 --out workers.html",
    ),
)
def timeline(
    experiment: NewestArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Page to write: one self-contained .html file.",
            show_default="NAME-ID-timeline.html",
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Write a page that shows which worker trained which trial and when, coloured by bracket and rung."""
    from ashwood.cli.figures import write_timeline

    write_timeline(home, experiment, out, json=json)


@command(
    "Export",
    examples=(
        "ashwood animate 3",
        "ashwood animate --out asha.gif",
    ),
)
def animate(
    experiment: Annotated[
        int | None,
        typer.Argument(
            help="Experiment to animate. Without one: simulated synchronous and asynchronous halving, side by side.",
            metavar="ID",
            parser=reference,
            autocompletion=complete_experiments,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Animation to write: .gif, .mp4, or .html with a player.",
            show_default="NAME-ID.gif, or asha.gif",
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
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
        animate_halving(out, workers=workers or 8, trials=trials or 81, seed=seed, seconds=seconds, fps=fps, json=json)
    elif workers is trials is seed is None:
        animate_experiment(home, experiment, out, seconds=seconds, fps=fps, json=json)
    else:
        raise typer.BadParameter("--workers, --trials and --seed are for a simulated search, without ID")


@command(
    "Export",
    examples=(
        "ashwood report --open",
        "ashwood report 3 --out result.pdf",
    ),
)
def report(
    experiment: NewestArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File to write: .html; or .pdf or .png, which need a browser.",
            show_default="NAME-ID.html",
        ),
    ] = None,
    home: HomeOption = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the file when it is written.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a report to share: one file with the result, the figures and the experiment file."""
    from ashwood.cli.figures import report_experiment

    report_experiment(home, experiment, out, opens=opens, json=json)


@command("Organize", hidden=True)
def replay(experiment: NewestArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Verify the event log: replay it and check every decision. `ashwood verify` checks this and more."""
    from ashwood.cli.events import check_replay

    check_replay(home, experiment, json=json)


@command(
    "Organize",
    examples=(
        "ashwood verify",
        "ashwood verify 3 --repair",
    ),
)
def verify(
    experiment: Annotated[
        int | None,
        typer.Argument(
            help="Number or name of the experiment.",
            metavar="ID",
            parser=reference,
            autocompletion=complete_experiments,
            show_default="all",
        ),
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


@command(
    "Look",
    examples=(
        "ashwood ui",
        "ashwood ui --port 8080 --read-only",
    ),
)
def ui(
    options: DashboardOptions,
    directory: Annotated[
        str | None, typer.Argument(metavar="HOME", help="Home of the experiments, instead of --home.")
    ] = None,
    home: HomeOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="One line of JSON with the URL and the process ID instead of text.")
    ] = False,
) -> None:
    """Start the dashboard: watch and control experiments in a browser."""
    from ashwood.cli.ui import serve_dashboard

    serve_dashboard(directory or home, options, json=json)


@command(
    "Export",
    examples=(
        "ashwood export",
        "ashwood export 3 --out trials.parquet",
        "ashwood export 3 --out digits.ashwood --checkpoints",
    ),
)
def export(
    options: ExportOptions,
    experiment: NewestArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File to write: .csv, .parquet or .json; or .ashwood for the whole experiment.",
            show_default="NAME-ID.csv, or NAME-ID.ashwood with options for it",
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Export the trials or reports of an experiment as a table, or the whole experiment as one file."""
    from ashwood.cli.export import export_experiment

    export_experiment(home, experiment, out, options, json=json)


@command("Export", name="import", examples=("ashwood import digits.ashwood",))
def import_(
    file: Annotated[Path, typer.Argument(help="File of ashwood export: .ashwood.", metavar="FILE")],
    home: HomeOption = None,
    json: JsonOption = False,
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

    import_experiment(home, file, workdir=workdir, json=json)


@command(
    "Look",
    examples=(
        "ashwood checkpoints",
        "ashwood checkpoints 3 --json",
    ),
)
def checkpoints(
    experiment: NewestArgument,
    home: HomeOption = None,
    limit: LimitOption = None,
    all_: AllOption = False,
    json: JsonOption = False,
) -> None:
    """Show the checkpoints of an experiment: metric, size, path, and why each is kept."""
    from ashwood.cli.checkpoints import show_checkpoints

    show_checkpoints(home, experiment, limit=limit, whole=all_, json=json)


@command(
    "Export",
    examples=(
        "ashwood download",
        "ashwood download 3 -n 3 --out models",
    ),
)
def download(
    experiment: NewestArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Directory for the copies, as DIR/trial-N.", show_default="NAME-ID"
        ),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
    best: Annotated[
        int, typer.Option("--limit", "-n", "--best", metavar="N", min=1, help="Number of best trials.")
    ] = 1,
    trial: Annotated[
        int | None,
        trial_option("Trial whose checkpoint is copied instead of the best ones."),
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

    download_checkpoints(home, experiment, best=best, trial=trial, out=out, directories=directories, json=json)


@command("Organize", examples=("ashwood gc 3 --dry-run",))
def gc(
    experiment: NewestArgument,
    home: HomeOption = None,
    json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
) -> None:
    """Delete unneeded checkpoints, leftovers of interrupted saves, and directories of ended trials.

    A running experiment deletes unneeded checkpoints itself. Some are left if it was killed or its storage could not
    be reached. Directories of trials (trial.directory) are only deleted by this command.
    """
    from ashwood.cli.checkpoints import collect_garbage

    collect_garbage(home, experiment, dry_run=dry_run, json=json)


@command("Export", examples=("ashwood schema > experiment.schema.json",))
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


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The base class of errors about the command line, whose module depends on the version of Typer."""


def _run() -> None:
    arguments: dict[str, Any] = {"args": sys.argv[1:], "prog_name": "ashwood", "standalone_mode": False}
    try:
        with ending_on_ctrl_c():
            code = app(**arguments)
    except _UsageError as error:
        _fail(_usage_message(error), EXIT_USAGE)
    except typer.Abort:
        _fail("aborted", EXIT_FAILED)
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except AshwoodError as error:
        _fail(str(error), EXIT_FAILED)
    if code:
        sys.exit(code)


def _usage_message(error: Any) -> str:
    # Typer shows messages of Pydantic, in the words of Python.
    message = error.format_message().replace("Value error, ", "").replace("Input should be", "must be")
    message = message.partition(", unable to parse")[0]
    where = "" if error.ctx is None else f"\nSee: {error.ctx.command_path} --help"
    return f"{message[:1].lower()}{message[1:].removesuffix('.')}{where}"


def _fail(message: str, code: int) -> None:
    lines = [part for line in message.splitlines() for part in fitted(line, indent=len(_ERROR), err=True)] or [""]
    typer.secho(_ERROR, fg="red", bold=True, nl=False, err=True)
    say(lines[0], err=True)
    for line in lines[1:]:
        say(f"{'':{len(_ERROR)}}{line}", err=True)
    sys.exit(code)


_ERROR = "error: "
