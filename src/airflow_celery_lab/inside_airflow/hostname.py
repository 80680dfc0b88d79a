"""The hostname that Airflow records for a task (`[core] hostname_callable`)."""

from __future__ import annotations

import os

from airflow_celery_lab.configuration import names


def hostname() -> str:
    """Return the name of this process in the lab; outside of one, the machine's."""
    if name := os.environ.get(names.VARIABLE):
        return name
    import socket

    return socket.gethostname()
