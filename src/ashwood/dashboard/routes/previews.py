"""What an experiment file would do, before anything runs."""

from __future__ import annotations

from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ashwood.dashboard.context import Json, telling
from ashwood.dashboard.shapes import Previewed, Wrong
from ashwood.errors import ConfigError

router = APIRouter(default_response_class=Json)

_LONGEST_TEXT = 256 * 1024
_MOST_TRIALS = 20_000
"""Simulating more takes longer than a person waits for a page."""

_one_at_a_time = anyio.Semaphore(1)


class Question(BaseModel):
    """An experiment file, and what is known of how it would train."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(max_length=_LONGEST_TEXT, description="The file's text.")
    workers: int | None = Field(None, ge=1, le=10_000, description="How many trials can train at once.")
    unit_seconds: float | None = Field(
        None, gt=0, le=1e9, description="What one unit of length takes to train, on average."
    )
    cost_per_worker_hour: float | None = Field(None, ge=0, le=1e9)


@router.post("/preview", responses=telling(Previewed))
async def preview_text(question: Question) -> Json:
    """The plan, or everything that is wrong with the file and in which line."""
    async with _one_at_a_time:
        return Json(await run_sync(_preview, question))


def _preview(question: Question) -> Previewed:
    # Imported when somebody asks, so that the first page is there sooner.
    from ashwood.config import parse_experiment
    from ashwood.views.outlook import Prices
    from ashwood.views.plain import plain
    from ashwood.views.preview import preview
    from ashwood.views.simulation import Conditions

    try:
        loaded = parse_experiment(question.text, workdir=Path("/"))
    except ConfigError as error:
        problems = [Wrong(line=each.line, key=each.key, message=each.message) for each in error.problems]
        return {"ok": False, "problems": problems}
    spec, search = loaded.spec, loaded.spec.search
    answer: Previewed = {
        "ok": True,
        "problems": [],
        "warnings": list(loaded.warnings),
        "name": spec.name,
        "metric": spec.metric,
        "smaller_is_better": spec.smaller_is_better,
        "unit": str(spec.unit),
    }
    if search.max_trials > _MOST_TRIALS:
        what = f"{search.max_trials:,} trials take too long to simulate on a page"
        return {**answer, "plan": None, "too_large": f"{what}: ashwood preview-search FILE does it in a terminal"}
    workers = question.workers
    if question.unit_seconds is None or workers is None:
        shown = preview(search, conditions=Conditions(workers=workers))
    else:
        conditions = Conditions(workers=workers, unit_seconds=question.unit_seconds)
        prices = Prices(worker_hour=question.cost_per_worker_hour, policy=spec.checkpoint_policy)
        shown = preview(search, conditions=conditions, prices=prices)
    return {**answer, "plan": plain(shown.to_json())}
