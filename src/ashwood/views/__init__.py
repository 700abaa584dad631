"""Pure: what log entries add up to, and what a search will do.  Folds, previews and forecasts."""
