"""The text and the tables of a report, around its figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import yaml

from ashwood.experiment.events import HparamsInvalid
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import EntrypointKind, ExperimentSpec
from ashwood.figures.markdown import note_markup
from ashwood.figures.markup import Child, Markup, h
from ashwood.forecast.budget import Spent, budget
from ashwood.forecast.time_left import Forecaster
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.vocabulary import TrialId
from ashwood.views.failures import FailureKind, group_failures, headline
from ashwood.views.history import History
from ashwood.views.importance import by_importance, takeaway
from ashwood.views.ladder import BracketView, RungView
from ashwood.views.plain import plain
from ashwood.views.table import flatten
from ashwood.views.trials import TrialRow
from ashwood.views.wording import format_duration, format_length, format_setting, format_value

SHOWN_TRIALS = 20
SHOWN_HPARAMS = 6
"""Maximum number of hyperparameters that have a column: more do not fit on a printed page."""

_SHOWN_FAILURES = 10
_FEWEST_RESULTS = 5
_SHOWN_COMMIT = 10
_LONGEST_LINE, _LONGEST_CELL = 240, 24
_INTERRUPTED = "interrupted"
_LOOKS = {"completed": "good", "errored": "bad", "canceled": "bad"}


@dataclass(frozen=True, slots=True)
class ReportHeader:
    """Facts about an experiment that a home stores in addition to its event log.

    Attributes:
        id: number of the experiment.
        name: current name of the experiment.
        state: state of the experiment; ``interrupted`` if it is active, but its driver no longer runs.
        created_at: time at which the experiment was created, in seconds since 1970.
        made_at: time at which the report is made, in seconds since 1970.
        labels: labels of the experiment.
        notes: Markdown notes on the experiment (key None) and on its trials.
    """

    id: int
    name: str
    state: str
    created_at: float
    made_at: float
    labels: Sequence[str] = ()
    notes: Mapping[TrialId | None, str] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether a driver runs the experiment."""
        return self.state in (ExperimentState.RUNNING, ExperimentState.PAUSING, ExperimentState.STOPPING)


def head(history: History, about: ReportHeader) -> Iterator[Child]:
    """Yield the head of the report: name, state and description of the experiment."""
    yield h(
        "div",
        h("h1", about.name),
        h("span", about.state, class_=f"state {_LOOKS.get(about.state, 'warm')}"),
        *(h("span", label, class_="label") for label in about.labels),
        h("button", "Light / dark", id="theme", type="button"),
        class_="head",
    )
    if history.spec.description:
        yield h("p", history.spec.description, class_="muted")
    if words := _unfinished(history, about):
        yield h("p", words, class_="notice", role="note")


def provenance(history: History, about: ReportHeader) -> Child:
    """Return the section about when, where and with what code the experiment ran."""
    return _section("Provenance", h("dl", _pairs(_facts(history, about)), class_="keep"))


def _unfinished(history: History, about: ReportHeader) -> str:
    """Return a notice that the results are incomplete and why, or an empty string if the search has completed."""
    progress = history.progress
    if about.state == ExperimentState.ERRORED:
        return f"The experiment failed: {progress.why_ended or 'no reason was recorded'}."
    if about.state == ExperimentState.CANCELED:
        return "The experiment was canceled before the search was done, so better trials may not have been tried."
    if about.state == ExperimentState.STOPPED:
        return f"The experiment stopped before the search was done: {progress.why_ended}. It can be resumed."
    if about.state == ExperimentState.COMPLETED:
        return ""
    made = _moment(about.made_at)
    if about.state == ExperimentState.CREATED:
        return f"The experiment had not started when this report was made ({made})."
    done = Forecaster(progress).forecast().fraction
    how = {
        ExperimentState.PAUSED: "The experiment is paused",
        _INTERRUPTED: "The experiment was interrupted: its driver is no longer running. It can be resumed",
    }.get(about.state, "The experiment is still running")
    why = (
        f" ({progress.why_ended.removeprefix('paused ')})"
        if about.state == ExperimentState.PAUSED and progress.why_ended
        else ""
    )
    return (
        f"{how}{why}. About {done:.0%} of the expected training was done when this report was made ({made}), "
        "so the results may change."
    )


def _facts(history: History, about: ReportHeader) -> Iterator[tuple[str, Child]]:
    spec, progress = history.spec, history.progress
    spending, began = progress.trials.spending, history.timeline.began
    now = about.made_at if about.runs else None
    yield "experiment", str(about.id)
    yield "metric", f"{spec.metric}, {'smaller' if spec.smaller_is_better else 'larger'} is better"
    yield "created", _moment(about.created_at)
    if began is not None:
        yield "started", _moment(began)
    if progress.state.ended or progress.state is ExperimentState.STOPPED:
        why = f": {progress.why_ended}" if progress.why_ended else ""
        yield "ended", f"{_moment(history.timeline.until)}{why}"
    if began is not None:
        seconds = spending.driver_seconds if now is None else spending.driven(now)
        yield "run time", f"{format_duration(seconds)}, workers {progress.utilisation(now):.0%} busy"
    yield "trained", "on a Ray cluster" if spec.ray is not None else "on one machine"
    yield "training code", _code(spec)
    yield "seed", str(spec.seed)
    yield from _provenance(spec.provenance)


def _code(spec: ExperimentSpec) -> Child:
    kind, target = spec.entrypoint.kind, spec.entrypoint.target
    if kind is EntrypointKind.PICKLE:
        return "a function in a notebook"
    # Reports are sent to others, who need not know the path on this machine.
    return h("code", target.rpartition("/")[2] if kind is EntrypointKind.SCRIPT else target)


def _provenance(provenance: Mapping[str, Any]) -> Iterator[tuple[str, Child]]:
    versions = [
        f"{name} {provenance[key]}" for key, name in (("ashwood", "Ashwood"), ("python", "Python")) if key in provenance
    ]
    if versions:
        yield "with", ", ".join([*versions, *([provenance["platform"]] if "platform" in provenance else [])])
    git = provenance.get("git")
    if git:
        branch = f" of {git['branch']}" if git.get("branch") else ""
        dirty = git.get("dirty")
        files = "1 file differed" if dirty == 1 else f"{dirty} files differed"
        unrecorded = f"; {files} from it, unrecorded" if dirty else ""
        yield "commit", f"{git['commit'][:_SHOWN_COMMIT]}{branch}{unrecorded}"


# -- result ------------------------------------------------------------------------------------------


def result(history: History, about: ReportHeader) -> Child:
    """Return the section about the best trial: its result, takeaways, hyperparameters and checkpoint."""
    best, spec = history.progress.recommended, history.spec
    if best is None:
        nothing = f"No trial has reported a {spec.metric} that is a finite number."
        return _section("Result", h("p", nothing), _takeaways(history))
    where, value = f"trial {best.id}", "no checkpoint"
    if (shown := history.progress.result) is not None:
        where += f", after {_count(shown.length, spec.unit)}"
        if shown.length < spec.search.max_length and not spec.search.open_ended:
            where += f" of {spec.search.max_length:,}"
        value = f"{spec.metric} {format_value(shown.metric)}"
    results = history.progress.describe_recommendation()
    seen = None if results is not None else history.progress.describe_seen()
    text = yaml.safe_dump({"hyperparameters": plain(best.hparams)}, sort_keys=False, allow_unicode=True)
    return _section(
        "Result",
        h("p", value, class_="best"),
        h("p", f"{where}; {best.state}", class_="muted"),
        None if results is None else h("p", f"{spec.metric} {results}", class_="muted"),
        None if seen is None else h("p", seen, class_="muted"),
        _takeaways(history),
        _checkpoint(best, history, about),
        h(
            "div",
            _table(
                ("hyperparameter", "value"),
                [(name, format_setting(value)) for name, value in flatten(best.hparams).items()],
                caption="Hyperparameters",
            ),
            h(
                "div",
                h(
                    "div",
                    h("span", "The same as YAML", class_="muted small"),
                    h("button", "Copy", type="button", data_copy="yaml"),
                    class_="code",
                ),
                h("pre", text, id="yaml", tabindex="0"),
            ),
            class_="beside",
        ),
    )


def note(about: ReportHeader) -> Child:
    """Return the section with the note on the experiment, or None if there is none."""
    text = about.notes.get(None)
    return None if text is None else _section("Note", note_markup(text))


def trial_notes(about: ReportHeader) -> Child:
    """Return the section with the notes on trials, or None if there are none."""
    notes = {trial: text for trial, text in about.notes.items() if trial is not None}
    if not notes:
        return None
    parts = [(h("h3", f"Trial {trial}"), note_markup(text, top=4)) for trial, text in sorted(notes.items())]
    return _section("Notes on trials", *parts)


def _takeaways(history: History) -> Child:
    sentences = [h("li", sentence) for sentence in takeaways(history)]
    return h("ul", *sentences, class_="takeaways") if sentences else None


def takeaways(history: History) -> Iterator[str]:
    """Yield sentences about what the search has found and what it took."""
    table, spec, best = history.progress.trials, history.spec, history.progress.result
    results = sorted(row.metric for row in table.rows.values() if row.metric is not None)
    if len(results) >= _FEWEST_RESULTS and best is not None:
        first, middle = format_value(best.metric), format_value(results[len(results) // 2])
        yield f"The best {spec.metric} is {first}; the median of {len(results):,} trials is {middle}."
    yield from islice(_training(history, budget(history)), 1)
    if (words := takeaway(history.progress)) is not None:
        yield words
    if (reading := history.progress.trust.reading()) is not None and history.progress.reports:
        yield reading.sentence
    groups = group_failures(table, spec)
    failed = sum(len(group.trials) for group in groups if group.kind is FailureKind.FAILED)
    diverged = sum(len(group.trials) for group in groups) - failed
    if groups:
        counts = [f"{number:,} {what}" for number, what in ((failed, "failed"), (diverged, "diverged")) if number]
        yield f"Of {_count(len(table.rows), 'trials')}, {' and '.join(counts)}. The most frequent cause: {groups[0]}."


def _checkpoint(best: TrialRow, history: History, about: ReportHeader) -> Child:
    saved = best.best_checkpoint
    if saved is None:
        return h("p", "No checkpoint of the best trial is stored.", class_="muted")
    size = "" if saved.size is None else f", {format_size(saved.size)}"
    # Reports are sent to others, so the path on this machine, which old logs contain, is left out.
    name = "/".join(saved.path.split("/")[-2:])
    at = f" at {_count(saved.length, history.spec.unit)}{size}. To copy it: "
    return h("p", "Checkpoint ", h("code", name), at, h("code", f"ashwood download {about.id} --out best"))


# -- search ------------------------------------------------------------------------------------------


def search(history: History) -> Child:
    """Return the section about the search: its settings, its trials, its training and its brackets."""
    settings, unit = history.spec.search, history.spec.unit
    brackets = history.ladder.brackets
    lengths = sorted({length for bracket in brackets for length in bracket.lengths})
    rows = [
        (str(bracket.number), f"{bracket.created:,} of {bracket.planned:,}", *(_rung(bracket, at) for at in lengths))
        for bracket in brackets
    ]
    return _section(
        "Search",
        h("p", _method(history)),
        h("p", _created(history)),
        *(h("p", line) for line in _training(history, budget(history))),
        h("h3", "Brackets"),
        _wide(_table(("bracket", "trials", *(format_length(length, unit) for length in lengths)), rows)),
        h("p", _arrows(settings), class_="muted small"),
    )


def _method(history: History) -> str:
    settings, unit = history.spec.search, history.spec.unit
    concurrent = history.progress.max_concurrent_trials
    at_once = f"at most {concurrent:,} at once" if concurrent else "at most one per slot at once"
    planned = _count(history.progress.trials_planned, "trials")
    length = "of any length" if settings.open_ended else f"up to {_count(settings.max_length, unit)}"
    parts = [f"{settings.method}: {planned}, each {length}, {at_once}"]
    if settings.method is Method.ADAPTIVE_ASHA:
        rungs = settings.bracket_rungs
        parts.append(f"brackets of {', '.join(map(str, rungs))} rungs" if rungs else f"mode {settings.mode}")
    if _halves(settings):
        parts.append(f"divisor {float(settings.divisor):g}")
    if settings.share_audited:
        parts.append(f"{100 * float(settings.audit):g}% of promotions are audits")
    if settings.stop_once:
        parts.append("each trial is judged once per rung")
    if settings.sampler != "random":
        parts.append(f"sampler {settings.sampler}")
    if wanted := history.ladder.replicates_wanted:
        again = "trial trains" if wanted == 1 else f"{wanted:,} trials train"
        parts.append(f"the best {again} again with another seed")
    bounds = history.progress.bounds
    if bounds.metric_at is not None:
        parts.append(f"until {history.spec.metric} is {format_value(bounds.metric_at)} or better")
    if bounds.max_time is not None:
        parts.append(f"at most {format_duration(bounds.max_time)}")
    return ", ".join(parts) + "."


def _halves(settings: SearchSettings) -> bool:
    return settings.method in (Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING, Method.SYNC_HALVING)


def _created(history: History) -> str:
    states = history.progress.trials.states
    there = [f"{states[state]:,} {state}" for state in TrialState if states[state]]
    return f"{history.progress.describe_created()} created{': ' if there else ''}{', '.join(there)}."


def _training(history: History, spent: Spent) -> Iterator[str]:
    unit = history.spec.unit
    trials = sum(bracket.created for bracket in history.ladder.brackets)
    everything = trials * history.spec.search.max_length
    if not everything:
        return
    trained = history.progress.length_trained
    if trials == 1 or history.spec.search.open_ended:
        yield f"{trained:,} {unit} were trained."
    else:
        yield (
            f"{trained:,} {unit} were trained: {_percent(trained / everything)} of the {everything:,} {unit} that all "
            f"{trials:,} trials would take at full length."
        )
    if repeated := history.progress.length_repeated:
        yield f"{repeated:,} more {unit} were repeated, because they were not saved in a checkpoint."
    if not history.spec.search.open_ended:
        yield f"A search like this is expected to train {spent.expected:,.0f} {unit}."


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _rung(bracket: BracketView, length: int) -> str:
    rung = next((rung for rung in bracket.rungs if rung.length == length), None)
    if rung is None:
        return ""
    return ", ".join(_cell(rung, last=rung is bracket.rungs[-1]))


def _cell(rung: RungView, *, last: bool) -> Iterator[str]:
    yield f"{rung.arrived:,} finished" if last else f"{rung.arrived:,} → {rung.promoted:,}"
    if rung.audits:
        yield _count(rung.audits, "audits")
    if rung.training:
        yield f"{len(rung.training):,} training"
    if failed := rung.failed - rung.killed:
        yield f"{failed:,} failed"
    if rung.killed:
        yield f"{rung.killed:,} killed"


def _arrows(settings: SearchSettings) -> str:
    if not _halves(settings):
        return "No trial is stopped early: each trains to full length."
    return (
        "At each length: number of trials that were compared → number of these that were promoted "
        f"(the best 1 in {float(settings.divisor):g}, and sometimes more if few trials had arrived)."
        + (" Audits are promotions of trials that were drawn at random." if settings.share_audited else "")
    )


# -- trust -------------------------------------------------------------------------------------------


def trust(history: History) -> Child:
    """Return the section about whether early stopping can be believed, or None if no trial is stopped early."""
    reading = history.progress.trust.reading()
    if reading is None:
        return None
    advice = [
        h("li", each.text, each.price, *(h("br"), h("code", "; ".join(each.settings))) if each.settings else ())
        for each in reading.advice
    ]
    return _section(
        "Can early stopping be believed?",
        h("p", reading.sentence),
        h("ul", *(h("li", reason) for reason in reading.reasons)) if reading.reasons else None,
        h("h3", "Advice for the next search") if advice else None,
        h("ul", *advice) if advice else None,
    )


# -- trials ------------------------------------------------------------------------------------------


def trials(history: History) -> Child:
    """Return the table of the best trials, or None if there is none."""
    best = history.progress.best_trials(SHOWN_TRIALS)
    if not best:
        return None
    shown = by_importance(history.progress)
    columns = shown[:SHOWN_HPARAMS]
    unit = history.spec.unit
    rows = [
        (
            str(place),
            str(row.id),
            format_value(row.metric),
            "–" if row.metric_length is None else f"{row.metric_length:,}",
            *(_short(each.value(row.hparams)) for each in columns),
            str(row.state),
        )
        for place, row in enumerate(best, 1)
    ]
    names = ("", "trial", f"best {history.spec.metric}", f"at ({unit})", *(each.name for each in columns), "state")
    title = "The best trial" if len(best) == 1 else f"The best {len(best)} trials"
    left_out = (
        f"The {len(columns)} most important of {len(shown)} hyperparameters are shown."
        if len(shown) > len(columns)
        else ""
    )
    return _section(
        title,
        _wide(_table(names, rows, numbers=range(4), spare=(len(names) - 1,))),
        h("p", left_out, class_="muted small") if left_out else None,
    )


def _short(value: Any) -> str:
    """Return a value shortened for the table; the section about the best trial shows all of its digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(format_setting(value).split())
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


# -- trouble -----------------------------------------------------------------------------------------


def trouble(history: History) -> Child:
    """Return the section about failures and warnings, or None if there were none."""
    progress = history.progress
    counts = [
        (progress.failed_attempts, "attempts failed"),
        (sum(row.preempted for row in progress.trials.rows.values()), "attempts lost their worker"),
        (progress.trials.states[TrialState.ERRORED], "trials failed permanently"),
        (progress.trials.states[TrialState.INVALID], "trials declared their hyperparameters invalid"),
        (progress.warnings, "warnings"),
    ]
    found = [_counted(count, words) for count, words in counts if count]
    if not found:
        return None
    reasons = Counter[str]()
    trials: dict[str, list[int]] = {}
    for trial, reason in _reasons(history):
        reasons[reason] += 1
        trials.setdefault(reason, []).append(trial)
    rows = [
        (f"{count:,}", _shorten(reason), _some(trials[reason]))
        for reason, count in reasons.most_common(_SHOWN_FAILURES)
    ]
    more = len(reasons) - len(rows)
    recent = list(dict.fromkeys(progress.recent_warnings))
    return _section(
        "Failures and warnings",
        h("p", f"{'; '.join(found)}."),
        _wide(_table(("times", "first line", "trials"), rows, numbers=[0])) if rows else None,
        h("p", f"And {more:,} more kinds of failures.", class_="muted small") if more > 0 else None,
        h("h3", "The latest warnings") if recent else None,
        h("ul", *(h("li", _shorten(warning)) for warning in recent)) if recent else None,
    )


def _counted(count: int, words: str) -> str:
    noun, _, rest = words.partition(" ")
    one = rest.replace("were", "was").replace("their", "its")
    return f"1 {noun.removesuffix('s')} {one}".strip() if count == 1 else f"{count:,} {words}"


def _reasons(history: History) -> Iterator[tuple[int, str]]:
    """Yield each failure, as its trial and the first line of its message."""
    losses: defaultdict[TrialId, list[str]] = defaultdict(list)
    for loss in history.details.losses:
        what = "declared its hyperparameters invalid" if isinstance(loss, HparamsInvalid) else "lost its worker"
        losses[loss.trial].append(f"{what}: {headline(loss.why)}")
    for row in history.progress.trials.rows.values():
        for error in row.errors:
            yield row.id, headline(error)
        for line in losses[row.id]:
            yield row.id, line


def _shorten(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def _some(numbers: Sequence[int], most: int = 6) -> str:
    distinct = list(dict.fromkeys(numbers))
    return ", ".join(map(str, distinct[:most])) + (
        f" and {len(distinct) - most:,} more" if len(distinct) > most else ""
    )


# -- file --------------------------------------------------------------------------------------------


def experiment_file(spec: ExperimentSpec) -> Child:
    """Return the section with the text of the experiment file and the values that replaced some of its own."""
    if not spec.config_text:
        return _section("Experiment file", h("p", "No file: the experiment was defined in Python."))
    replaced = spec.provenance.get("overrides")
    return _section(
        h("div", h("h2", "Experiment file"), h("button", "Copy", type="button", data_copy="config"), class_="code"),
        h("p", "Replaced on the command line: ", h("code", ", ".join(replaced))) if replaced else None,
        h("pre", spec.config_text, id="config", tabindex="0"),
    )


# -- parts -------------------------------------------------------------------------------------------


def _section(title: str | Markup, *children: Child) -> Markup:
    return h("section", title if isinstance(title, Markup) else h("h2", title), *children)


def _pairs(pairs: Iterable[tuple[str, Child]]) -> Iterator[Markup]:
    for name, value in pairs:
        yield h("dt", name)
        yield h("dd", value)


def _wide(table: Markup) -> Markup:
    """Return a table in a box that scrolls if the table is wider than the page."""
    return h("div", table, class_="wide", tabindex="0", role="group", aria_label="table")


def _table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Container[int] = (),
    spare: Container[int] = (),
    caption: str | None = None,
) -> Markup:
    """Return a table; columns in ``numbers`` are aligned to the right, those in ``spare`` are not printed."""

    def looks(place: int) -> str | None:
        return " ".join(["number"] * (place in numbers) + ["spare"] * (place in spare)) or None

    return h(
        "table",
        None if caption is None else h("caption", caption),
        h("thead", h("tr", *(h("th", name, scope="col", class_=looks(place)) for place, name in enumerate(columns)))),
        h(
            "tbody",
            *(h("tr", *(h("td", value, class_=looks(place)) for place, value in enumerate(row))) for row in rows),
        ),
    )


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number >= 1_000 else format_length(number, unit)


def _moment(at: float) -> str:
    """Return a time in UTC, so that readers in all time zones see the same text."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def made(about: ReportHeader, version: str) -> str:
    """Return the line that says how and when the report was made."""
    return f"Made with Ashwood {version} on {_moment(about.made_at)} from the event log of experiment {about.id}."
