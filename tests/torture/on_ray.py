"""``python -m tests.torture.on_ray``: something dies every few seconds of a large search on a real cluster."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.clusters import ray_cluster
from tests.torture.clusters import ClusterPlace, connect, left_on, on_cluster
from tests.torture.experiment import Run, torture
from tests.torture.oracle import judge
from tests.torture.scenarios import Scenario
from tests.torture.schedule import Blow, Victim

_VICTIMS = {
    Victim.NODE: 25,
    Victim.ACTOR: 25,
    Victim.WORKER: 20,
    Victim.DRIVER: 12,
    Victim.INTERRUPTED: 3,
    Victim.NOBODY: 15,
}
_LONGEST = 900.0


def blows(seed: int, seconds: float) -> Iterator[Blow]:
    """An endless schedule, so many seconds apart on average."""
    draw = random.Random(seed)
    while True:
        (victim,) = draw.choices(tuple(_VICTIMS), tuple(_VICTIMS.values()))
        yield Blow(victim, 1, draw.uniform(0.2, 2 * seconds), haste=draw.random() < 0.5)


def main() -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.on_ray", description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--every", type=float, default=3.0, metavar="SECONDS", help="between blows, on average")
    parser.add_argument("--seed", type=int, default=0, help="of the schedule")
    parser.add_argument("--shared", action="store_true", help="checkpoints are in a directory that all nodes have")
    options = parser.parse_args()
    search = {"name": "adaptive_asha", "max_trials": options.trials}
    scenario = Scenario("torture on a cluster", search, workers=6, checkpoint_period=2, step_seconds=0.4)
    directory = Path(tempfile.mkdtemp(prefix="ashwood-torture-"))
    for name in ("undisturbed", "tortured"):
        (directory / name).mkdir()
    undisturbed = torture(replace(scenario, step_seconds=0.0, workers=2), directory / "undisturbed", 0, iter(()))
    began = time.monotonic()
    with ray_cluster(2, 2, 2) as nodes, connect(nodes):
        place = ClusterPlace(directory / "tortured", nodes, shared=options.shared)
        place.longest = _LONGEST
        try:
            outcome = Run(scenario, place, 0, blows(options.seed, options.every)).to_the_end()
        finally:
            place.settle()
            place.end_all()
        left = left_on(nodes)
    found = judge(outcome.evidence, undisturbed.evidence, ordered=False)
    complaints = [
        *found.complaints,
        *on_cluster(outcome.evidence, outcome.dealt),
        *(f"left: {actor}" for actor in left),
    ]
    victims = Counter(blow.partition(": ")[2].partition(" after ")[0] for blow in outcome.dealt)
    print(
        f"{(time.monotonic() - began) / 60:.1f} minutes, {options.trials} trials, "
        f"{len(outcome.evidence.acknowledged)} drivers\n"
        f"blows: {', '.join(f'{number} × {victim}' for victim, number in victims.most_common())}\n"
        f"reports acknowledged: {found.reports}, lost: {found.lost}\n"
        f"epochs repeated: {found.repeated}, of them held by a complete checkpoint: {found.beyond}",
        *complaints,
        sep="\n",
    )
    if complaints:
        print(f"in {directory}: {outcome.dealt}")
    else:
        shutil.rmtree(directory)
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
