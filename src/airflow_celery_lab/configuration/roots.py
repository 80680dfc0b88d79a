"""The three roots: the data that comes with the package, the user's project, and the state that a lab writes.

Data and project are found here. The state's folder is a setting (LAB_HOME), and its names stand in `state`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from airflow_celery_lab.command import typed
from airflow_celery_lab.errors import ProjectError

#: Names the project; relative to the current folder.
VARIABLE = "LAB_PROJECT"
#: What makes a folder a project.
PROCFILE, DAGS = "Procfile", "dags"

_PACKAGE = Path(__file__).resolve().parents[1]


def _find_data() -> Path:
    packaged = _PACKAGE / "data"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1]


#: Holds `config/`, `dags/`, the default `Procfile` and `.env.example`: the top of a checkout, or the folder in
#: the package where the build of a wheel puts the same files.
DATA = _find_data()


#: Goes on the api-server's path: holds the metadata by which Airflow finds the lab's plugin, as it finds that of an installed package.
PLUGIN = _PACKAGE / "web" / "metadata"


def checkout() -> Path | None:
    """Return the checkout that this package runs from, None when it is installed."""
    return DATA if (DATA / "src").is_dir() else None


def cache() -> Path | None:
    """Return the folder for what spares time and may be deleted at any moment; None for a user without a home. It may be missing."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-celery-lab"
    except RuntimeError:
        return None


def find_project(environ: Mapping[str, str]) -> Path:
    """Return LAB_PROJECT, or the nearest folder upward from the current one that holds a Procfile or `dags/`.

    Where there is none, a checkout's own command uses the checkout.

    Raises:
        ProjectError: there is none, or LAB_PROJECT is no folder.

    """
    if named := environ.get(VARIABLE):
        path = Path(os.path.abspath(os.path.expanduser(named)))
        if not path.is_dir():
            raise ProjectError(
                f"LAB_PROJECT={named} is not a folder; name the folder of your project, or unset it.", path=path, setting=VARIABLE
            )
        return path
    here = _current_folder()
    for folder in (here, *here.parents):
        if is_project(folder):
            return folder
    if own := checkout():
        return own
    raise ProjectError(
        f"there is no Procfile and no folder `dags` in {here} or above it; change into your project, set LAB_PROJECT, or run `{typed()} init`.",
        path=here,
    )


def is_project(folder: Path) -> bool:
    """Return whether `folder` holds what makes a project."""
    return (folder / PROCFILE).is_file() or (folder / DAGS).is_dir()


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise ProjectError("the current folder has been deleted; change into another one.") from error
