"""What the store reads before anybody asks, and what it leaves alone."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from ashwood.dashboard.answers import experiment_page
from ashwood.dashboard.experiment_cache import ExperimentCache
from ashwood.dashboard.store_thread import StoreThread
from ashwood.eventlog.home import open_home

from .homes import add, ran

T = TypeVar("T")


def test_running_and_latest_experiments_are_read_after_the_first_request(
    tmp_path: Path,
) -> None:
    with open_home(tmp_path, create=True) as home:
        workers = ran(20)
        ids = [add(home, workers) for _ in range(3)]
        home.store.annotate(ids[2], archived=True)

    async def scene() -> tuple[dict[int, int], int]:
        store = StoreThread(lambda: open_home(tmp_path))
        await store.do(lambda cache: cache.list_experiments())
        await store.read_ahead()
        read = await store.do(lambda cache: {each: cache._experiments[each].seq for each in cache._experiments})
        last = await store.do(lambda cache: cache.home.store.log(ids[1]).last())
        await store.close()
        return read, last

    read, last = asyncio.run(scene())
    assert read == {ids[1]: last}, "only the latest experiment that is not archived, to its end"


def test_unused_store_thread_opens_no_home() -> None:
    def fail() -> NoReturn:
        raise AssertionError("the home was opened")

    asyncio.run(StoreThread(fail).close())


def test_read_ahead_ignores_a_missing_home(tmp_path: Path) -> None:
    async def scene() -> None:
        store = StoreThread(lambda: open_home(tmp_path / "nowhere"))
        store._first_request_done.set()
        await store.read_ahead()
        await store.close()

    asyncio.run(scene())


def test_catch_up_waits_for_a_figure_that_is_drawn(tmp_path: Path) -> None:
    workers = ran(20)
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, workers, until=100)

        async def scene() -> int:
            store = StoreThread(lambda: open_home(tmp_path))
            cached = await store.do(lambda cache: cache.get(experiment))
            assert await store.ask(experiment, lambda cached: cached.seq) == 100
            with cached.lock:  # as `draw` holds it
                home.store.log(experiment).append(workers.entries[100:])
                assert await store.ask(experiment, lambda cached: cached.seq) == 100
                catching_up = asyncio.create_task(store.catch_up(experiment))
                await asyncio.wait({catching_up}, timeout=0.05)
                assert not catching_up.done()
            await catching_up
            seq = cached.seq
            await store.close()
            return seq

        assert asyncio.run(scene()) == len(workers.entries)


def test_answer_takes_one_task_if_the_log_is_read(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, ran(20))

    class Counting(StoreThread):
        done = 0

        async def do(self, work: Callable[[ExperimentCache], T]) -> T:
            self.done += 1
            return await super().do(work)

    async def scene() -> tuple[int, str, bool]:
        store = Counting(lambda: open_home(tmp_path))
        await store.ask(experiment, lambda cached: cached.seq)
        before = store.done
        page = await store.ask(experiment, experiment_page)
        done = store.done - before
        await store.close()
        return done, page.state, page.best_trial is not None

    assert asyncio.run(scene()) == (1, "completed", True)
