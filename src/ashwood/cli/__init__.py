"""The ``ashwood`` command.  Commands are declared in `main`; each imports what it needs when it runs."""
