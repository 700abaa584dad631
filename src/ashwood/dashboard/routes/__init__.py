"""The REST interface, one file an idea; all of it under ``/api/v1``."""
