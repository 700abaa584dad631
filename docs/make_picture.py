"""Draw the README's picture: a recorded experiment as `ashwood run` showed it, part of the way.

From examples/digits, after `ashwood run digits.yaml`:

    python ../../docs/make_picture.py 1 ../../docs/run.svg
"""

import sys
from pathlib import Path

from rich.console import Console

from ashwood.engine import open_home
from ashwood.terminal.messages import opening
from ashwood.terminal.screen import Screen, render

PART_OF_THE_WAY = 0.8


def main() -> None:
    """Fold the first entries of the log and draw what they come to."""
    experiment, out = int(sys.argv[1]), Path(sys.argv[2])
    with open_home() as home:
        spec = home.store.spec(experiment)
        entries = [entry for _, entry in home.store.log(experiment).read()]
    screen = Screen(experiment, spec)
    screen.observe(entries[: int(len(entries) * PART_OF_THE_WAY)])
    progress = screen.progress
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=124, height=40, file=nowhere, force_terminal=True, highlight=False)
        console.print("$ ashwood run digits.yaml", style="bold")
        console.print(opening(experiment, progress, progress.trials.spending.slots))
        console.print(render(screen, screen.latest[-1].at, console, "inline"))
    console.save_svg(str(out), title="ashwood")


if __name__ == "__main__":
    main()
