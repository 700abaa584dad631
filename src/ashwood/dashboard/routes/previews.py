"""Route that previews the search of an experiment file without running it."""

from __future__ import annotations

import anyio
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ashwood.dashboard import previewing
from ashwood.dashboard.context import Json, responses_of

router = APIRouter(default_response_class=Json)

LONGEST_TEXT = 256 * 1024
_AT_ONCE = 8
_running: list[anyio.CancelScope] = []
"""Previews that run now, the oldest first. If there are too many, the oldest ends, so that none waits for another."""


class PreviewRequest(BaseModel):
    """An experiment file, and assumptions about its training."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(max_length=LONGEST_TEXT, description="The file's text.")
    workers: int | None = Field(None, ge=1, le=10_000, description="How many trials can train at once.")
    unit_seconds: float | None = Field(
        None, gt=0, le=1e9, description="Average seconds that training for one unit of length takes."
    )
    cost_per_worker_hour: float | None = Field(None, ge=0, le=1e9)
    checkpoint_bytes: float | None = Field(None, gt=0, le=1e15)
    deadline_hours: float | None = Field(
        None, gt=0, le=1e6, description="Return searches that end within this time instead of the plan of the file."
    )


@router.post("/preview", responses=responses_of(previewing.PreviewAnswer))
async def preview_text(question: PreviewRequest, request: Request) -> Response:
    """Return the plan of an experiment file, or its problems with their line numbers."""
    answer: bytes | None = None
    async with anyio.create_task_group() as tasks:
        if len(_running) >= _AT_ONCE:
            _running.pop(0).cancel()
        _running.append(tasks.cancel_scope)
        tasks.start_soon(_cancel_when_gone, request, tasks.cancel_scope)
        try:
            answer = await previewing.preview(question.model_dump())
        finally:
            if tasks.cancel_scope in _running:
                _running.remove(tasks.cancel_scope)
        tasks.cancel_scope.cancel()
    return Json(previewing.out_of_limits()) if answer is None else Response(answer, media_type=Json.media_type)


async def _cancel_when_gone(request: Request, scope: anyio.CancelScope) -> None:
    """Cancel a scope when the client closes the connection, as a page does when its text changes."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
