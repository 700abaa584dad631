"""Decides which trial trains how long.  Pure: no clock, no files, no randomness, no logging."""
