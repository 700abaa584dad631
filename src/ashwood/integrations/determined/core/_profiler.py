"""Profiling of the machine, which Ashwood does not do."""

from __future__ import annotations

import logging

logger = logging.getLogger("determined.core")


class ProfilerContext:
    """Accepts calls and does nothing."""

    def on(self, sampling_interval: int = 1, samples_per_report: int = 10) -> None:
        """Do nothing, and say so in the log."""
        logger.info("Ashwood does not profile; training code may use the profiler of its framework")

    def off(self) -> None:
        """Do nothing."""


class DummyProfilerContext(ProfilerContext):
    """Accepts calls and does nothing."""
