"""Make run.svg, the picture of the README: the digits example as `ashwood run` shows it, part of the way.

Run on a machine that does nothing else, as the picture shows how long the search takes: ``make pictures``.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from ashwood.engine import open_home
from ashwood.terminal.messages import opening
from ashwood.terminal.screen import Screen, render

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "run.svg"
RUN = ("run", "digits.yaml")
PART_OF_THE_WAY = 0.8


def main() -> None:
    """Run the search, fold the first part of its log, and draw the live display of that moment."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "digits"
        shutil.copytree(ROOT / "examples" / "digits", place, ignore=shutil.ignore_patterns(".ashwood"))
        subprocess.run([sys.executable, "-m", "ashwood", *RUN], cwd=place, stdout=subprocess.DEVNULL, check=True)
        with open_home(place / ".ashwood") as home:
            spec = home.store.spec(1)
            entries = [entry for _, entry in home.store.log(1).read()]
    screen = Screen(1, spec)
    screen.observe(entries[: int(len(entries) * PART_OF_THE_WAY)])
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=124, height=40, file=nowhere, force_terminal=True, highlight=False)
        console.print(f"$ ashwood {' '.join(RUN)}", style="bold")
        console.print(opening(1, screen.progress, screen.progress.trials.spending.slots))
        console.print(render(screen, screen.latest[-1].at, console, "inline"))
    # The picture must look the same without a network, so it names no fonts of other servers.
    OUT.write_text(re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="ashwood"), flags=re.DOTALL))


if __name__ == "__main__":
    main()
