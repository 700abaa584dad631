"""Simulates trials in virtual time: thousands of workers, without processes and without waiting."""

from ashwood.backends.simulated.backend import SimulatedBackend, VirtualClock

__all__ = ["SimulatedBackend", "VirtualClock"]
