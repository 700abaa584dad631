"""Draw the README's picture: a recorded experiment as `ashwood run` showed it, part of the way.

From examples/digits, after `ashwood run digits.yaml`:

    python ../../docs/make_picture.py 1 ../../docs/run.svg
"""

import sys
from pathlib import Path

from rich.console import Console

from ashwood.cli.live import render_progress
from ashwood.cli.progress import opening
from ashwood.engine import open_home
from ashwood.forecast.time_left import Forecaster
from ashwood.views.progress import Progress

PART_OF_THE_WAY = 0.8


def main() -> None:
    """Fold the first entries of the log and draw what they come to."""
    experiment, out = int(sys.argv[1]), Path(sys.argv[2])
    with open_home() as home:
        spec = home.store.spec(experiment)
        entries = [entry for _, entry in home.store.log(experiment).read()]
    progress = Progress(spec)
    shown = entries[: int(len(entries) * PART_OF_THE_WAY)]
    for entry in shown:
        progress.apply(entry)
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=124, file=nowhere, force_terminal=True, highlight=False)
        console.print("$ ashwood run digits.yaml", style="bold")
        console.print(opening(experiment, progress, progress.trials.spending.slots))
        console.print(render_progress(Forecaster(progress), shown[-1].at))
    console.save_svg(str(out), title="ashwood")


if __name__ == "__main__":
    main()
