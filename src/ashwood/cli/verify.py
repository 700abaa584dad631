"""``ashwood verify``: checks of a home, and repairs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from ashwood.backends.local.worker_lock import clear_former_workers
from ashwood.engine import Home, open_home
from ashwood.engine.verification import ExperimentCheck, Finding, check_commits, check_home
from ashwood.errors import AshwoodError
from ashwood.eventlog.port import ExperimentId
from ashwood.terminal.output import print_json
from ashwood.terminal.text import on_one_line, say
from ashwood.views.wording import format_length


class _Report:
    """A report of checks: prints their findings, repairs them if ``repair`` is set, and counts remaining problems."""

    def __init__(self, *, repair: bool, json: bool) -> None:
        self.left = self.repaired = self.repairable = 0
        self.repair = repair
        self.json = json
        self._records: list[dict[str, object]] = []

    def take(self, experiment: ExperimentId | None, findings: Iterable[Finding]) -> int:
        """Take the findings about an experiment, or about the home; return how many problems are left."""
        before = self.left
        for finding in findings:
            done, why = self._repaired(finding) if self.repair else (None, "")
            if not finding.is_harmless:
                self.left += done is None
                self.repaired += done is not None
            self.repairable += done is None and finding.repair is not None
            self._print(experiment, finding, done, why)
        return self.left - before

    def _repaired(self, finding: Finding) -> tuple[str | None, str]:
        """Carry out a repair; return what it did, or None, and an error message if it failed."""
        if finding.repair is None:
            return None, ""
        try:
            return finding.repair(), ""
        except OSError as error:
            return None, f" (cannot be repaired: {error.filename or ''} {error.strerror})"
        except AshwoodError as error:
            return None, f" (cannot be repaired: {error})"

    def _print(self, experiment: ExperimentId | None, finding: Finding, done: str | None, why: str) -> None:
        if self.json:
            self._records.append(
                {
                    "experiment": experiment,
                    "problem": finding.problem + why,
                    "harmless": finding.is_harmless,
                    "repairable": finding.repair is not None,
                    "repaired": done,
                }
            )
            return
        whose = "" if experiment is None else f"experiment {experiment}: "
        after = "" if done is None else f". Repaired: {done}"
        say(on_one_line(f"{whose}{'note: ' if finding.is_harmless else ''}{finding.problem}{why}{after}"), wrap=True)

    def end(self, experiments: int) -> bool:
        """Print the totals of the checks of ``experiments`` experiments; return whether no problem is left."""
        if self.json:
            print_json({"experiments": experiments, "problems": self.left, "findings": self._records})
        elif self.left:
            advice = "; to repair what can be repaired, add --repair" if self.repairable else ""
            say(f"{format_length(self.left, 'problems')} left, {self.repaired} repaired{advice}", wrap=True)
        return self.left == 0


def verify(home: str | None, experiment: ExperimentId | None, *, repair: bool, json: bool) -> bool:
    """Run ``ashwood verify`` for one experiment, or for all if it is None; return whether no problem is left."""
    report = _Report(repair=repair, json=json)
    with ExitStack() as stack:
        # A home with a damaged write-ahead log can be opened for reading only, so that nothing is lost.
        opened = stack.enter_context(open_home(home, allow_damage=True))
        if report.take(None, check_commits(opened)) and repair:
            return report.end(0)
        if report.repaired:
            stack.close()
            opened = stack.enter_context(open_home(home))
        if experiment is None:
            report.take(None, check_home(opened))
        numbers = [record.id for record in opened.store.experiments()] if experiment is None else [experiment]
        for number in numbers:
            _verify_experiment(opened, number, report)
    return report.end(len(numbers))


def _verify_experiment(home: Home, experiment: ExperimentId, report: _Report) -> None:
    with ExitStack() as stack:
        if report.repair:
            # During a repair no driver may start, and no worker of a former driver may save a checkpoint.
            lease = stack.enter_context(home.lease(experiment))
            clear_former_workers(home.directory(experiment) / "workers.lock")
            check = ExperimentCheck(home, experiment, lease.token, lease.beat)
        else:
            check = ExperimentCheck(home, experiment)
        left = report.take(experiment, check.findings())
    if not left and not report.json:
        checked = ", ".join(format_length(count, noun) for noun, count in check.counts.items())
        say(f"experiment {experiment}: no problem ({checked})", wrap=True)
