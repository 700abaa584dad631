"""Determined's Core API in two processes of one trial, which are threads here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ashwood.integrations import determined as det
from ashwood.integrations.determined.core import _distributed, _preempt

Work = Callable[[int, det.core.DistributedContext], Any]


@pytest.fixture
def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Work], list[Any]]]:
    """Return a function that calls another one as rank 0 and as rank 1, and returns both results or errors."""
    monkeypatch.setattr(_distributed, "address", lambda _: str(tmp_path / "hub"))

    def call(work: Work, rank: int) -> Any:
        context = det.core.DistributedContext(
            rank=rank, size=2, local_rank=rank, local_size=2, cross_rank=0, cross_size=1
        )
        with closing(context):
            try:
                return work(rank, context)
            except Exception as error:  # noqa: BLE001 - returned to the test
                return error

    with ThreadPoolExecutor(2) as pool:
        yield lambda work: list(pool.map(call, [work, work], [0, 1], timeout=60))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return tmp_path / "stored"


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".ashwood"))
    return {path.relative_to(directory).as_posix(): path.read_text() for path in files if path.name != "metadata.json"}


def upload(
    stored: Path,
    together: Callable[[Work], list[Any]],
    files: list[dict[str, str] | None],
    metadata: list[dict[str, Any]],
    selectors: list[Callable[[str], bool] | None] | None = None,
) -> list[Any]:
    """Upload a directory of each rank as one checkpoint."""

    def work(rank: int, context: det.core.DistributedContext) -> str:
        directory, own = None, files[rank]
        if own is not None:
            directory = stored.parent / f"rank-{rank}"
            for name, text in own.items():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                (directory / name).write_text(text)
        checkpoint = det.core.DummyCheckpointContext(context, stored)
        selector = None if selectors is None else selectors[rank]
        return checkpoint.upload(directory, metadata[rank], shard=True, selector=selector)

    return together(work)


def test_shards_of_all_ranks_are_one_checkpoint(stored: Path, together: Any) -> None:
    files: list[dict[str, str] | None] = [{"a": "0", "sub/x": "0"}, {"b": "1", "sub/y": "1"}]
    metadata = [{"steps_completed": 3, "by": {"zero": 0}}, {"steps_completed": 3, "by": {"one": 1}}]
    first, second = upload(stored, together, files, metadata)
    assert first == second
    assert contents(stored / first) == {"a": "0", "b": "1", "sub/x": "0", "sub/y": "1"}
    assert json.loads((stored / first / "metadata.json").read_text()) == {
        "steps_completed": 3,
        "by": {"zero": 0, "one": 1},
    }


def test_equal_files_of_two_ranks_are_stored_once(stored: Path, together: Any) -> None:
    files: list[dict[str, str] | None] = [{"config": "same", "a": "0"}, {"config": "same", "b": "1"}]
    first, _ = upload(stored, together, files, [{"steps_completed": 1}, {}])
    assert contents(stored / first) == {"config": "same", "a": "0", "b": "1"}


def test_different_files_with_one_name_are_refused_by_all_ranks(stored: Path, together: Any) -> None:
    files: list[dict[str, str] | None] = [{"model": "0"}, {"model": "1"}]
    for error in upload(stored, together, files, [{"steps_completed": 1}] * 2):
        assert isinstance(error, RuntimeError)
        assert str(error) == "refusing to upload with files conflicts: model is uploaded by ranks 0 and 1"
    assert not list(stored.iterdir())


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ([{"steps_completed": 1, "a": {"b": 1}}, {"a": {"b": 2}}], "metadata conflicts: a/b"),
        ([{}, {"x": 1}], "requires a 'steps_completed' item"),
    ],
)
def test_wrong_metadata_are_refused_by_all_ranks(
    stored: Path, together: Any, metadata: list[dict[str, Any]], expected: str
) -> None:
    for error in upload(stored, together, [{"a": "0"}, {"b": "1"}], metadata):
        assert isinstance(error, RuntimeError | ValueError)
        assert expected in str(error)
    assert not list(stored.iterdir())


def test_rank_without_files_takes_part(stored: Path, together: Any) -> None:
    first, second = upload(stored, together, [None, {"b": "1"}], [{"steps_completed": 1}, {}])
    assert first == second
    assert contents(stored / first) == {"b": "1"}
    for error in upload(stored, together, [None, None], [{"steps_completed": 1}] * 2):
        assert "at least one rank must have a valid ckpt_dir" in str(error)


def test_selector_of_each_rank_chooses_its_files(stored: Path, together: Any) -> None:
    files: list[dict[str, str] | None] = [{"a": "0", "c": "0"}, {"a": "1", "c": "1"}]
    selectors: list[Callable[[str], bool] | None] = [lambda path: path == "a", lambda path: path == "c"]
    first, _ = upload(stored, together, files, [{"steps_completed": 1}] * 2, selectors)
    assert contents(stored / first) == {"a": "0", "c": "1"}


def test_ranks_share_the_directory_of_store_path_and_restore_path(stored: Path, together: Any) -> None:
    def work(rank: int, context: det.core.DistributedContext) -> Any:
        checkpoint = det.core.DummyCheckpointContext(context, stored)
        with checkpoint.store_path({"steps_completed": 2, f"rank-{rank}": rank}, shard=True) as (path, storage_id):
            (path / f"shard-{rank}").write_text(str(rank))
        with checkpoint.restore_path(storage_id) as path:
            found = contents(path)
        with checkpoint.restore_path(storage_id, selector=lambda path: path == "shard-1") as path:
            chosen = contents(path)
        checkpoint.download(storage_id, stored.parent / "copy")
        return found, chosen, checkpoint.get_metadata(storage_id)

    for found, chosen, metadata in together(work):
        assert found == {"shard-0": "0", "shard-1": "1"}
        assert chosen == {"shard-1": "1"}
        assert metadata == {"steps_completed": 2, "rank-0": 0, "rank-1": 1}
    assert contents(stored.parent / "copy") == {"shard-0": "0", "shard-1": "1"}


def test_only_rank_0_stores_a_checkpoint_that_is_not_sharded(stored: Path, together: Any) -> None:
    def work(rank: int, context: det.core.DistributedContext) -> None:
        checkpoint = det.core.DummyCheckpointContext(context, stored)
        if rank:
            checkpoint.upload(stored, {"steps_completed": 1})

    assert [str(error) for error in together(work)] == [
        "None",
        "cannot call CheckpointContext.upload(shard=False) from non-chief worker (rank=1)",
    ]


def test_objects_are_exchanged(together: Any) -> None:
    def work(rank: int, context: det.core.DistributedContext) -> Any:
        return [
            *(context.gather(rank), context.allgather({"rank": rank}), context.broadcast(f"from {rank}")),
            *(context.gather_local(rank), context.allgather_local(rank), context.broadcast_local(rank)),
            *(context.get_rank(), context.get_local_rank(), context.get_size(), context.get_num_agents()),
        ]

    zero, one = together(work)
    shared = [[{"rank": 0}, {"rank": 1}], "from 0"]
    assert zero == [[0, 1], *shared, [0, 1], [0, 1], 0, 0, 0, 2, 1]
    assert one == [None, *shared, None, [0, 1], 0, 1, 1, 2, 1]


def test_operations_in_the_mode_of_the_chief_only(together: Any) -> None:
    def work(rank: int, context: det.core.DistributedContext) -> Any:
        searcher = det.core.DummySearcherContext(context)
        mode = det.core.SearcherMode.ChiefOnly
        if rank:
            return list(searcher.operations(searcher_mode=mode))
        lengths = []
        for op in searcher.operations(mode):
            lengths.append(op.length)
            op.report_completed(1.0)
        return lengths

    first, second = together(work)
    assert first == [1]
    assert "cannot call searcher.operations(searcher_mode=ChiefOnly) from a non-chief worker" in str(second)


def test_other_ranks_follow_operations_and_must_not_report(together: Any) -> None:
    def work(rank: int, context: det.core.DistributedContext) -> Any:
        lengths = []
        for op in det.core.DummySearcherContext(context).operations():
            lengths.append(op.length)
            if rank:
                with pytest.raises(RuntimeError, match="from the chief worker"):
                    op.report_completed(1.0)
                with pytest.raises(RuntimeError, match="from the chief worker"):
                    op.report_progress(1)
            else:
                op.report_completed(1.0)
        return lengths

    assert together(work) == [[1], [1]]


class _Recorder:
    """Asks the trial to end."""

    def should_preempt(self) -> bool:
        return True


@pytest.mark.parametrize("mode", det.core.PreemptMode)
def test_ranks_learn_whether_to_end_in_each_mode(
    tmp_path: Path, together: Any, monkeypatch: pytest.MonkeyPatch, mode: det.core.PreemptMode
) -> None:
    monkeypatch.setattr(_preempt, "address", lambda _: str(tmp_path / "mark"))
    modes = det.core.PreemptMode

    def work(rank: int, context: det.core.DistributedContext) -> None:
        recorder: Any = None if rank else _Recorder()
        with det.core.PreemptContext(recorder, context, mode) as preempt:
            if mode is modes.WorkersAskMaster and rank:
                context.broadcast(None)  # Rank 0 has asked before.
            if mode is modes.ChiefOnly and rank:
                with pytest.raises(RuntimeError, match=r"ChiefOnly but \.should_preempt"):
                    preempt.should_preempt()
            else:
                assert preempt.should_preempt()
            if mode is modes.WorkersAskMaster and not rank:
                context.broadcast(None)
            context.allgather(None)
            preempt.acknowledge_preemption_signal()

    assert together(work) == [None, None]
