"""Every port, path and time limit of a lab, read and checked once.

From the weakest to the strongest: the defaults below, `.env` in the project, the environment.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from airflow_celery_lab import command
from airflow_celery_lab.configuration import dotenv, roots
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.configuration.suggestion import suggest
from airflow_celery_lab.errors import SettingsError

#: Postgres and Redis stay clear of 5432 and 6379, where a machine's own servers listen.
#: 8080, 8974 and 5555 are Airflow's and Flower's own defaults.
BASE_PORTS = {"postgres": 15432, "redis": 16379, "webserver": 8080, "flower": 5555, "scheduler": 8974}

#: Name of a setting, and what it means to a user. docs/settings.md has them all.
SETTINGS = {
    "LAB_PROJECT": "folder of the project (default: the nearest one upward with a Procfile or dags)",
    "LAB_HOME": "state folder (default .lab)",
    "LAB_DAGS": "folder of DAG files (default dags)",
    "LAB_PROCFILE": "the list of processes (default Procfile, else the one that comes with the lab)",
    "LAB_PORT_OFFSET": "number added to every port (default 0)",
    "LAB_BIND": "address to listen on (default 127.0.0.1)",
    "LAB_START_TIMEOUT": "seconds for the cluster to become ready (default 180)",
    "LAB_STOP_TIMEOUT": "seconds in which a stopping worker may finish its tasks (default 60; in the foreground 2.5)",
    "LAB_LISTENER_TIMEOUT": "seconds after which a task on a queue without a listener fails (default 40; 0: it waits)",
    "LAB_POSTGRES_BIN": "folder that holds postgres and initdb (default: looked for)",
    "LAB_REDIS_SERVER": "path of redis-server or valkey-server (default: looked for)",
    "LAB_SETTINGS_FILE": "file of connections, variables and pools (default airflow_settings.yaml)",
    "LAB_REQUIREMENTS": "file of the packages that the DAGs need (default requirements.txt)",
    "LAB_VENV": "folder of the Python environment (default .venv)",
    "LAB_PYTHON": "Python that makes the environment (default: looked for)",
    "LAB_AIRFLOW": "release of Airflow in the environment (default 3.3)",
}

#: What is needed before `.env` is read: to find it, or to make the environment.
BEFORE_DOTENV = {roots.VARIABLE, "LAB_REQUIREMENTS", "LAB_VENV", "LAB_PYTHON", "LAB_AIRFLOW", "LAB_LIBRARIES"}

#: Where this machine's programs are, and which Airflow they run, whichever lab uses them.
MACHINE = ("LAB_PYTHON", "LAB_AIRFLOW", "LAB_LIBRARIES", "LAB_POSTGRES_BIN", "LAB_REDIS_SERVER")

#: Set by the `lab` script when a lab that runs keeps it from switching to a new Python environment.
NEWER_ENVIRONMENT = "LAB_NEWER"
#: Set by the lab for its own processes, and LAB_LIBRARIES by flake.nix for the `lab` script; not for users.
INTERNAL = {
    "LAB_NAME",
    "LAB_UP_PID",
    "LAB_DEBUG_PORT",
    "LAB_TEMPORARY",
    "LAB_HEALTH_CHECK",
    "LAB_LOGGING_CONFIG",
    "LAB_CELERY_CONFIG",
    command.VARIABLE,
    "LAB_LIBRARIES",
    "LAB_ENVIRONMENT",
    NEWER_ENVIRONMENT,
}


class Ports(NamedTuple):
    """TCP ports of one lab."""

    postgres: int
    redis: int
    webserver: int
    flower: int
    scheduler: int  #: of its health check


class Settings(NamedTuple):
    """What one lab runs with. Times are seconds."""

    project: Path
    state: State
    dags: Path
    procfile: Path | None  #: None: the project's, or the default one where it has none
    settings_file: Path | None  #: None: airflow_settings.yaml in the project, where it has one
    bind: str
    ports: Ports
    start_timeout: float
    stop_timeout: float
    listener_timeout: float  #: 0: such tasks wait
    postgres_bin: Path | None
    redis_server: Path | None
    dotenv: Mapping[str, str]

    @property
    def home(self) -> Path:
        """The state folder."""
        return self.state.home

    @property
    def variables(self) -> dict[str, str]:
        """What of `.env` is for the processes; the rest is the lab's own."""
        return {name: value for name, value in self.dotenv.items() if not name.startswith("LAB_")}

    @property
    def dotenv_print(self) -> int:
        """A number that is another one when `.env` says something else."""
        return zlib.crc32(repr(sorted(self.dotenv.items())).encode())

    @property
    def client_host(self) -> str:
        """The address at which a client on this machine reaches the lab."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)  # noqa: S104  # nothing is bound here

    def url(self, service: str) -> str:
        """Return the `http://` address of `webserver`, `flower` or `scheduler`, without a trailing slash."""
        host = f"[{self.client_host}]" if ":" in self.client_host else self.client_host
        return f"http://{host}:{getattr(self.ports, service)}"


def load(environ: Mapping[str, str], project: Path | None = None) -> Settings:
    """Return the settings that `environ` and the `.env` of `project` give; by default the project is looked for.

    Raises:
        ProjectError: there is no project here.
        SettingsError: a setting is unknown or has a value that cannot be used.

    """
    project = project or roots.find_project(environ)
    variables = dotenv.read(project, environ)
    merged = {**variables, **{name: value for name, value in environ.items() if name.startswith("LAB_")}}
    for name in merged:
        if name.startswith("LAB_") and name not in SETTINGS and name not in INTERNAL:
            hint = suggest(name, SETTINGS, f"the settings are {', '.join(SETTINGS)}.")
            raise SettingsError(
                f"there is no setting {name} (in {'.env' if name in variables else 'the environment'}); {hint}", setting=name
            )
    if early := sorted(BEFORE_DOTENV.intersection(variables)):
        raise SettingsError(
            f"{early[0]} in .env comes too late: it is needed before that file is read; set it in the environment.", setting=early[0]
        )
    offset = int(_number(merged, "LAB_PORT_OFFSET", 0, maximum=65535 - max(BASE_PORTS.values())))
    return Settings(
        project=project,
        state=State(_path(merged, "LAB_HOME", project, ".lab")),
        dags=_path(merged, "LAB_DAGS", project, "dags"),
        procfile=_path(merged, "LAB_PROCFILE", project) if merged.get("LAB_PROCFILE") else None,
        settings_file=_path(merged, "LAB_SETTINGS_FILE", project) if merged.get("LAB_SETTINGS_FILE") else None,
        bind=_address(merged.get("LAB_BIND") or "127.0.0.1"),
        ports=Ports(**{name: port + offset for name, port in BASE_PORTS.items()}),
        start_timeout=_number(merged, "LAB_START_TIMEOUT", 180, minimum=1),
        stop_timeout=_number(merged, "LAB_STOP_TIMEOUT", 60, minimum=1),
        listener_timeout=_number(merged, "LAB_LISTENER_TIMEOUT", 40),
        postgres_bin=_path(merged, "LAB_POSTGRES_BIN", project) if merged.get("LAB_POSTGRES_BIN") else None,
        redis_server=_path(merged, "LAB_REDIS_SERVER", project) if merged.get("LAB_REDIS_SERVER") else None,
        dotenv=variables,
    )


def _number(values: Mapping[str, str], name: str, default: int, minimum: int = 0, maximum: int = 86400) -> float:
    text = values.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
        raise SettingsError(
            f"{name}={text} is not a whole number from {minimum} to {maximum}; correct it in .env or the environment.", setting=name
        )
    return int(text)


def _path(values: Mapping[str, str], name: str, project: Path, default: str = "") -> Path:
    # Relative to the project for everybody: a command may be typed in any folder, honcho's processes run there.
    return Path(os.path.abspath(project / os.path.expanduser(values.get(name) or default)))


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise SettingsError(f"LAB_BIND={text} is not an IP address; use 127.0.0.1 or 0.0.0.0, for example.", setting="LAB_BIND") from error
