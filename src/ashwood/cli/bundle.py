"""``ashwood export`` to a file of a whole experiment, and ``ashwood import``."""

from __future__ import annotations

from pathlib import Path

from ashwood.cli.output import format_length
from ashwood.cli.text import say
from ashwood.engine import open_home
from ashwood.engine.bundle import export_bundle, import_bundle


def export_whole(
    home: str | None, experiment: int, out: Path, *, checkpoints: bool, logs: bool, directories: bool, until: int | None
) -> None:
    """Run ``ashwood export`` to a file of the whole experiment."""
    # With ``until``, the home may be damaged: the entries up to it may be all that can be read.
    with open_home(home, salvage=until is not None) as opened:
        if until is None:
            opened.log(experiment).check()
        exported = export_bundle(
            opened, experiment, out, checkpoints=checkpoints, logs=logs, directories=directories, until=until
        )
        has_directories = any(opened.trial_directories(experiment).glob("*/*"))
    for why in exported.left_out:
        say(f"warning: left out: {why}", err=True)
    parts = [format_length(exported.entries, "events")]
    parts += [format_length(exported.checkpoints, "checkpoints")] * checkpoints
    parts += [format_length(exported.logs, "logs")] * logs
    parts += [f"{exported.directories} director{'y' if exported.directories == 1 else 'ies'} of trials"] * directories
    say(f"Wrote experiment {experiment} ({', '.join(parts)}) to {out}.")
    absent = [name for name, packed in (("checkpoints", checkpoints), ("logs", logs)) if not packed]
    if has_directories and not directories:
        absent.append("directories")
    if absent:
        options = " ".join(f"--{name}" for name in absent)
        say(f"The file has no {' and no '.join(absent)}: add {options} to include them.", err=True)


def import_experiment(home: str | None, file: Path, *, workdir: Path | None) -> None:
    """Run ``ashwood import``."""
    with open_home(home, create=True) as opened:
        imported = import_bundle(opened, file, workdir=workdir)
        record = opened.store.record(imported.experiment)
        unfinished = opened.is_interrupted(record) or not record.state.ended
    say(
        f"{file} is experiment {record.id} here ({record.name}), {format_length(imported.entries, 'events')}, "
        f"{'not finished' if unfinished else record.state}"
    )
    if unfinished and not Path(imported.spec.workdir).is_dir():
        say(
            f"its training code was in {imported.spec.workdir}, which does not exist here: to resume the experiment, "
            "import it with --workdir DIR",
            err=True,
        )
    elif unfinished:
        say(f"To continue: ashwood resume {record.id}")
    if unfinished and imported.entries and not imported.checkpoints:
        say("the file has no checkpoints, so trials restart from 0 (ashwood export --checkpoints adds them)", err=True)
