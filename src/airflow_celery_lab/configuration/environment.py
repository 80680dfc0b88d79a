"""The environment of a process of the lab: where settings and secrets become Airflow's words."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from airflow_celery_lab.configuration import demand, membership, names, overrides, roots
from airflow_celery_lab.configuration.credentials import ADMIN, Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.membership import Membership
from airflow_celery_lab.configuration.settings import Ports, Settings
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import SettingsError

#: Programs differ in which one they read.
PROXY_EXCEPTIONS = ("NO_PROXY", "no_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Name of the database, and of the one role that may log in to it.
DATABASE = "airflow"
PARALLELISM = "AIRFLOW__CORE__PARALLELISM"
#: Tasks at a time, at least: `[core] parallelism` of Airflow's own. With more than slots, tasks wait in the broker.
LEAST_PARALLELISM = 32


def of_process(lab: Lab, name: str | None, base: Mapping[str, str], ports: Ports | None = None) -> dict[str, str]:
    """Return `base`, the user's `.env` and the lab's wiring, each stronger than the one before, but for what users may change.

    With the lab's own settings (LAB_...) `base` is stronger than `.env`: airflow_celery_lab.configuration.settings
    reads both, so they are not in the answer. `ports` are those at which the process reaches the servers, where they
    are not the servers' own.
    """
    own = lab.settings.variables
    project = lab.settings.project
    variables = {**of_supervisor(lab, base), **own, **overrides.merged(wiring(lab, ports), overrides.given(base, own, project), project)}
    member = membership.read(lab.state)
    variables |= _without_proxy(variables, member.address if member else lab.settings.client_host)
    if not _sets_parallelism(variables):
        # Slots beyond it would never be filled.
        variables[PARALLELISM] = str(max(LEAST_PARALLELISM, demand.wanted(lab.settings, base, demand.sizes(variables)).slots))
    # What a process prints would otherwise lie in its buffer.
    variables["PYTHONUNBUFFERED"] = "1"
    if name:
        variables[names.VARIABLE] = name
    return variables


def conflicts(settings: Settings, base: Mapping[str, str]) -> Iterator[SettingsError]:
    """Yield a sentence for each key that a user has set in `base` or `.env` and that the lab must set itself."""
    # Values are compared, and no user's secret is this one.
    nobody = Lab(settings, Credentials(*("x" * len(Credentials._fields))))
    try:
        yield from overrides.conflicts(wiring(nobody), overrides.given(base, settings.variables, settings.project))
    except SettingsError as error:  # The user's configuration file cannot be read.
        yield error


def warnings(settings: Settings, base: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each key of Airflow's in `base` or `.env` that was mistyped.

    Raises:
        SettingsError: the user's configuration file cannot be read.

    """
    from airflow_celery_lab.configuration import spelling  # The launcher has no use for it, and stays small.

    yield from spelling.mistyped(overrides.given(base, settings.variables, settings.project))


def default_queue(lab: Lab, base: Mapping[str, str]) -> str:
    """Return the queue of a worker that names none (`[operators] default_queue`)."""
    return default_queue_in(of_process(lab, None, base))


def default_queue_in(variables: Mapping[str, str]) -> str:
    """Return the same for a process with these variables."""
    return variables.get("AIRFLOW__OPERATORS__DEFAULT_QUEUE") or "default"


def parallelism(lab: Lab, base: Mapping[str, str]) -> int:
    """Return how many tasks a scheduler that starts now runs at a time, 0 where only Airflow can tell."""
    value = of_process(lab, None, base).get(PARALLELISM, "")
    return int(value) if value.isdecimal() else 0


def parallelism_is_set(lab: Lab, base: Mapping[str, str]) -> bool:
    """Return whether the user has set how many tasks a scheduler runs at a time."""
    return _sets_parallelism(overrides.given(base, lab.settings.variables, lab.settings.project))


def _sets_parallelism(names_of: Collection[str]) -> bool:
    return any(PARALLELISM + variant in names_of for variant in overrides.VARIANTS)


def sizes(lab: Lab, base: Mapping[str, str]) -> demand.Sizes:
    """Return what the user's keys make of a process that does not say how much it wants."""
    return demand.sizes(of_process(lab, None, base))


def web_url(lab: Lab) -> str:
    """Return Airflow's address for a browser, without a trailing slash (`[api] base_url`)."""
    project = lab.settings.project
    return overrides.merged(wiring(lab), overrides.given({}, lab.settings.variables, project), project)[overrides.BASE_URL].rstrip("/")


def of_supervisor(lab: Lab, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with what honcho's and supervisord's processes need to find the lab that they belong to.

    The `airflow-celery-lab` of a Procfile's lines is the one of this environment.
    """
    own = str(Path(sys.executable).parent)
    folders = base.get("PATH", os.defpath).split(os.pathsep)
    return {
        **base,
        "PATH": os.pathsep.join(folders if folders[0] == own else [own, *folders]),
        roots.VARIABLE: str(lab.settings.project),
    }


def _without_proxy(variables: Mapping[str, str], host: str) -> dict[str, str]:
    """Return NO_PROXY with loopback beside what the user has in it, in both spellings.

    A task asks the api-server by a client that obeys HTTP_PROXY. With NO_PROXY set, Python on macOS does not look for
    the system's proxies either, which it can do forever in a forked process.
    """
    given = [variables.get(name, "") for name in PROXY_EXCEPTIONS]
    hosts = [word.strip() for text in given for word in text.split(",") if word.strip()]
    # With others beside it, `*` is no longer understood by all.
    value = "*" if "*" in hosts else ",".join(dict.fromkeys([*hosts, *LOOPBACK, host]))
    return dict.fromkeys(PROXY_EXCEPTIONS, value)


def wiring(lab: Lab, ports: Ports | None = None) -> dict[str, str]:
    """Return what holds the lab's processes together; what of it a user may change, `overrides` says.

    `ports` are those at which the servers are reached, by default their own.
    """
    settings, credentials, state = lab.settings, lab.credentials, lab.state
    member = membership.read(state)
    reached = settings._replace(ports=ports or settings.ports)
    host = f"[{settings.client_host}]" if ":" in settings.client_host else settings.client_host
    database = f"postgresql+psycopg2://{DATABASE}:{credentials.postgres_password}@{host}:{reached.ports.postgres}/{DATABASE}"
    broker = f"redis://:{credentials.redis_password}@{host}:{reached.ports.redis}/0"
    web = settings.url("webserver")
    own = {
        "AIRFLOW_HOME": str(state.airflow),
        "AIRFLOW_CONFIG": str(roots.DATA / "config" / "airflow.cfg"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags),
        overrides.PLUGINS: str(settings.project / "plugins"),
        overrides.BUNDLES: str(state.dag_bundles),
        overrides.EXECUTOR: overrides.LAB_EXECUTOR,
        "AIRFLOW__CORE__FERNET_KEY": credentials.fernet_key,
        overrides.TASKS_URL: f"{reached.url('webserver')}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(state.passwords),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__API__HOST": settings.bind,
        "AIRFLOW__API__PORT": str(settings.ports.webserver),
        overrides.BASE_URL: web,
        "AIRFLOW__API__LOG_CONFIG": str(roots.DATA / "config" / "uvicorn.yaml"),
        "AIRFLOW__API__SECRET_KEY": credentials.api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": credentials.jwt_secret,
        # On IPv4 only.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1" if ":" in settings.bind else settings.bind,
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(settings.ports.scheduler),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(state.task_logs),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(state.dag_processor_logs),
        # Celery and Flower read these where `airflow` is not in front of them.
        "CELERY_BROKER_URL": broker,
        # `airflow celery flower` reads these.
        "AIRFLOW__CELERY__FLOWER_HOST": settings.bind,
        "AIRFLOW__CELERY__FLOWER_PORT": str(settings.ports.flower),
        "FLOWER_CONF": str(roots.DATA / "config" / "flowerconfig.py"),
        "FLOWER_ADDRESS": settings.bind,
        "FLOWER_PORT": str(settings.ports.flower),
        "FLOWER_BASIC_AUTH": f"{ADMIN}:{credentials.admin_password}",
        "FLOWER_COOKIE_SECRET": credentials.flower_cookie_secret,
        "FLOWER_DB": str(state.flower_history),
    }
    return own if member is None else {**own, **_of_member(member, state)}


def _of_member(member: Membership, state: State) -> dict[str, str]:
    """Return what is another machine's for the processes of a folder that has joined its lab."""
    broker = membership.broker_url(member, state.main_authority)
    return {
        **member.settings,
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "CELERY_BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": membership.result_backend(member, state.main_authority),
        # A worker of Airflow 3 has no use for the metadata database, and here no way to it.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{state.airflow / 'none.db'}",
        overrides.TASKS_URL: member.execution_api_server_url,
        overrides.BASE_URL: member.base_url,
        # What verifies the api-server: from Airflow 3.3 on this authority and no other, before it this one beside the public ones.
        "AIRFLOW__API__SSL_CA_FILE": str(state.main_authority),
        "AIRFLOW__API__CLIENT_USE_PUBLIC_CERTS": "False",
        "AIRFLOW__API__SSL_CERT": str(state.main_authority),
    }
