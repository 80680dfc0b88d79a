"""The random secrets of one lab, made at its first start and kept in one file of mode 0600."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import NamedTuple

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import StateFolderError

ADMIN = "admin"


class Credentials(NamedTuple):
    """Passwords and keys, all of them safe in a URL."""

    fernet_key: str
    jwt_secret: str
    api_secret_key: str
    postgres_password: str
    redis_password: str
    flower_cookie_secret: str
    admin_password: str


def load_or_create(state: State) -> Credentials:
    """Return the secrets of the lab in `state`; make them first where there are none.

    Processes that call this at the same moment get the same secrets: the file appears whole, under
    its final name, by a link that fails when another process was first.

    Raises:
        StateFolderError: the file cannot be written, or holds something else.

    """
    path = state.secrets
    if not path.exists():
        require_abilities(state.home)
    make_private_folder(state.home)
    try:
        if not path.exists():
            state.process_logs.mkdir(mode=0o700, exist_ok=True)  # supervisord by itself wants it.
            _publish(path, json.dumps(_random()._asdict(), indent=2) + "\n")
    except OSError as error:
        raise _unusable(path, error) from error
    return load(state)


def load(state: State) -> Credentials:
    """Return the secrets of the lab in `state`, and write nothing.

    Raises:
        StateFolderError: there are none, or the file holds something else.

    """
    try:
        return Credentials(**json.loads(state.secrets.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(state.secrets, error) from error


def _unusable(path: Path, error: Exception) -> StateFolderError:
    return StateFolderError(
        f"cannot use the secrets in {path}: {error}; fix the file, or run `{typed()} clean` to start with a new lab.", path=path
    )


def make_private_folder(folder: Path) -> None:
    """Create `folder`, readable by its owner alone.

    Raises:
        StateFolderError: it cannot be created or written to.

    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        files.write(probe, "x")
        probe.unlink()
    except OSError as error:
        raise _not_writable(folder, error) from error


def require_abilities(home: Path) -> None:
    """Do nothing when the file system of the state folder, which need not exist yet, can do what a state needs.

    Raises:
        StateFolderError: it cannot, or cannot be written to.

    """
    try:
        lacking = files.lacking(home)
    except OSError as error:
        raise _not_writable(home, error) from error
    if lacking:
        words = " or ".join(filter(None, [", ".join(lacking[:-1]), lacking[-1]]))
        raise StateFolderError(
            f"the file system of the state folder {home} has no {words}, which the lab needs; set LAB_HOME to a folder on another one.",
            path=home,
        )


def _not_writable(folder: Path, error: OSError) -> StateFolderError:
    reason, advice = error.strerror, "fix its permissions"
    if error.errno == errno.EROFS:
        advice = "mount it writable"
    elif error.errno in {errno.ENOSPC, errno.EDQUOT}:
        advice = "free space"
        if files.free_inodes(folder) == 0:
            reason, advice = "it has no inodes left for more files (`df -i`)", "delete files"
    return StateFolderError(
        f"cannot write to the state folder {folder}: {reason}; {advice}, or set LAB_HOME to another folder.", path=folder
    )


def _publish(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        files.write(draft, text)
        os.link(draft, path)
    except FileExistsError:
        pass  # Another process was first: its secrets count.
    finally:
        draft.unlink(missing_ok=True)


def _random() -> Credentials:
    # Needed once in a lab's life; the launchers, which stay, are smaller without.
    import base64
    import secrets

    # 24 bytes are 192 bits. Fernet wants exactly 32 bytes, in base64 with its padding.
    words = {field: secrets.token_urlsafe(24) for field in Credentials._fields}
    words["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    # Signs JWTs with HS512, whose key should have 64 bytes (RFC 7518, section 3.2).
    words["jwt_secret"] = secrets.token_urlsafe(64)
    return Credentials(**words)
