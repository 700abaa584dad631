"""The text of sizes in bytes."""

from __future__ import annotations


def format_size(size: int) -> str:
    """Return the text of a size in bytes, such as 512 B or 3.2 MB."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
