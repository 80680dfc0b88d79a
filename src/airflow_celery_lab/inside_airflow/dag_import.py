"""Imports a folder's DAG files, and tells what came of it: DAGs, errors, and the warnings of Python and Airflow."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

#: A warning as Airflow's DagBag keeps it.
WARNING = re.compile(r"(.*?):(\d+): ([\w.]+): (.*)", re.DOTALL)


def examine(folder: Path) -> dict[str, Any]:
    """Return what this environment's Airflow makes of the DAG files in `folder`; its settings are read from the environment.

    `airflow` is the version; `files` has for each file, relative to the folder, the ids in `dags`, and in `error` the
    traceback or None; `warnings` has file, line, category and message of each, and the DAG file that was imported in `importer`.
    """
    from importlib.metadata import version

    # Airflow reads its settings while it is imported.
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ModuleNotFoundError:  # It stands elsewhere in Airflow 3.1.
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    from airflow.utils.file import list_py_file_paths

    # Where the lab's DAGs import from.
    sys.path.append(str(folder))
    # By itself Python passes over deprecations, and tells of each place once.
    warnings.simplefilter("always")
    bag = DagBag(dag_folder=folder)
    found: dict[str, dict[str, Any]] = {_name(path, folder): {"dags": [], "error": None} for path in list_py_file_paths(folder)}
    for dag in bag.dags.values():
        found.setdefault(_name(dag.fileloc, folder), {"dags": [], "error": None})["dags"].append(dag.dag_id)
    for path, trace in bag.import_errors.items():
        found.setdefault(_name(path, folder), {"dags": [], "error": None})["error"] = trace
    return {
        "airflow": version("apache-airflow-core"),
        "files": found,
        "warnings": [_warning(text, path) for path, texts in bag.captured_warnings.items() for text in texts],
    }


def _warning(text: str, importer: str) -> dict[str, Any]:
    match = WARNING.fullmatch(text)
    file, line, category, message = match.groups() if match else (importer, 0, "Warning", text)
    return {"file": file, "line": int(line), "category": category, "message": message, "importer": importer}


def _name(path: str, folder: Path) -> str:
    """Return a path relative to the folder; releases differ in which of the two they give."""
    return os.path.relpath(folder / path, folder)
