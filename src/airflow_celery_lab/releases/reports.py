"""Reads what an environment has said of a project: of its DAG files, and of its tests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_celery_lab.cluster.dag_files import error_in
from airflow_celery_lab.releases.comparison import ImportedFile, Result, Side, Warned

#: In the path of each installed package. An environment may lie in the project's folder.
PACKAGES = f"{os.sep}site-packages{os.sep}"


def side(name: str, imported: Mapping[str, Any], tested: Mapping[str, Any] | None, project: Path, dags: Path) -> Side:
    """Return what was seen with one release.

    `imported` is from `inside_airflow.dag_import`, `tested` from the pytest plugin `testing.outcomes`, None where no tests were run.
    """
    raw = [*imported["warnings"], *(tested["warnings"] if tested else ())]
    return Side(
        name=name,
        airflow=imported["airflow"],
        files={file: _dag_file(found, dags) for file, found in imported["files"].items()},
        tests=None if tested is None else {test: Result(**found) for test, found in tested["tests"].items()},
        warnings=_warnings(raw, project, dags),
    )


def _dag_file(found: Mapping[str, Any], dags: Path) -> ImportedFile:
    return ImportedFile(sorted(found["dags"]), None if found["error"] is None else error_in(found["error"], dags))


def _warnings(raw: Iterable[Mapping[str, Any]], project: Path, dags: Path) -> list[Warned]:
    """Return each warning once. Tests may import a DAG file again, with a category that an importer has replaced."""
    found: dict[tuple[str, int | None, str], Warned] = {}
    for one in raw:
        if warned := _warned(one, project, dags):
            found.setdefault((warned.file, warned.line, warned.message), warned)
    return list(found.values())


def _warned(one: Mapping[str, Any], project: Path, dags: Path) -> Warned | None:
    """Return a warning that concerns the project's author, None for others: what libraries warn of in each other."""
    path, message, category = Path(one["file"]), str(one["message"]), str(one["category"])
    own = _relative(path, project, dags)
    if own is not None:
        return Warned(own, one["line"], category.rpartition(".")[2], message)
    if not category.startswith("airflow."):
        return None
    # The author is to look into the file that was imported, as the place where Airflow warns says little.
    importer = _relative(Path(one["importer"]), project, dags) if one.get("importer") else None
    return Warned(importer or str(path).rpartition(PACKAGES)[2], None, category.rpartition(".")[2], message)


def _relative(path: Path, *folders: Path) -> str | None:
    if PACKAGES in str(path):
        return None
    # A DAG folder elsewhere keeps its own name.
    bases = [folders[0], *(folder.parent for folder in folders[1:])]
    return next((str(path.relative_to(base)) for folder, base in zip(folders, bases, strict=True) if path.is_relative_to(folder)), None)
