"""Runs trials in virtual time: thousands of workers, no processes, no waiting."""

from ashwood.backends.simulated.backend import SimulatedBackend, VirtualClock

__all__ = ["SimulatedBackend", "VirtualClock"]
