"""The Python API: runs experiments from a script or a notebook."""
