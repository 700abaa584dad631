"""Checks that the training lengths of a file can be converted into each other."""

from __future__ import annotations

from collections.abc import Mapping

from ashwood.config.report import Report
from ashwood.config.wording import Path, dotted
from ashwood.experiment.spec import Length, Unit
from ashwood.search.settings import NO_LENGTH
from ashwood.search.space import Categorical, Int, Tree

BATCH_SIZE = "global_batch_size"
_MAX_LENGTH: Path = ("searcher", "max_length")


def check_conversions(
    longest: Length, periods: Mapping[str, Length], records_per_epoch: int | None, tree: Tree, report: Report
) -> None:
    """Report each period that can't be converted to the unit of max_length, if there is a max_length."""
    if longest.count == NO_LENGTH:  # Training code counts what it likes, so it converts periods itself.
        return
    for key, period in periods.items():
        if period.unit is longest.unit:
            continue
        units = {period.unit, longest.unit}
        mixed = f"counts {period.unit.value}, max_length {longest.unit.value}"
        if Unit.STEPS in units:
            bare = "a bare number"
            mixed = mixed.replace("counts steps", f"is {bare}").replace("length steps", f"length is {bare}")
            report.error((key,), f"{mixed}, and these units can't be converted: use the same unit for both")
            continue
        needs = []
        if Unit.EPOCHS in units and records_per_epoch is None and not report.known_bad(("records_per_epoch",)):
            needs.append("records_per_epoch: n")
        if Unit.BATCHES in units and (lack := _lack_of_batch_size(tree, report)):
            needs.append(lack)
        if needs:
            report.error((key,), f"{mixed}: to convert, add {' and '.join(needs)}; or use the same unit for both")


def warn_of_unfair_batches(longest: Length, tree: Tree, report: Report) -> None:
    """Warn if lengths count batches and the batch size varies, because trials then see different amounts of data."""
    sizes = tree.get(BATCH_SIZE)
    varies = isinstance(sizes, Int) or (isinstance(sizes, Categorical) and len(sizes.vals) > 1)
    if longest.unit is Unit.BATCHES and varies:
        report.warn(
            _MAX_LENGTH,
            f"{BATCH_SIZE} differs between trials, so equal numbers of batches are different amounts of data: "
            "for a fair comparison, use records or epochs",
        )


def _lack_of_batch_size(tree: Tree, report: Report) -> str | None:
    """Return what to add to the file so that batches can be converted, or None if nothing is missing."""
    path: Path = ("hyperparameters", BATCH_SIZE)
    if report.known_bad_within(path):
        return None
    leaf = tree.get(BATCH_SIZE)
    if leaf is None:
        return f"the hyperparameter {BATCH_SIZE}: n"
    if getattr(leaf, "when", None) is not None:
        report.error(path, "must not have a condition, because lengths in batches are converted for every trial")
        return None
    sizes = leaf.vals if isinstance(leaf, Categorical) else [getattr(leaf, "val", getattr(leaf, "minval", None))]
    if not all(type(size) is int and size >= 1 for size in sizes):  # Bounds of double and log are floats.
        why = f"lengths in batches can be converted; {dotted(_MAX_LENGTH)} and another length differ in unit"
        report.error(path, f"must be whole numbers of at least 1 (const, int or categorical), so that {why}")
    return None
