"""Folds of log entries, and previews and forecasts of searches.  Pure: no clock, no files, no logging."""
