"""Folds the events of one experiment into decisions.  Pure: no clock, no files, no randomness, no logging."""
