"""Choice of the backend of Keras in the process of the tests."""

from __future__ import annotations

import os
from importlib.util import find_spec

# If TensorFlow, the default backend, is imported before PyTorch, the import of PyTorch ends with a segmentation fault.
if find_spec("torch") is not None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
