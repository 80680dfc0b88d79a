"""Every port, path and time limit of a lab, read and checked once.

In order of strength: the defaults below, `.env` beside the Procfile, the environment.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from celery_lab.errors import SettingsError

PROJECT = Path(__file__).resolve().parents[2]

#: Postgres and Redis stay clear of 5432 and 6379, where a machine's own servers listen.
#: 8080 and 5555 are Airflow's and Flower's own defaults.
BASE_PORTS = {"postgres": 15432, "redis": 16379, "webserver": 8080, "flower": 5555}

#: Name of a setting, and what it means to a user. `./lab doctor` and the README show the same words.
SETTINGS = {
    "LAB_HOME": "state folder (default .lab)",
    "LAB_DAGS": "folder of DAG files (default dags)",
    "LAB_PORT_OFFSET": "number added to every port (default 0)",
    "LAB_BIND": "address to listen on (default 127.0.0.1)",
    "LAB_START_TIMEOUT": "seconds for the cluster to become ready (default 180)",
    "LAB_STOP_TIMEOUT": "seconds in which a stopping worker may finish its tasks (default 60; in the foreground 2.5)",
    "LAB_LISTENER_TIMEOUT": "seconds after which a task on a queue without a listener fails (default 40; 0: it waits)",
    "LAB_POSTGRES_BIN": "folder that holds postgres and initdb (default: looked for)",
    "LAB_REDIS_SERVER": "path of redis-server or valkey-server (default: looked for)",
    "LAB_VENV": "folder of the Python environment (default .venv)",
    "LAB_PYTHON": "Python that makes the environment (default: looked for)",
}

#: What the `lab` script itself needs.
BEFORE_DOTENV = {"LAB_VENV", "LAB_PYTHON", "LAB_LIBRARIES"}

#: Where this machine's programs are, whichever lab uses them.
MACHINE = ("LAB_PYTHON", "LAB_LIBRARIES", "LAB_POSTGRES_BIN", "LAB_REDIS_SERVER")

#: Set by the lab for its own processes, and the last by flake.nix for the `lab` script; not for users.
INTERNAL = {"LAB_NAME", "LAB_UP_PID", "LAB_LIBRARIES"}


class Ports(NamedTuple):
    """TCP ports of one lab."""

    postgres: int
    redis: int
    webserver: int
    flower: int


class Settings(NamedTuple):
    """What one lab runs with. Times are seconds."""

    home: Path
    dags: Path
    bind: str
    ports: Ports
    start_timeout: float
    stop_timeout: float
    listener_timeout: float  #: 0 for ever
    postgres_bin: Path | None
    redis_server: Path | None
    venv: Path
    dotenv: Mapping[str, str]

    @property
    def client_host(self) -> str:
        """The address at which a client on this machine reaches the lab."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)  # noqa: S104  # nothing is bound here

    def url(self, service: str) -> str:
        """Return the `http://` address of `webserver` or `flower`, without a trailing slash."""
        host = f"[{self.client_host}]" if ":" in self.client_host else self.client_host
        return f"http://{host}:{getattr(self.ports, service)}"


def parse_dotenv(text: str, where: str) -> dict[str, str]:
    """Return the variables of a `.env` file.

    Reads what honcho reads, but refuses what honcho drops or changes without a word.

    Raises:
        SettingsError: a line is not `NAME=value`.

    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z_][A-Za-z_0-9]*)=(.*)", line.strip())
        if match is None:
            raise SettingsError(
                f"{where} line {number} is not NAME=value: {line.strip()!r}; write it without `export` and without spaces around `=`."
            )
        try:
            words = shlex.split(match[2])
        except ValueError as error:
            raise SettingsError(f"{where} line {number} has an open quote: {line.strip()!r}; close it.") from error
        if len(words) > 1:
            raise SettingsError(f"{where} line {number} has a space in its value: {line.strip()!r}; put the value in quotes.")
        values[match[1]] = words[0] if words else ""
    return values


def load(environ: Mapping[str, str], project: Path = PROJECT) -> Settings:
    """Return the settings that `environ` and the project's `.env` give.

    Raises:
        SettingsError: a setting is unknown or has a value that cannot be used.

    """
    dotenv = _read_dotenv(project / ".env")
    merged = {**dotenv, **{name: value for name, value in environ.items() if name.startswith("LAB_")}}
    for name in merged:
        if name.startswith("LAB_") and name not in SETTINGS and name not in INTERNAL:
            import difflib

            close = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(SETTINGS)}."
            raise SettingsError(f"there is no setting {name} (in {'.env' if name in dotenv else 'the environment'}); {hint}")
    if early := sorted(BEFORE_DOTENV.intersection(dotenv)):
        raise SettingsError(f"{early[0]} in .env comes too late, as `lab` needs it before it reads that file; set it in the environment.")
    offset = int(_number(merged, "LAB_PORT_OFFSET", 0, maximum=65535 - max(BASE_PORTS.values())))
    return Settings(
        home=_path(merged, "LAB_HOME", project, ".lab"),
        dags=_path(merged, "LAB_DAGS", project, "dags"),
        bind=_address(merged.get("LAB_BIND") or "127.0.0.1"),
        ports=Ports(**{name: port + offset for name, port in BASE_PORTS.items()}),
        start_timeout=_number(merged, "LAB_START_TIMEOUT", 180, minimum=1),
        stop_timeout=_number(merged, "LAB_STOP_TIMEOUT", 60, minimum=1),
        listener_timeout=_number(merged, "LAB_LISTENER_TIMEOUT", 40),
        postgres_bin=_path(merged, "LAB_POSTGRES_BIN", project) if merged.get("LAB_POSTGRES_BIN") else None,
        redis_server=_path(merged, "LAB_REDIS_SERVER", project) if merged.get("LAB_REDIS_SERVER") else None,
        venv=_path(merged, "LAB_VENV", project, ".venv"),
        dotenv=dotenv,
    )


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}; mend the file or remove it.") from error
    return parse_dotenv(text, ".env")


def _number(values: Mapping[str, str], name: str, default: int, minimum: int = 0, maximum: int = 86400) -> float:
    text = values.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
        raise SettingsError(f"{name}={text} is not a whole number from {minimum} to {maximum}; mend it in .env or the environment.")
    return int(text)


def _path(values: Mapping[str, str], name: str, project: Path, default: str = "") -> Path:
    # Relative to the project for all: commands run anywhere, but honcho and with it the launchers there.
    return Path(os.path.abspath(project / os.path.expanduser(values.get(name) or default)))


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise SettingsError(f"LAB_BIND={text} is not an IP address; use 127.0.0.1 or 0.0.0.0, for example.") from error
