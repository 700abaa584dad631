"""Create temporary files without a name, which child processes inherit."""

from __future__ import annotations

import os
import tempfile
from typing import IO


def scratch_file() -> IO[bytes]:
    """Return a file that is deleted when the last process closes it.

    On Linux it is in memory, so it works on a full disk too.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("ashwood"), "w+b")
    return tempfile.TemporaryFile()
