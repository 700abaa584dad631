"""Pure: one experiment as a fold of events.  ``handle(event) -> decisions``."""
