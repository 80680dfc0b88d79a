"""What a folder that has joined another machine's lab keeps of it: where that lab is, and what its workers need.

The passwords in it let workers take messages and write results; a file of mode 0600 in the state folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import NotJoinedError, StateFolderError


class Membership(NamedTuple):
    """A folder's place in a lab on another machine."""

    lab: str  #: that lab's name
    machine: str  #: this machine's name in it
    key: str  #: random; tells this folder from another one that calls itself by the same name
    address: str  #: of the main machine
    port: int  #: on which it speaks https
    broker_url: str
    result_backend: str
    execution_api_server_url: str
    settings: Mapping[str, str]  #: Airflow's keys that have to be the same on both machines
    queues: str = ""  #: of the one worker that runs in place of the Procfile's, as `--queues` takes them; "": the Procfile's run
    concurrency: int = 0  #: its slots; 0: as many as Airflow's configuration says

    @property
    def base_url(self) -> str:
        """Where the main machine's api-server is, without a trailing slash."""
        split = urlsplit(self.execution_api_server_url)
        return f"{split.scheme}://{split.netloc}"


def read(state: State) -> Membership | None:
    """Return the membership of the folder, None where it has not joined.

    Raises:
        StateFolderError: the file is damaged.

    """
    try:
        return Membership(**json.loads(state.membership.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StateFolderError(
            f"cannot use {state.membership}: {error}; remove it, and join again with a new token.", path=state.membership
        ) from error


def require(state: State) -> Membership:
    """Return the membership of the folder.

    Raises:
        NotJoinedError: it has not joined.
        StateFolderError: the file is damaged.

    """
    if (found := read(state)) is None:
        raise NotJoinedError(
            f"the folder of {state.home} has not joined another machine's lab; `{typed()} expose` there prints a token to join with.",
            path=state.home,
        )
    return found


def write(state: State, member: Membership, authority: str) -> None:
    """Keep a membership, and the PEM of the certificate `authority` by which the main machine is known.

    Raises:
        StateFolderError: they cannot be written.

    """
    try:
        files.write(state.main_authority, authority)
        files.write(state.membership, json.dumps(member._asdict(), indent=2) + "\n")
    except OSError as error:
        raise StateFolderError(f"cannot write to {error.filename or state.home}: {error.strerror}.", path=state.home) from error


def forget(state: State) -> None:
    """Forget a membership."""
    for path in (state.membership, state.main_authority):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def broker_url(member: Membership, authority: Path) -> str:
    """Return the address of the lab's Redis with its certificate checked, as Celery, Flower and redis-py read it."""
    return _with(member.broker_url, {"ssl_cert_reqs": "required", "ssl_check_hostname": "true", "ssl_ca_certs": str(authority)})


def result_backend(member: Membership, authority: Path) -> str:
    """Return the address of Celery's results with the certificate of Postgres checked; libpq's words, by psycopg2."""
    return _with(
        member.result_backend.replace("db+postgresql://", "db+postgresql+psycopg2://", 1),
        {"sslmode": "verify-full", "sslrootcert": str(authority)},
    )


def _with(url: str, query: Mapping[str, str]) -> str:
    split = urlsplit(url)
    return split._replace(query=urlencode({**dict(parse_qsl(split.query)), **query}, safe="/:@")).geturl()
