"""What the desk reads before anybody asks, and what it leaves alone."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from ashwood.dashboard.context import Dashboard
from ashwood.dashboard.desk import Desk
from ashwood.dashboard.library import Library
from ashwood.eventlog.home import open_home

from .homes import add, ran

T = TypeVar("T")


def test_what_will_be_looked_at_is_read_when_somebody_has_looked_at_anything(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        workers = ran(20)
        ids = [add(home, workers) for _ in range(3)]
        home.store.annotate(ids[2], archived=True)

    async def scene() -> tuple[dict[int, int], int]:
        desk = Desk(lambda: open_home(tmp_path))
        await desk.do(lambda library: library.glance())
        await desk.prepare()
        read = await desk.do(lambda library: {each: library._followed[each].seq for each in library._followed})
        last = await desk.do(lambda library: library.home.store.log(ids[1]).last())
        await desk.close()
        return read, last

    read, last = asyncio.run(scene())
    assert read == {ids[1]: last}, "the latest that isn't archived, to its end, and nothing else"


def test_whoever_ends_a_desk_that_did_nothing_opens_nothing() -> None:
    def fail() -> NoReturn:
        raise AssertionError("nobody asked for the home")

    asyncio.run(Desk(fail).close())


def test_a_home_that_is_gone_is_nothing_to_read_ahead(tmp_path: Path) -> None:
    async def scene() -> None:
        desk = Desk(lambda: open_home(tmp_path / "nowhere"))
        desk._looked.set()
        await desk.prepare()
        await desk.close()

    asyncio.run(scene())


def test_what_was_just_recorded_is_read_also_while_a_figure_is_drawn(tmp_path: Path) -> None:
    workers = ran(20)
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, workers, until=100)

        async def scene() -> int:
            desk = Desk(lambda: open_home(tmp_path))
            followed = await desk.do(lambda library: library.follow(experiment))
            assert await desk.ask(experiment, lambda followed: followed.seq) == 100
            with followed.still:  # as `draw` holds it
                home.store.log(experiment).append(workers.entries[100:])
                assert await desk.ask(experiment, lambda followed: followed.seq) == 100
                catching_up = asyncio.create_task(desk.catch_up(experiment))
                await asyncio.wait({catching_up}, timeout=0.05)
                assert not catching_up.done()
            await catching_up
            seq = followed.seq
            await desk.close()
            return seq

        assert asyncio.run(scene()) == len(workers.entries)


def test_what_is_read_already_is_answered_in_one_piece_of_work(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, ran(20))

    class Counting(Desk):
        done = 0

        async def do(self, work: Callable[[Library], T]) -> T:
            self.done += 1
            return await super().do(work)

    async def scene() -> tuple[int, str, bool]:
        desk = Counting(lambda: open_home(tmp_path))
        await desk.ask(experiment, lambda followed: followed.seq)
        before = desk.done
        page = await Dashboard(desk, None, "home").page(experiment)
        done = desk.done - before
        await desk.close()
        return done, page["state"], page["best_trial"] is not None

    assert asyncio.run(scene()) == (1, "completed", True)
