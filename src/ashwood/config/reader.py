"""Reads an experiment file, or the same tree built in Python, to the spec of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ashwood.config import overrides as command_line
from ashwood.config.backend import BackendSection
from ashwood.config.constraints import check_possible, read_space
from ashwood.config.document import Document, parse
from ashwood.config.entrypoint import check_entrypoint, may_be_for_determined
from ashwood.config.file import FILE, ExperimentFile
from ashwood.config.lengths import check_conversions, warn_of_unfair_batches
from ashwood.config.plain import plain
from ashwood.config.report import Report, Source
from ashwood.config.resources import SLOTS
from ashwood.config.searcher import read_max_length, read_search, read_source, read_starts, read_warm_start
from ashwood.config.storage import located
from ashwood.config.wording import dotted
from ashwood.errors import ConfigError, Problem
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec

_LARGEST_FILE = 4_000_000  # A million characters, the limit of `parse`, have at most four bytes each in UTF-8.
NO_ENTRYPOINT = Entrypoint(EntrypointKind.COMMAND, "")
"""Entry point of an experiment file that has none, if only its search is of interest."""
_SAME = (
    *("description", "max_restarts", "max_preemptions", "reuse_workers", "grace_period", "max_silence"),
    *("max_trial_time", "max_invalid_trials", "max_common_failures"),
)
"""Keys of the file that the spec has under the same name."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An experiment as read from a file or from Python.

    Attributes:
        spec: the experiment, with all defaults filled in.
        warnings: warnings for the user, one line each.
        store: URL of the database that the file sets for the record of the experiment, or None.
        source: origin of the values, for messages about them.
    """

    spec: ExperimentSpec
    warnings: tuple[str, ...]
    store: str | None = None
    source: Source = field(default_factory=Source)

    def refuse_slots(self, why: str) -> ConfigError:
        """Return an error about ``resources.slots_per_trial``, with the file and line of that key."""
        lines, overridden = self.source.lines, self.source.overridden
        path = next((path for path in SLOTS if path in lines or path in overridden), SLOTS[0])
        return ConfigError([Problem(dotted(path), why.removeprefix(f"{dotted(SLOTS[0])} "), *self.source.place(path))])


def read_experiment(
    path: Path, *, overrides: Sequence[str] = (), default_seed: int = 0, search_only: bool = False
) -> Loaded:
    """Read an experiment file.

    Args:
        path: the file; relative paths inside it are relative to its directory.
        overrides: ``key.path=value`` strings that override values of the file; values are YAML.
        default_seed: the experiment's seed if the file gives none.
        search_only: whether the file may have no entrypoint, because only its search is of interest.

    Raises:
        ConfigError: the file doesn't exist or is wrong; the error lists all problems of the file and the overrides.
    """
    directory = path.absolute().parent
    return _read(_read_text(path), str(path), directory, path.stem, overrides, default_seed, search_only=search_only)


def parse_experiment(text: str, *, workdir: Path, name: str = "experiment", default_seed: int = 0) -> Loaded:
    """Read the text of an experiment file without opening a file.

    Args:
        text: the text of the file.
        workdir: directory that relative paths in the text start at.
        name: name of the experiment if the text gives none.
        default_seed: the experiment's seed if the text gives none.

    Raises:
        ConfigError: the text is wrong; the error lists all problems.
    """
    return _read(text, name, workdir, name, (), default_seed)


def reread_experiment(spec: ExperimentSpec, *, overrides: Sequence[str]) -> Loaded:
    """Read the recorded text of an experiment's file again, with other overrides.

    Args:
        spec: the recorded experiment; its seed and name are used if the text gives none.
        overrides: all overrides, including those of the recorded experiment.

    Raises:
        ConfigError: a value is wrong; the error lists all problems of the text and the overrides.
    """
    return _read(spec.config_text, "recorded file", Path(spec.workdir), spec.name, overrides, spec.seed)


def _read(
    text: str,
    file: str,
    workdir: Path,
    name: str,
    overrides: Sequence[str],
    default_seed: int,
    *,
    search_only: bool = False,
) -> Loaded:
    document = parse(text)
    if not isinstance(document.data, dict):
        problems = [Problem("", flaw.message, file, flaw.line) for flaw in document.flaws]
        raise ConfigError(problems or [_no_map(file, document)])
    overridden, bad_overrides = command_line.apply(overrides, document)
    report = Report(Source(file, document.lines, overridden))
    for flaw in document.flaws:
        report.error(flaw.path, flaw.message, line=flaw.line)
    for problem in bad_overrides:
        report.add(problem)
    return _load(document.data, workdir, name, default_seed, text, report, search_only=search_only)


def build_experiment(tree: Mapping[str, Any], *, workdir: Path, default_seed: int = 0) -> Loaded:
    """Return the experiment that Python data in the shape of a file describes.

    Args:
        tree: the data; ``entrypoint`` can be an `Entrypoint`, and hyperparameters can be instances of the
            classes in `ashwood.search.space`.
        workdir: directory in which training code runs and at which relative paths start.
        default_seed: the experiment's seed if the tree gives none.

    Raises:
        ConfigError: the tree is wrong; the error lists all problems.
    """
    report = Report(Source())
    data = plain(tree, report)
    return _load(data, workdir.absolute(), workdir.absolute().name or "experiment", default_seed, "", report)


def _load(
    tree: dict[str, Any],
    workdir: Path,
    name: str,
    default_seed: int,
    text: str,
    report: Report,
    *,
    search_only: bool = False,
) -> Loaded:
    if search_only and tree.get("entrypoint") is None:
        tree = {**tree, "entrypoint": NO_ENTRYPOINT}
    file: ExperimentFile = FILE.read(tree, (), report) or ExperimentFile()
    searcher, space = file.searcher, read_space(file.hyperparameters or {}, file.constraints, report)
    longest = read_max_length(searcher, report)
    is_search_alone = search_only and file.entrypoint is NO_ENTRYPOINT and not space.tree
    search = read_search(searcher, longest, None if is_search_alone else space, report)
    if search is not None:
        check_possible(space, search.method, report)
    starts = None if search is None or is_search_alone else read_starts(searcher, space, search, report)
    if file.entrypoint is not None:
        check_entrypoint(file.entrypoint, space.tree, report)
    periods = {name: getattr(file, name) for name in ("min_validation_period", "min_checkpoint_period")}
    periods = {name: period for name, period in periods.items() if period is not None and period.count > 0}
    if longest is not None:
        check_conversions(
            longest,
            periods,
            file.records_per_epoch or None,
            space.tree,
            report,
            code_may_convert=file.entrypoint is None or may_be_for_determined(file.entrypoint),
        )
        warn_of_unfair_batches(longest, space.tree, report)
    source, past = read_source(searcher, workdir, report), read_warm_start(searcher, workdir, report)
    ray = file.backend.cluster()
    # A wrong backend has its own message.  Treat it as Ray, so that keys for Ray are not reported, too.
    on_ray = ray is not None or report.known_bad_within(BackendSection.at)
    slots, demand = file.resources.slots(report, ray=on_ray), file.resources.demand(report, ray=on_ray)
    storage, policy = file.checkpoint_storage.location(report), file.checkpoint_storage.policy(report)
    report.check()
    if longest is None or search is None or file.entrypoint is None or searcher.metric is None:
        raise AssertionError("a missing value was not reported")
    spec = ExperimentSpec(
        name=file.name or name,
        labels=tuple(file.labels),
        data=file.data or {},
        space=space,
        search=search,
        metric=searcher.metric,
        smaller_is_better=searcher.smaller_is_better,
        unit=longest.unit,
        entrypoint=file.entrypoint,
        workdir=str(workdir),
        seed=default_seed if file.reproducibility.experiment_seed is None else file.reproducibility.experiment_seed,
        records_per_epoch=file.records_per_epoch or None,
        **{name: getattr(file, name) for name in _SAME},
        **periods,
        max_log_size=file.max_log_size or None,
        metric_at=searcher.stop_when.metric_at,
        max_time=searcher.stop_when.max_time,
        checkpoint_storage=None if storage is None else located(storage, workdir),
        checkpoint_policy=policy,
        max_size=file.checkpoint_storage.max_size,
        save_on=file.checkpoint_policy,
        source_checkpoint=source,
        warm_start=past,
        slots_per_trial=slots,
        demand=demand,
        ray=ray,
        environment=file.environment.environment_variables or {},
        config_text=text,
        start_with=tuple(searcher.start_with if starts is None else starts),
    )
    return Loaded(spec, report.warnings, file.store, report.source)


# -- the file itself ----------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _unreadable(path, f"there is no such file{_similar(path)}") from None
    except IsADirectoryError:
        raise _unreadable(path, f"is a directory; name the experiment file itself{_inside(path)}") from None
    except OSError as error:
        raise _unreadable(path, f"can't be read: {error.strerror}") from None
    if len(raw) > _LARGEST_FILE:
        raise _unreadable(path, f"is larger than {_LARGEST_FILE:,} bytes, which is too large for an experiment file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, "isn't a text file in UTF-8", line=line) from None


def _no_map(file: str, document: Document) -> Problem:
    if document.data is None:
        message = "is empty; an experiment needs at least searcher and entrypoint"
    else:
        message = "must be a map (key: value) with the keys searcher, entrypoint and others"
    return Problem("", message, file, document.lines.get((), 1))


def _unreadable(path: Path, message: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem("", message, str(path), line)])


def _similar(path: Path) -> str:
    try:
        close = get_close_matches(path.name, [each.name for each in path.parent.iterdir()], n=1)
    except OSError:
        return f", nor a directory {path.parent}"
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _inside(path: Path) -> str:
    files = sorted(each for each in path.iterdir() if each.suffix in (".yaml", ".yml"))
    return f", for example {files[0]}" if files else ""
