"""The record that a lab is exposed: where it listens for other machines, and what lets them in. Passwords: mode 0600."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import NamedTuple

from airflow_celery_lab.configuration import files, links
from airflow_celery_lab.configuration.settings import Ports
from airflow_celery_lab.configuration.state import State

#: The servers that other machines reach, by the names of their ports.
SERVERS = links.SERVERS
#: The role in Postgres, and the user of Redis, that joined workers log in as.
WORKER = "lab_worker"


class Exposure(NamedTuple):
    """An exposed lab."""

    address: str  #: an IP address of this machine
    postgres_password: str  #: of WORKER
    redis_password: str  #: of WORKER
    invited: str  #: SHA-256 of the newest token's secret, in hexadecimal; the secret itself is kept nowhere
    until: float  #: seconds since the epoch: the end of that token

    @property
    def host(self) -> str:
        """The address as it stands in a URL."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def urls(self, ports: Ports) -> dict[str, str]:
        """Return where each server listens for other machines, without passwords."""
        schemes = {"redis": "rediss", "postgres": "postgresql", "webserver": "https"}
        return {name: f"{schemes[name]}://{self.host}:{getattr(ports, name)}" for name in SERVERS}


def read(state: State) -> Exposure | None:
    """Return how the lab is exposed, None when it is not."""
    with suppress(OSError, ValueError, TypeError):
        return Exposure(**json.loads(state.exposure.read_text(encoding="utf-8")))
    return None


def write(state: State, exposure: Exposure) -> None:
    """Write down how the lab is exposed.

    Raises:
        OSError: it cannot be written.

    """
    files.write(state.exposure, json.dumps(exposure._asdict()))


def remove(state: State) -> None:
    """Write down that it is not.

    Raises:
        OSError: the file cannot be removed.

    """
    state.exposure.unlink(missing_ok=True)
