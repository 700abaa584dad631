"""Routes for the output and the checkpoints of trials.

Requests contain only numbers and names of checkpoints that the event log also contains.  So no text of a request
becomes part of a path.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from anyio import CancelScope
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ashwood.checkpoints import Storage
from ashwood.checkpoints.limited import find_gap, read_piece
from ashwood.checkpoints.links import contents, inner_target, link_text
from ashwood.checkpoints.port import parse_name
from ashwood.checkpoints.regular import open_to_read
from ashwood.dashboard.context import LARGEST, Context, Dashboard, ExperimentNumber, Json, TrialNumber, responses_of
from ashwood.dashboard.experiment_cache import CachedExperiment
from ashwood.dashboard.live import EVENTS, PING, RETRY, message, resume_position, stream
from ashwood.dashboard.trial_answers import OutputPiece, find_trial
from ashwood.errors import NotFound
from ashwood.eventlog.port import ExperimentId
from ashwood.search.vocabulary import TrialId

router = APIRouter(default_response_class=Json)

_PIECE = 1 << 20
_LONGEST_TEXT = 1 << 20
_TICK_SECONDS = 0.3
_PING_TICKS = 50


@router.get("/experiments/{experiment}/trials/{trial}/log", responses=responses_of(OutputPiece, 404))
async def log(
    context: Context,
    experiment: ExperimentNumber,
    trial: TrialNumber,
    tail: Annotated[int, Query(ge=1, le=_LONGEST_TEXT, description="Number of bytes to return from the end.")] = 65_536,
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST, description="Return the output after this byte instead.")
    ] = None,
    until: Annotated[int | None, Query(ge=0, le=LARGEST, description="Only output before this byte.")] = None,
) -> Json:
    """Return the output of all attempts of a trial; ``begin`` and ``end`` are byte positions in the output."""
    path, limit = await _log_of(context, experiment, trial)
    return Json(await run_sync(_read_log, path, limit, after, tail, until))


@router.get(
    "/experiments/{experiment}/trials/{trial}/log/live",
    response_class=StreamingResponse,
    responses=responses_of(None, 404, media=EVENTS),
)
async def live_log(
    context: Context,
    experiment: ExperimentNumber,
    trial: TrialNumber,
    after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Stream new output of a trial as server-sent events ``text``, and ``end`` when the trial has ended."""
    path, limit = await _log_of(context, experiment, trial)
    events = _follow(context, experiment, trial, path, limit, resume_position(last_event_id, after))
    return stream(events)


@router.get(
    "/experiments/{experiment}/trials/{trial}/checkpoints/{name}/download",
    response_class=StreamingResponse,
    responses=responses_of(None, 404, media="application/x-tar"),
)
async def download(context: Context, experiment: ExperimentNumber, trial: TrialNumber, name: str) -> StreamingResponse:
    """Return a verified checkpoint as a tar archive; ``name`` is its name in the trial's list without ``trial-N/``."""
    full = f"trial-{trial}/{name}"

    def storage_of(cached: CachedExperiment) -> Storage:
        if parse_name(full) is None or full not in cached.history.checkpoints.rows:
            raise NotFound(f"trial {trial} of experiment {experiment} has no checkpoint of that name (deleted?)")
        return cached.cache.home.storage(experiment, cached.spec)

    storage = await context.store.ask(experiment, storage_of)
    stack = ExitStack()
    directory = await run_sync(stack.enter_context, storage.fetch(full))
    attached = f'attachment; filename="experiment-{experiment}-{full.replace("/", "-")}.tar"'
    return _Download(directory, stack, headers={"Content-Disposition": attached})


class _Download(StreamingResponse):
    """A directory as a tar archive; the directory is released at the end, even if the client disconnects."""

    def __init__(self, directory: Path, stack: ExitStack, *, headers: Mapping[str, str]) -> None:
        pieces = _tar(directory)
        stack.callback(pieces.close)
        super().__init__(pieces, media_type="application/x-tar", headers=headers)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await run_sync(self._stack.close)


async def _log_of(context: Dashboard, experiment: ExperimentId, trial: TrialId) -> tuple[Path, int | None]:
    """Return the log of a trial, and its limit."""

    def logs(cached: CachedExperiment) -> tuple[Path, int | None]:
        find_trial(cached, trial)
        return cached.cache.home.logs(experiment) / f"trial-{trial}.log", cached.spec.max_log_size

    return await context.store.ask(experiment, logs)


def _read_log(path: Path, limit: int | None, after: int | None, tail: int, until: int | None = None) -> OutputPiece:
    try:
        with open_to_read(path) as file:
            gap = find_gap(file.fileno(), limit)
            size = gap.position(os.fstat(file.fileno()).st_size)
            end = size if until is None else min(until, size)
            begin = max(0, end - tail) if after is None else min(after, end)
            most = min(gap.place(end) - gap.place(begin), _LONGEST_TEXT)
            begin, data, _ = read_piece(file.fileno(), limit, begin, most)
    except FileNotFoundError:
        return OutputPiece()
    except OSError as error:
        raise NotFound(f"cannot read the log: {path.name} {error.strerror}") from None
    # UTF-8 characters are not split: an incomplete one at the end is left to the next piece, and one at the beginning
    # to the piece before.
    place = gap.place(begin)
    if gap.position(place + len(data)) != until:
        data = _whole(data)
    if after is None and begin:
        cut = _rest(data)
        place, data = place + cut, data[cut:]
    text, end = data.decode(errors="replace"), gap.position(place + len(data))
    return OutputPiece(text, gap.position(place), end, size, exists=True)


def _rest(data: bytes) -> int:
    """Return the number of bytes at the beginning that continue a character of the piece before (0 to 3)."""
    return next((place for place, byte in enumerate(data[:3]) if byte & 0b1100_0000 != 0b1000_0000), min(3, len(data)))


def _whole(data: bytes) -> bytes:
    """Return the data without an incomplete UTF-8 character at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue
        length = 1 if byte < 0x80 else 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4
        return data[:-back] if length > back and byte >= 0xC0 else data
    return data


async def _follow(
    context: Dashboard, experiment: ExperimentId, trial: TrialId, path: Path, limit: int | None, known: int
) -> AsyncIterator[bytes]:
    quiet = 0
    yield RETRY
    while not context.store.leaving:
        # Check whether the trial has ended before reading, so that the last piece includes all output until its end.
        ended = await context.store.ask(
            experiment,
            lambda cached: (
                find_trial(cached, trial).state.ended and trial not in cached.history.progress.trials.spending.live
            ),
        )
        piece = await run_sync(_read_log, path, limit, known, 0)
        if piece.end > known or piece.begin < known:
            known, quiet = piece.end, 0
            yield message("text", piece, id=str(known))
        elif ended:
            yield message("end", {"end": known})
            return
        else:
            quiet += 1
            if quiet % _PING_TICKS == 0:
                yield PING
        await asyncio.sleep(_TICK_SECONDS)


def _tar(directory: Path) -> Generator[bytes]:
    """Yield a directory as a tar archive, piece by piece."""
    for path, entry in contents(directory):
        info = tarfile.TarInfo(path)
        if entry.is_symlink() and (target := inner_target(directory, path)) is not None:
            info.type, info.linkname = tarfile.SYMTYPE, link_text(path, target)
        elif entry.is_dir():
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        if info.type != tarfile.REGTYPE:
            yield info.tobuf(tarfile.PAX_FORMAT)
            continue
        with open(entry.path, "rb") as file:  # noqa: PTH123
            info.size = left = os.fstat(file.fileno()).st_size
            yield info.tobuf(tarfile.PAX_FORMAT)
            while left and (piece := file.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
            yield bytes(left + -info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
