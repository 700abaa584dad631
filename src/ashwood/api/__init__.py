"""The Python API: searches from a script or a notebook."""
