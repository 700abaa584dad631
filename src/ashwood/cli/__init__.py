"""The ``ashwood`` command.  All commands are declared in `main`; each imports its own module when it is called."""
