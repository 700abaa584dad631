"""Routes for the notes on experiments and trials."""

from __future__ import annotations

from dataclasses import dataclass

from anyio.to_thread import run_sync
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ashwood.dashboard.context import Context, Dashboard, ExperimentNumber, Json, TrialNumber, responses_of
from ashwood.dashboard.trial_answers import find_trial
from ashwood.eventlog.port import ExperimentId
from ashwood.eventlog.rows import MOST_NOTE_BYTES, note_digest
from ashwood.figures.markdown import NoteNode, parse_note
from ashwood.search.vocabulary import TrialId

router = APIRouter(default_response_class=Json)


@dataclass(frozen=True)
class NoteAnswer:
    """A note: its Markdown text, empty if there is none, and ``content``, its elements and texts to show.

    ``version`` is that in the ``notes`` of the experiment.
    """

    text: str
    version: str
    content: list[NoteNode]


class NoteText(BaseModel):
    """The text of a note."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(max_length=MOST_NOTE_BYTES, description="Markdown; an empty text removes the note.")


_READ = responses_of(NoteAnswer, 404)
_WRITTEN = responses_of(NoteAnswer, 400, 403, 404, 409)


@router.get("/experiments/{experiment}/note", responses=_READ)
async def note(context: Context, experiment: ExperimentNumber) -> Json:
    """Return the note on an experiment."""
    return await _answer(context, experiment, None)


@router.put("/experiments/{experiment}/note", responses=_WRITTEN)
async def write_note(context: Context, experiment: ExperimentNumber, note: NoteText) -> Json:
    """Replace the note on an experiment."""
    await run_sync(context.require_steering().write_note, experiment, None, note.text)
    return await _answer(context, experiment, None)


@router.get("/experiments/{experiment}/trials/{trial}/note", responses=_READ)
async def trial_note(context: Context, experiment: ExperimentNumber, trial: TrialNumber) -> Json:
    """Return the note on a trial."""
    await context.store.ask(experiment, lambda cached: find_trial(cached, trial))
    return await _answer(context, experiment, trial)


@router.put("/experiments/{experiment}/trials/{trial}/note", responses=_WRITTEN)
async def write_trial_note(context: Context, experiment: ExperimentNumber, trial: TrialNumber, note: NoteText) -> Json:
    """Replace the note on a trial."""
    await run_sync(context.require_steering().write_note, experiment, trial, note.text)
    return await _answer(context, experiment, trial)


async def _answer(context: Dashboard, experiment: ExperimentId, trial: TrialId | None) -> Json:
    text = await context.store.do(lambda cache: cache.home.store.notes(experiment).get(trial, ""))
    version = str(note_digest(trial, text)) if text else ""
    # A long text takes seconds, in which other requests are answered.
    return Json(NoteAnswer(text, version, await run_sync(parse_note, text)))
