"""What training takes, measured or looked up: apart from `ashwood.cli.conditions`, as it needs the engine."""

from __future__ import annotations

from ashwood.cli.conditions import Known
from ashwood.cli.output import format_length, format_moment, format_size
from ashwood.cli.text import warn
from ashwood.engine import open_home
from ashwood.engine.measure import Findings, measure, recall
from ashwood.errors import AshwoodError
from ashwood.experiment.spec import ExperimentSpec, Unit


def find_out(known: Known, unit: Unit, spec: ExperimentSpec | None) -> Findings:
    """Measure what training takes, or look it up.

    Raises:
        AshwoodError: it can't be measured, or the other experiment counts in another unit.
    """
    if known.like is None:
        if spec is None:
            raise AshwoodError("there is no training code to measure")
        return measure(spec, workers=known.workers, share=known.share, warn=warn)
    with open_home(known.home) as home:
        other = home.store.spec(known.like)
        if other.unit is not unit:
            raise AshwoodError(
                f"experiment {known.like} counts {other.unit} and this one {unit}, so it doesn't tell what a unit "
                "takes here: give --unit-time instead"
            )
        return recall(home, known.like)


def describe_findings(known: Known, findings: Findings, unit: Unit) -> str:
    """What was measured, in words."""
    source = "Measured" if known.like is None else f"In experiment {known.like}"
    measured = findings.measured
    spread = "" if measured.spread is None else f", two thirds of them within a factor of {measured.spread:.2f}"
    weight = findings.checkpoint_bytes
    size = "" if weight is None else f", {format_size(round(weight))} a checkpoint"
    return (
        f"{source}: {format_length(measured.trials, 'trials')} took {format_moment(measured.unit_seconds)} for "
        f"{format_length(1, unit)} on average (which may be off by a factor of {measured.unit_error:.2f}){spread}; "
        f"{format_moment(measured.launch)} to launch workers, {format_moment(measured.start)} to start a trial, "
        f"{format_moment(measured.restore)} more to resume one, {format_moment(measured.save)} to save{size}."
    )
