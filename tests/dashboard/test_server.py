"""Where a dashboard takes connections."""

import socket

from ashwood.dashboard.server import listen


def test_no_answer_waits_for_its_first_half_to_be_acknowledged() -> None:
    with listen("127.0.0.1", 0, or_next=False) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
