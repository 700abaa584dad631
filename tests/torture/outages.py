"""Let an S3 storage fail at random under experiments, kill their drivers, and look for trials that were charged.

``python -m tests.torture.outages --count 10`` runs experiments whose checkpoints are in S3.  For random times the
server refuses access, fails, says nothing or has lost its bucket.  No trial may fail because of that, every loss must
be that of its own trial, and no report may be lost; an experiment that paused is resumed until it is complete.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.s3 import S3, serve_s3
from tests.torture.restores import Ordeal, judge, sqlite_database

FILE = """\
entrypoint: train:train
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: adaptive_asha, metric: loss, max_length: {{epochs: 27}}, max_trials: 12, divisor: 3}}
min_checkpoint_period: {{epochs: 3}}
checkpoint_storage: {place}
reproducibility: {{experiment_seed: {seed}}}
"""
TROUBLES = ("403", "500", "503", "404", "silence")
_PAUSED = 1
_MOST_RESUMES = 20


@contextmanager
def outages(server: S3, luck: Random, steps: list[str]) -> Iterator[None]:
    """Let the server fail now and then while the context is open."""
    over = threading.Event()

    def fail() -> None:
        while not over.wait(luck.uniform(0.5, 4)):
            how = luck.choice(TROUBLES)
            # A storage that is away for a minute pauses the experiment.
            seconds = luck.choice((0.5, 3, 10, 70))
            steps.append(f"{how} for {seconds:g} s")
            server.spoil = lambda *_, how=how: how
            over.wait(seconds)
            server.spoil = lambda *_: False

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        server.spoil = lambda *_: False


def torture(ordeal: Ordeal, server: S3) -> None:
    """Run one experiment while its storage fails, and note what is wrong."""
    luck = ordeal.luck
    (ordeal.directory / "e.yaml").write_text(FILE.format(place=server.new_place(), seed=luck.randrange(1000)))
    with outages(server, luck, ordeal.steps):
        with ordeal.driver("run", "e.yaml"):
            ordeal.await_entries(luck.randint(10, 60))
        for _ in range(3):
            resumed = ordeal.ashwood("resume", "1", "--workers", "2")
            if resumed.returncode not in (0, _PAUSED):
                ordeal.complaints.append(f"resume ended with {resumed.returncode}: {resumed.stderr[-500:]}")
    for _ in range(_MOST_RESUMES):
        resumed = ordeal.ashwood("resume", "1", "--workers", "2")
        if resumed.returncode == 0 or "nothing left to run" in resumed.stderr:
            break
    ordeal.complaints += judge(ordeal.database.home)
    verified = ordeal.ashwood("verify", "1")
    if verified.returncode:
        ordeal.complaints.append(f"verify: {verified.stdout}")


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.outages", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="how many experiments (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first of them (default: 0)")
    options = parser.parse_args()
    wrong = 0
    with serve_s3() as server:
        for seed in range(options.seed, options.seed + options.count):
            with tempfile.TemporaryDirectory(prefix="ashwood-outages-") as temporary:
                ordeal = Ordeal(sqlite_database(Path(temporary)), Path(temporary), Random(seed))
                ordeal.write_code()
                torture(ordeal, server)
                wrong += len(ordeal.complaints)
                print(f"seed {seed}: {', '.join(ordeal.steps)}: {ordeal.complaints or 'as it must be'}", flush=True)
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
