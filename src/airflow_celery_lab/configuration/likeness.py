"""What two machines of one lab must have in common: versions, and the DAGs' code."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

#: The packages whose versions both sides compare.
PACKAGES = ("apache-airflow-providers-celery", "celery")


def versions() -> dict[str, str]:
    """Return the versions of this machine's Airflow, Celery and Python (major and minor)."""
    from importlib.metadata import version  # Most commands need none, and not wait for this import.

    return {
        "airflow": version("apache-airflow-core"),
        **{name: version(name) for name in PACKAGES},
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def dags(folder: Path) -> str:
    """Return a hash of what lies in a DAG folder: names and contents, without bytecode and hidden files.

    Raises:
        OSError: a file cannot be read.

    """
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    found = []
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        found += [Path(where, name) for name in names if not name.startswith(".") and not name.endswith(".pyc")]
    return found
