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
    # Files are named as in the project's folder; a DAG folder elsewhere keeps its own name.
    roots = {project: project, dags: project if dags.is_relative_to(project) else dags.parent}
    return Side(
        name=name,
        airflow=imported["airflow"],
        files={str((dags / file).relative_to(roots[dags])): _dag_file(found, roots[dags]) for file, found in imported["files"].items()},
        tests=None if tested is None else {test: Result(**found) for test, found in tested["tests"].items()},
        warnings=_warnings(raw, roots),
    )


def _dag_file(found: Mapping[str, Any], root: Path) -> ImportedFile:
    return ImportedFile(sorted(found["dags"]), None if found["error"] is None else error_in(found["error"], root))


def _warnings(raw: Iterable[Mapping[str, Any]], roots: Mapping[Path, Path]) -> list[Warned]:
    """Return each warning once. Tests may import a DAG file again, with a category that an importer has replaced."""
    found: dict[tuple[str, int | None, str], Warned] = {}
    for one in raw:
        if warned := _warned(one, roots):
            found.setdefault((warned.file, warned.line, warned.message), warned)
    return list(found.values())


def _warned(one: Mapping[str, Any], roots: Mapping[Path, Path]) -> Warned | None:
    """Return a warning that concerns the project's author, None for others: what libraries warn of in each other."""
    message, category = str(one["message"]), str(one["category"])
    kind = category.rpartition(".")[2]
    if own := _own(one["file"], roots):
        return Warned(own, one["line"], kind, message)
    if not category.startswith("airflow."):
        return None
    # The author is to look into the file that was imported: the place where Airflow warns says little.
    return Warned(_own(one.get("importer", ""), roots) or str(one["file"]).rpartition(PACKAGES)[2], None, kind, message)


def _own(path: str, roots: Mapping[Path, Path]) -> str | None:
    """Return a path below one of the project's folders as it is named, None for a library's."""
    if PACKAGES in path:
        return None
    return next((str(Path(path).relative_to(root)) for folder, root in roots.items() if Path(path).is_relative_to(folder)), None)
