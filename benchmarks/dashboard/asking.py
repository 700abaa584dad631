"""How long answers take: every endpoint, asked by several clients at once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from statistics import quantiles
from typing import NamedTuple

from benchmarks.dashboard.served import Client

CLIENTS = 4


class Latency(NamedTuple):
    """What answers took, in milliseconds.

    Attributes:
        number: how many there were.
        median: half of them took less.
        p95: 95 of 100 took less.
        most: the longest.
    """

    number: int
    median: float
    p95: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Sum up."""
        cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
        return cls(len(seconds), 1000 * cuts[49], 1000 * cuts[94], 1000 * max(seconds))


def endpoints(experiment: int, trial: int, figures: Sequence[str]) -> dict[str, str]:
    """Paths of the API by the names that tables give them."""
    at = f"/api/v1/experiments/{experiment}"
    return {
        "list of experiments": "/api/v1/experiments",
        "experiment": at,
        "spark": f"{at}/spark",
        "trials, the best 100": f"{at}/trials",
        "trials, sorted by a hyperparameter, page 50": f"{at}/trials?sort=lr&offset=4900",
        "trials, filtered by words and a condition": f"{at}/trials?q=adam&where=state%3Dcompleted",
        "trial": f"{at}/trials/{trial}",
        "trial, curves": f"{at}/trials/{trial}/metrics",
        "trial, events": f"{at}/events?trial={trial}",
        "trial, log": f"{at}/trials/{trial}/log",
        "events": f"{at}/events",
        "list of figures": f"{at}/figures",
        **{f"figure {name}": f"{at}/figures/{name}" for name in figures},
        "figure compare": f"/api/v1/figures/compare?ids={experiment}",
    }


def once(port: int, paths: Mapping[str, str], limit: float = 600.0) -> dict[str, float]:
    """Ask for each once, one after the other: milliseconds; infinite: there was no answer in so many seconds."""
    took = {}
    for name, path in paths.items():
        with Client(port, limit) as client:
            began = time.perf_counter()
            try:
                client.get(path)
            except TimeoutError:
                took[name] = inf
            else:
                took[name] = 1000 * (time.perf_counter() - began)
    return took


def sizes(port: int, paths: Mapping[str, str]) -> dict[str, int]:
    """Bytes of each answer."""
    with Client(port) as client:
        return {name: len(client.get(path)) for name, path in paths.items()}


def measure(port: int, paths: Mapping[str, str], seconds: float, *, clients: int = CLIENTS) -> dict[str, Latency]:
    """Ask for all of them in random order, by several clients at once, for some time."""
    took: dict[str, list[float]] = {name: [] for name in paths}
    until = time.perf_counter() + seconds

    def ask(number: int) -> None:
        shuffled = list(paths.items())
        random.Random(number).shuffle(shuffled)
        with Client(port) as client:
            for name, path in itertools.cycle(shuffled):
                began = time.perf_counter()
                if began > until:
                    return
                client.get(path)
                took[name].append(time.perf_counter() - began)

    at_once([lambda number=number: ask(number) for number in range(clients)])  # type: ignore[misc]
    return {name: Latency.of(each) for name, each in took.items() if each}


def at_once(works: Sequence[Callable[[], None]]) -> None:
    """Do several things in threads; what one of them raises is raised."""
    errors: list[BaseException] = []

    def kept(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=kept, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
