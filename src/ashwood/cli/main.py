"""Every command and its options, on one page."""

# Typer reads annotations at run time, and each command imports its room when it is called: the
# command line answers in a tenth of a second, and a trial starts within the first one.

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ashwood.errors import AshwoodError, ConfigError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PAUSED = 3

app = typer.Typer(
    name="ashwood",
    help="Find good hyperparameters fast, with adaptive ASHA.",
    epilog="Start with: ashwood init DIR. Exit codes: 0 completed, 1 failed, 2 wrong usage or file, 3 paused.",
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
IdArgument = Annotated[int, typer.Argument(help="The experiment's number; see: ashwood list.", metavar="ID")]
TrialArgument = Annotated[int, typer.Argument(help="The trial's number.", metavar="TRIAL")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the file, e.g. searcher.max_trials=50."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Slots to use.", show_default="all GPUs, or all cores where there are none"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from ashwood import __version__

        typer.echo(f"ashwood {__version__}")
        raise typer.Exit


@app.callback()
def _ashwood(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    file: FileArgument,
    home: HomeOption = None,
    workers: WorkersOption = None,
    set_: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
) -> None:
    """Run the experiment that FILE describes, to its end.

    Ctrl-C pauses it: running trials save a checkpoint, and `ashwood resume` goes on. A second Ctrl-C ends at once.
    """
    from ashwood.cli.run import run_file

    raise typer.Exit(run_file(file, home=home, workers=workers, overrides=set_ or [], json=json))


@app.command()
def resume(
    experiment: IdArgument,
    home: HomeOption = None,
    workers: WorkersOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
) -> None:
    """Go on with an experiment that was paused or interrupted."""
    from ashwood.cli.run import resume_experiment

    raise typer.Exit(resume_experiment(experiment, home=home, workers=workers, json=json))


@app.command()
def preview_search(
    file: FileArgument, workers: WorkersOption = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Say what a search will do before anything runs: how many trials train how long."""
    from ashwood.cli.preview import preview_file

    preview_file(file, workers=workers, overrides=set_ or [], json=json)


@app.command(name="list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """List all experiments."""
    from ashwood.cli.show import show_experiments

    show_experiments(home, json=json)


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
        str, typer.Option(help="A column, or a hyperparameter such as optimizer.lr; with a leading - the other way.")
    ] = "trial",
    where: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="KEY=VALUE", help="Only trials where a column or hyperparameter is VALUE."),
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
    """Show the best trials: metric, hyperparameters ready to paste, and where the checkpoint is."""
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
def export(
    experiment: IdArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .csv, .parquet or .json.")],
    home: HomeOption = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="A row a report instead of a row a trial.")] = False,
) -> None:
    """Write the trials of an experiment, or all their reports, as CSV, Parquet or JSON."""
    from ashwood.cli.export import export_experiment

    export_experiment(home, experiment, out, metrics=metrics)


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
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="That of this trial instead.")] = None,
) -> None:
    """Copy the best checkpoints of an experiment, from wherever they are, and make sure that they are whole."""
    from ashwood.cli.checkpoints import download as download_checkpoints

    download_checkpoints(home, experiment, best=best, trial=trial, out=out)


@app.command()
def gc(
    experiment: IdArgument,
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> None:
    """Delete checkpoints that nobody needs, and what interrupted saves have left.

    A running experiment does that itself; this is for what it left when it was killed, or its storage was away.
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

    typer.echo(json.dumps(experiment_schema(), indent=2))


def main() -> None:
    """Run the command line; errors that users can act on are printed without a traceback."""
    arguments: dict[str, Any] = {"args": sys.argv[1:], "prog_name": "ashwood"}
    try:
        app(**arguments)
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except AshwoodError as error:
        _fail(str(error), EXIT_FAILED)
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough.
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str, code: int) -> None:
    lines = message.splitlines() or [""]
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(lines[0], err=True)
    for line in lines[1:]:
        typer.echo(f"       {line}", err=True)
    sys.exit(code)
