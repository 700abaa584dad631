"""Where a dashboard takes connections."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ashwood.dashboard.server import listen


def test_responses_are_sent_without_delay() -> None:
    with listen("127.0.0.1", 0, or_next=False) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


STUCK = """
import sys, threading
from ashwood.dashboard import server
from ashwood.dashboard.guard import rules_for
from ashwood.eventlog.home import open_home

server._LAST_SECONDS = 0.2
taken = server.listen("127.0.0.1", 0, or_next=False)

def ready():
    threading.Thread(target=threading.Event().wait).start()  # never returns, as a read of a dead network drive
    print("ready", flush=True)

rules = rules_for("127.0.0.1", taken.getsockname()[1])
server.serve(taken, rules, lambda: open_home(sys.argv[1]), name="home", steering=None, ready=ready)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_dashboard_even_if_a_thread_hangs(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-P", "-c", STUCK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            process.wait(30)
        finally:
            process.kill()
