"""The files that a project may have, for those who want to change something."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from airflow_celery_lab.configuration import procfile, roots
from airflow_celery_lab.errors import ProjectError

#: What git must not keep of a project: the state with its secrets, what the user sets, and Python's bytecode.
IGNORED = (".lab/", ".env", "__pycache__/")
#: The DAGs that a project without any begins with.
EXAMPLES = ("parallel_tasks.py", "queue_routing.py")
DOTENV_EXAMPLE = ".env.example"


def write(project: Path) -> dict[str, bool]:
    """Write a Procfile, `.env.example`, lines of `.gitignore` and, where there is no folder `dags`, two DAGs into `project`.

    Return each file's name, and whether it was written: what is there stays as it is.

    Raises:
        ProjectError: a file cannot be written.

    """
    try:
        written = {
            roots.PROCFILE: _create(procfile.path_in(project), lambda path: path.write_text(procfile.default(), encoding="utf-8")),
            DOTENV_EXAMPLE: _create(project / DOTENV_EXAMPLE, lambda path: shutil.copyfile(roots.DATA / DOTENV_EXAMPLE, path)),
            ".gitignore": _ignore(project / ".gitignore"),
        }
        dags = project / roots.DAGS
        if not dags.exists():
            dags.mkdir()
            for name in EXAMPLES:
                written[f"{roots.DAGS}/{name}"] = _create(
                    dags / name, lambda path: shutil.copyfile(roots.DATA / roots.DAGS / path.name, path)
                )
    except OSError as error:
        raise ProjectError(
            f"cannot write {error.filename or project}: {error.strerror}; fix its permissions, or choose another folder.", path=project
        ) from error
    return written


def _create(path: Path, make: Callable[[Path], object]) -> bool:
    if path.exists() or path.is_symlink():
        return False
    make(path)
    return True


def _ignore(path: Path) -> bool:
    """Add what is missing to `path`, and return whether that was anything."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in IGNORED if line not in text.splitlines()]
    if missing:
        newline = "" if not text or text.endswith("\n") else "\n"
        path.write_text(text + newline + "".join(f"{line}\n" for line in missing), encoding="utf-8")
    return bool(missing)
