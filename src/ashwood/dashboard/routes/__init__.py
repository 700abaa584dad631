"""The routes of the REST API, all under ``/api/v1``."""
