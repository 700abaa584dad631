"""The tools of torture have to work, too."""

import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from .sessions import Place

_STARTS_CHILDREN = "import subprocess\nprint(flush=True)\nwhile True: subprocess.run(['true'])"


@pytest.mark.slow
@pytest.mark.timeout(30)
def test_processes_freeze_while_they_start_children(tmp_path: Path) -> None:
    place, draw = Place(tmp_path), Random(0)
    command = [sys.executable, "-c", _STARTS_CHILDREN]
    with subprocess.Popen(command, env=place.environment(), stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            for _ in range(60):  # of which one in seven hits a child that is just being started
                time.sleep(draw.uniform(0, 0.003))
                place.freeze()
                place.thaw()
        finally:
            place.end_all()
