import subprocess
import sys
from pathlib import Path

import pytest

from ashwood.errors import ExperimentBusy
from ashwood.eventlog.lease import Lease, is_leased

HOLD = """
import sys
from pathlib import Path
from ashwood.eventlog.lease import Lease

lease = Lease(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    assert not is_leased(path)
    with Lease(path):
        assert is_leased(path)
        with pytest.raises(ExperimentBusy, match="is running this experiment"):
            Lease(path)
        assert is_leased(path)
    assert not is_leased(path)
    Lease(path).release()


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(ExperimentBusy, match=f"process {owner.pid}"):
            Lease(path)
        owner.kill()
        owner.wait()
        Lease(path).release()
