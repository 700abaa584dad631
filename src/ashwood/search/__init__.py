"""Pure: which trial trains how long.  No clock, no files, no randomness, no logging."""
