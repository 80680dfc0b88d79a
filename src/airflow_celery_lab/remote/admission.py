"""What the main machine answers to one that wants to join."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from airflow_celery_lab.configuration import exposure, likeness, names
from airflow_celery_lab.configuration.environment import DATABASE, of_process, wiring
from airflow_celery_lab.configuration.exposure import WORKER, Exposure
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.launcher import lease
from airflow_celery_lab.remote import release
from airflow_celery_lab.remote.authority import Authority
from airflow_celery_lab.remote.invitation import Invitation

#: Keys of Airflow's that must be the same on all machines: what one writes, another reads.
SAME = re.compile(
    "AIRFLOW__(OPERATORS__DEFAULT_QUEUE|DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST|CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT|SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"
    "|CORE__XCOM_BACKEND|COMMON_IO__XCOM_OBJECTSTORAGE_.+|LOGGING__REMOTE_.+)"
)
#: Seconds for an answer of the lab's Redis.
PATIENCE = 2.0


class RefusedError(Exception):
    """One sentence for the machine that wants to join."""


class Machine(NamedTuple):
    """A machine that wants to join."""

    secret: bytes  #: of its token
    name: str
    address: str


def read(asked: Any) -> Machine:
    """Return the machine that a request is about.

    Raises:
        RefusedError: the request is not understood.

    """
    if isinstance(asked, Mapping) and isinstance(asked.get("secret"), str):
        name, address = str(asked.get("machine")), str(asked.get("address"))
        if not names.MACHINE.fullmatch(name):
            raise RefusedError(f"{name!r} is not a name for a machine: up to 63 letters, digits and hyphens.")
        with suppress(ValueError):
            return Machine(bytes.fromhex(asked["secret"]), name, str(ipaddress.ip_address(address)))
    raise RefusedError("this is not understood: another release of the lab may run on that machine; install the same on both.")


def admit(lab: Lab, machine: Machine, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return all that a machine needs to run workers; it holds passwords.

    Raises:
        RefusedError: it may not join.
        LabError: the state folder cannot be used.
        OSError: the DAGs cannot be read.

    """
    exposed = exposure.read(lab.state)
    if exposed is None:
        raise RefusedError("this lab is not exposed; run `expose` on the main machine.")
    if refusal := Invitation(exposed.invited, exposed.until).refusal(machine.secret, time.time()):
        raise RefusedError(refusal)
    if _lives(lab, machine.name):
        raise RefusedError(f"a machine called {machine.name} has joined already and lives; join with `--name` and another name.")
    return _answer(lab, exposed, environ)


def _lives(lab: Lab, machine: str) -> bool:
    """Return whether a machine of that name has joined and renews its lease."""
    from redis import Redis
    from redis.exceptions import RedisError

    with suppress(RedisError), Redis.from_url(wiring(lab)["CELERY_BROKER_URL"], socket_timeout=PATIENCE) as client:
        one = lease.read(client).get(machine)
        return one is not None and one.lives
    return False  # What speaks for each machine notices later.


def _answer(lab: Lab, exposed: Exposure, environ: Mapping[str, str]) -> dict[str, Any]:
    ports, host = lab.settings.ports, exposed.host
    return {
        "lab": lab.settings.project.name,
        "address": exposed.address,
        "ca": Authority(lab.state).certificate(),
        "broker_url": f"rediss://{WORKER}:{exposed.redis_password}@{host}:{ports.redis}/0",
        "result_backend": (
            f"db+postgresql+psycopg2://{WORKER}:{exposed.postgres_password}@{host}:{ports.postgres}/{DATABASE}?sslmode=verify-full"
        ),
        "execution_api_server_url": f"https://{host}:{ports.webserver}/execution/",
        "versions": release.versions(),
        "dags": likeness.dags(lab.settings.dags),
        "time": time.time(),
        "settings": {name: value for name, value in of_process(lab, None, environ).items() if SAME.fullmatch(name)},
    }
