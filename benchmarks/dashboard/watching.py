"""Who has pages open: how soon they are told, and what that costs the search."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks import ours
from benchmarks.dashboard.made import EXPERIMENT
from benchmarks.dashboard.served import Client, Served, dashboard
from benchmarks.ours import python_path
from benchmarks.workload import Workload

PAGES = 10
_FIGURES = ("ladder", "best_so_far")
_FIGURE_SECONDS = 2.0
"""As often pages ask for a figure that may have changed."""
_SETTLED = 3.0


# -- how soon ----------------------------------------------------------------------------------


def lags(served: Served, commits: Path, seconds: float) -> list[float]:
    """Seconds from each commit of a driver until a client was told of it."""
    heard: list[tuple[int, float]] = []
    since = served.get(f"/api/v1/experiments/{EXPERIMENT}")["seq"]
    client = Client(served.port)

    def listen() -> None:
        with suppress(OSError, ValueError, AttributeError):  # as it is closed
            for at, told in client.events(f"/api/v1/experiments/{EXPERIMENT}/live?since={since}"):
                heard.append((told["seq"], at))

    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(seconds)
    client.close()
    listener.join()
    made = [(int(seq), float(at)) for seq, at in map(str.split, commits.read_text().splitlines()[:-1])]
    first, places = heard[0][1], [seq for seq, _ in heard]
    known = [(at, bisect_left(places, seq)) for seq, at in made if at > first]
    return [heard[index][1] - at for at, index in known if index < len(heard)]


# -- what it costs -----------------------------------------------------------------------------


def steps_per_second(workload: Workload, seconds: float, *, pages: int, in_browser: bool = False) -> float:
    """Training steps a second of a search that so many pages look at; 0: no dashboard runs.

    Counted for some time after all pages are open; the search is larger than what is done until then.
    """
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        directory, log = Path(place), Path(place, "steps")
        process = ours.start("promotion", workload, directory, log)
        stack.callback(_end, process)
        while not log.exists() and process.poll() is None:
            time.sleep(0.01)
        if pages:
            served = stack.enter_context(dashboard(directory / "home"))
            stack.enter_context(_looked_at(served, pages, in_browser=in_browser))
        time.sleep(_SETTLED)
        began, before = time.monotonic(), _lines(log)
        time.sleep(seconds)
        steps, took = _lines(log) - before, time.monotonic() - began
        if process.poll() is not None:
            raise RuntimeError(f"the search ended too early:\n{(directory / 'output').read_text()[-2000:]}")
    return steps / took


def _end(process: subprocess.Popen[bytes]) -> None:
    """As by Ctrl-C: the search pauses."""
    process.send_signal(signal.SIGINT)
    process.wait()


def _lines(log: Path) -> int:
    with log.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


@contextmanager
def _looked_at(served: Served, pages: int, *, in_browser: bool) -> Iterator[None]:
    """Pages of a process of their own, so that they can be told from what measures."""
    kind = "tabs" if in_browser else "clients"
    arguments = [kind, str(served.port), str(pages)]
    crowd = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.dashboard.watching", *arguments],
        env={"PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        if crowd.stdout is not None:
            crowd.stdout.readline()
        yield
    finally:
        crowd.communicate()


def _look_as_clients(port: int, pages: int) -> None:
    """Do what pages do: read the experiment, follow its events, ask for their figures again as these may change."""
    over = threading.Event()
    streams = [Client(port) for _ in range(pages)]
    threads = [
        *(threading.Thread(target=_follow, args=(client,)) for client in streams),
        *(threading.Thread(target=_redraw, args=(port, number / pages, over)) for number in range(pages)),
    ]
    for thread in threads:
        thread.start()
    print("open", flush=True)
    sys.stdin.read()
    over.set()
    for client in streams:
        client.close()
    for thread in threads:
        thread.join()


def _follow(client: Client) -> None:
    with suppress(OSError, ValueError, AttributeError):  # as it is closed
        for _ in client.events("/api/v1/experiments/1/live"):
            pass


def _redraw(port: int, share: float, over: threading.Event) -> None:
    over.wait(share * _FIGURE_SECONDS)
    with Client(port) as client, suppress(OSError):
        client.get("/api/v1/experiments/1")
        for name in itertools.cycle(_FIGURES):
            client.get(f"/api/v1/experiments/1/figures/{name}")
            if over.wait(_FIGURE_SECONDS / len(_FIGURES)):
                return


def _look_in_browser(port: int, pages: int) -> None:
    from benchmarks.dashboard.pages import browser

    with browser() as opened:
        for _ in range(pages):
            tab = opened.new_context(viewport={"width": 1440, "height": 900}).new_page()
            tab.goto(f"http://127.0.0.1:{port}/experiments/1", wait_until="commit")
        print("open", flush=True)
        # Playwright has to be called for its browser to go on: what it hears it keeps.
        closed = threading.Event()

        def wait() -> None:
            sys.stdin.read()
            closed.set()

        threading.Thread(target=wait, daemon=True).start()
        while not closed.is_set():
            tab.wait_for_timeout(200)


def main(arguments: Sequence[str]) -> None:
    """Look, until stdin is closed."""
    look = _look_in_browser if arguments[0] == "tabs" else _look_as_clients
    look(int(arguments[1]), int(arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
