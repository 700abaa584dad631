"""Training times, measured or from an event log.

This is not in `ashwood.cli.conditions`, because it imports the engine, which is slow.
"""

from __future__ import annotations

from ashwood.cli.conditions import PreviewOptions
from ashwood.cli.output import format_length, format_moment, format_size
from ashwood.cli.text import warn
from ashwood.engine import open_home
from ashwood.engine.measure import Findings, measure, recall
from ashwood.errors import AshwoodError
from ashwood.experiment.spec import ExperimentSpec, Unit


def measure_or_recall(options: PreviewOptions, unit: Unit, spec: ExperimentSpec | None) -> Findings:
    """Measure the training times, or read them from the event log of another experiment.

    Raises:
        AshwoodError: the times cannot be measured, or the other experiment has another unit.
    """
    if options.like is None:
        if spec is None:
            raise AshwoodError("there is no training code to measure")
        return measure(spec, workers=options.workers, share=options.share, warn=warn)
    with open_home(options.home) as home:
        other = home.store.spec(options.like)
        if other.unit is not unit:
            raise AshwoodError(
                f"--like {options.like}: lengths of that experiment are in {other.unit} and here in {unit}, so "
                "its times do not apply: use --unit-time instead"
            )
        return recall(home, options.like)


def describe_findings(options: PreviewOptions, findings: Findings, unit: Unit) -> str:
    """Return the findings in words."""
    source = "Measured" if options.like is None else f"In experiment {options.like}"
    measured = findings.measured
    spread = "" if measured.spread is None else f", two thirds of them within a factor of {measured.spread:.2f}"
    weight = findings.checkpoint_bytes
    size = "" if weight is None else f", {format_size(round(weight))} per checkpoint"
    return (
        f"{source}: {format_length(measured.trials, 'trials')} took {format_moment(measured.unit_seconds)} for "
        f"{format_length(1, unit)} on average (which may be off by a factor of {measured.unit_error:.2f}){spread}; "
        f"{format_moment(measured.launch)} to launch workers, {format_moment(measured.start)} to start a trial, "
        f"{format_moment(measured.restore)} more to resume one, {format_moment(measured.save)} to save{size}."
    )
