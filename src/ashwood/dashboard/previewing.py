"""Previews of searches in separate, limited processes, so that no input can block the dashboard.

`preview` starts a process for one question and waits for its answer; `main` is what that process runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import CancelScope

if TYPE_CHECKING:
    from ashwood.experiment.spec import ExperimentSpec
    from ashwood.forecast.plan import Budget

SECONDS = 60
"""Seconds that a preview may take, also of processor time."""
MEMORY = 1 << 30
"""Bytes of address space that a preview may take."""

_MOST_TRIALS = 20_000
"""Largest search that is simulated; more trials take longer than a user waits for a page."""
_NICENESS = 5
_OUT_OF_MEMORY = 3
_COMMAND = (sys.executable, "-P", "-m", "ashwood.dashboard.previewing")
_ELSEWHERE = "ashwood preview FILE has no such limit"


@dataclass(frozen=True)
class FileProblem:
    """A problem in an experiment file, with its line and key."""

    line: int | None
    key: str
    message: str


@dataclass(frozen=True)
class FittingSearch:
    """A search that fits a deadline: its number of trials, its forecast, and the experiment file with its settings."""

    name: str
    trials: int
    seconds: dict[str, float]
    worker_hours: dict[str, float]
    text: str


@dataclass(frozen=True, kw_only=True)
class PreviewAnswer:
    """The preview of an experiment file: its plan, or its problems, or why it is too large to be simulated.

    ``fitting`` are searches that fit the deadline, the proposed one first, and ``too_tight`` says why there are none.
    """

    ok: bool
    problems: list[FileProblem] = field(default_factory=list)
    warnings: Sequence[str] = ()
    name: str = ""
    metric: str = ""
    smaller_is_better: bool = True
    unit: str = ""
    plan: dict[str, Any] | None = None
    too_large: str | None = None
    fitting: list[FittingSearch] = field(default_factory=list)
    too_tight: str | None = None


async def preview(question: Mapping[str, Any]) -> bytes | None:
    """Return the answer as JSON, or None if there is none within the limits.

    The process ends with this call, also if the call is canceled.
    """
    process = await asyncio.create_subprocess_exec(
        *_COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS):
            answer, _ = await process.communicate(json.dumps(question).encode())
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            # The process was killed, so this wait is short. Without it, the process would stay as a zombie.
            with CancelScope(shield=True):
                await process.wait()
    return answer if process.returncode == 0 else None


def out_of_limits() -> PreviewAnswer:
    """Return the answer for a file whose preview takes too long or too much memory."""
    limits = f"{SECONDS} s (less while many other previews run) and {MEMORY >> 20} MiB"
    message = f"a preview on a page may take {limits}, and this file needs more; {_ELSEWHERE}"
    return PreviewAnswer(ok=False, problems=[FileProblem(None, "", message)])


def main() -> None:
    """Read one request from standard input, and write the answer to standard output."""
    _limit()
    question = json.loads(sys.stdin.buffer.read())
    try:
        from ashwood.dashboard.encoding import encode

        answer = encode(answer_of(**question))
    except (MemoryError, RecursionError):
        os._exit(_OUT_OF_MEMORY)
    sys.stdout.buffer.write(answer)


def _limit() -> None:
    os.nice(_NICENESS)
    # The dashboard ends this process in time, unless the dashboard itself has ended.
    signal.alarm(2 * SECONDS)
    for kind, most in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # macOS cannot limit the address space.
            resource.setrlimit(kind, (most, most))


def answer_of(
    text: str,
    workers: int | None = None,
    unit_seconds: float | None = None,
    cost_per_worker_hour: float | None = None,
    checkpoint_bytes: float | None = None,
    deadline_hours: float | None = None,
    is_simulated: bool = True,
) -> PreviewAnswer:
    """Return the plan of an experiment file, or its problems with their line numbers.

    With a deadline, the answer has the searches that fit it instead of the plan.  If it is not simulated, the answer
    has no plan.
    """
    from ashwood.config import parse_experiment
    from ashwood.errors import ConfigError
    from ashwood.forecast.conditions import Conditions
    from ashwood.forecast.plan import Budget
    from ashwood.forecast.preview import preview as simulate
    from ashwood.forecast.searches import Prices, forecast_storage
    from ashwood.views.plain import plain

    try:
        loaded = parse_experiment(text, workdir=Path("/"))
    except ConfigError as error:
        problems = [FileProblem(each.line, each.key, each.message) for each in error.problems]
        return PreviewAnswer(ok=False, problems=problems)
    spec, search = loaded.spec, loaded.spec.search
    answer = PreviewAnswer(
        ok=True,
        warnings=loaded.warnings,
        name=spec.name,
        metric=spec.metric,
        smaller_is_better=spec.smaller_is_better,
        unit=spec.unit,
    )
    if not is_simulated:
        return answer
    if search.max_trials > _MOST_TRIALS:
        what = f"{search.max_trials:,} trials take too long to simulate on a page"
        return replace(answer, too_large=f"{what}: ashwood preview FILE does it in a terminal")
    if deadline_hours is not None:
        return _fit(answer, spec, text, Budget(seconds=deadline_hours * 3_600), (workers, unit_seconds))
    prices = Prices(
        worker_hour=cost_per_worker_hour,
        checkpoint_bytes=checkpoint_bytes,
        policy=spec.checkpoint_policy,
        max_size=spec.max_size,
    )
    kept = None
    if unit_seconds is None or workers is None:
        conditions = Conditions(workers=workers)
        shown = simulate(search, conditions=conditions)
    else:
        conditions = Conditions(workers=workers, unit_seconds=unit_seconds)
        shown = simulate(search, conditions=conditions, prices=prices)
        kept = None if shown.forecast is None else shown.forecast.checkpoints
    if not search.open_ended and (spec.max_size is not None or checkpoint_bytes is not None):
        shown = replace(shown, storage=forecast_storage(search, conditions, prices, kept))
    return replace(answer, plan=plain(shown.to_json()))


def _fit(
    answer: PreviewAnswer, spec: ExperimentSpec, text: str, budget: Budget, known: tuple[int | None, float | None]
) -> PreviewAnswer:
    """Return the answer with the searches that fit a budget, from known numbers of workers and seconds per unit."""
    from ashwood.config import replace_searcher, searcher_of, with_search
    from ashwood.forecast.conditions import Conditions
    from ashwood.forecast.plan import TooTight, make_plan
    from ashwood.forecast.searches import Prices
    from ashwood.search.settings import Method
    from ashwood.views.plain import plain
    from ashwood.views.wording import format_duration, format_length

    workers, unit_seconds = known
    if workers is None or unit_seconds is None:
        return replace(answer, too_tight="Enter workers and seconds per unit: without them, the time is unknown.")
    if spec.search.method in (Method.GRID, Method.SINGLE):
        return replace(answer, too_tight=f"A {spec.search.method} search has a fixed number of trials.")
    if spec.search.open_ended:
        return replace(answer, too_tight="Add max_length to the searcher: without it, no trial is stopped early.")
    try:
        conditions = Conditions(workers=workers, unit_seconds=unit_seconds)
        plan = make_plan(spec.search, conditions, budget, Prices(policy=spec.checkpoint_policy))
    except TooTight as error:
        length = format_length(spec.search.max_length, spec.unit)
        most = f" About {format_length(error.most_length, spec.unit)} would fit." if error.most_length else ""
        why = f"A single trial of {length} takes up to {format_duration(error.seconds)}, so no search fits.{most}"
        return replace(answer, too_tight=why)
    return replace(
        answer,
        fitting=[
            FittingSearch(
                str(each.settings.mode) if each.settings.method is Method.ADAPTIVE_ASHA else str(each.settings.method),
                each.trials,
                plain(each.seconds),
                plain(each.worker_hours),
                replace_searcher(text, with_search(searcher_of(text), each.settings, None)),
            )
            for each in (plan.proposal, *plan.alternatives)
        ],
    )


if __name__ == "__main__":
    main()
