"""Whether the scheduler's loop goes round, told at `/health` as under Airflow's docker compose file.

Airflow's own server is a fork of the scheduler, which takes 90 MB of memory once both have worked for a while. This is a
thread of it.
"""

from __future__ import annotations

import logging
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

log = logging.getLogger(__name__)


class Pulse:
    """When the loop was last seen to go round, and for how many seconds it may not be."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.beat()

    def beat(self) -> None:
        """Say that it goes round now."""
        self._last = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it was seen in the last `threshold` seconds."""
        return time.monotonic() - self._last < self._threshold


def serve(pulse: Pulse, host: str, port: int) -> HTTPServer | None:
    """Answer from now on, in a thread: 200 while `pulse` is alive, else 503. What keeps it from the port is logged."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # Seconds that a client has for its question; there is one at a time.

        def do_GET(self) -> None:  # The name that the library calls
            if self.path != "/health":
                self.send_error(HTTPStatus.NOT_FOUND)
            elif not pulse.alive:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                self.send_response(HTTPStatus.OK)
                self.end_headers()

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # The library's name; a line each time says nothing.
            pass

    try:
        server = HTTPServer((host, port), Handler)
    except OSError as error:
        log.warning("Nobody answers at http://%s:%d/health: %s", host, port, error)
        return None
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
