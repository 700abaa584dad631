"""``python -m tests.torture``: kill and compare, as long as you like."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path

from tests.torture.rack import Case, Rack, point_case, point_cases, random_case, random_cases


@contextmanager
def stores(kind: str) -> Iterator[Callable[[Path], str | None]]:
    """What gives each experiment a home: in its directory, or a database of a PostgreSQL server of our own."""
    if kind == "sqlite":
        yield lambda _: None
        return
    import psycopg

    from tests.postgres import postgres_server

    with postgres_server() as server:
        numbers = count(1)

        def home(_: Path) -> str:
            database = f"torture_{next(numbers)}"
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {database}".encode())
            return server.url(database)

        yield home


def main() -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Kill drivers and workers of real experiments at random instants, resume, compare with undisturbed "
        "runs of the same seeds.",
    )
    parser.add_argument("--kills", type=int, default=1000, help="go on until there were so many (default: 1000)")
    parser.add_argument("--minutes", type=float, default=60, help="but no longer than this (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first experiment (default: 0)")
    parser.add_argument(
        "--points", action="store_true", help="instead: once at every crash point of a small experiment"
    )
    parser.add_argument("--again", metavar="CASE", nargs="+", help="instead: these, which failed before")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help="where the record is")
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what was found")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ashwood-torture-"))
    began = time.monotonic()
    with stores(options.store) as home:
        rack = Rack(directory, home=home)
        return run(rack, options, directory, began)


def run(rack: Rack, options: argparse.Namespace, directory: Path, began: float) -> int:
    """Torture what was asked for, and say what was found; returns the exit code."""

    def cases() -> Iterator[Case]:
        if options.again:
            yield from (point_case(name) if ":" in name else random_case(int(name)) for name in options.again)
            return
        for case in point_cases(directory) if options.points else random_cases(options.seed):
            enough = not options.points and rack.totals.kills >= options.kills
            if enough or time.monotonic() - began > options.minutes * 60:
                return
            yield case

    rack.work_off(cases(), jobs=options.jobs, tell=lambda line: print(line, flush=True))
    print(f"{rack.totals}\n{(time.monotonic() - began) / 60:.1f} minutes")
    if options.json:
        options.json.write_text(json.dumps(asdict(rack.totals), indent=1) + "\n")
    if not rack.totals.failures:
        shutil.rmtree(directory)
    return bool(rack.totals.failures)


if __name__ == "__main__":
    sys.exit(main())
