"""Files without a name, which processes inherit."""

from __future__ import annotations

import os
import tempfile
from typing import IO


def scratch_file() -> IO[bytes]:
    """A file that is gone when nobody has it open any more; in memory where possible, so that no full disk matters."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("ashwood"), "w+b")
    return tempfile.TemporaryFile()
