"""The processor time that the trust meter takes of a driver."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ashwood.engine import open_home
from ashwood.experiment.entry import Entry
from ashwood.terminal import screen
from ashwood.views.progress import Progress
from ashwood.views.trust import Trust
from benchmarks.reading import record_experiment
from benchmarks.tables import Options, Table

_REPEATS = 5


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` only a small search."""
    sizes = [1_000] if options.quick else [1_000, 10_000]
    rows: list[list[object]] = []
    for trials in sizes:
        print(f"  {trials:,} trials", file=sys.stderr)
        command = [sys.executable, "-m", "benchmarks.meter", str(trials)]
        driver, fold, reading = json.loads(subprocess.check_output(command))
        share = f"{100 * fold / driver:.2f} %"
        rows.append([f"{trials:,} trials", round(driver, 2), round(1_000 * fold, 1), share, round(reading, 2)])
    yield Table(
        "Trust meter",
        "Seconds of processor time that a driver takes for a whole search, without training; milliseconds of them that "
        "the fold of the trust meter takes, and their share; and seconds for one reading. The display of `run` waits "
        f"{screen.TRUST_PATIENCE} times as long as the last reading took before it reads the meter again, so readings "
        f"add at most {100 / screen.TRUST_PATIENCE:g} %. Aim: under 1 % in all at 10,000 trials.",
        ["", "driver (s)", "fold (ms)", "share", "one reading (s)"],
        rows,
    )


def _measure(trials: int) -> None:
    """Run a search, and print the processor time of the driver, of the meter's fold and of a reading."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.process_time()
        record_experiment(Path(directory), trials)
        driver = time.process_time() - began
        with open_home(Path(directory)) as home:
            entries = [entry for _, entry in home.store.log(1).read()]
            progress = Progress(home.store.spec(1))
        for entry in entries:
            progress.apply(entry)
        # The best of some repeats, because other processes of the machine can only slow it down.
        fold = min(_fold(progress, entries) for _ in range(_REPEATS))
        began = time.process_time()
        progress.trust.reading()
        print(json.dumps([driver, fold, time.process_time() - began]))


def _fold(progress: Progress, entries: Sequence[Entry]) -> float:
    meter = Trust(progress.ladder)
    began = time.process_time()
    for entry in entries:
        meter.apply(entry)
    return time.process_time() - began


if __name__ == "__main__":
    _measure(int(sys.argv[1]))
