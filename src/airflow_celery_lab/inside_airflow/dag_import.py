"""Imports a folder's DAG files, and tells what came of it: DAGs, errors, and the warnings of Python and Airflow."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
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
    files, told = {}, []
    for path in sorted(list_py_file_paths(folder)):
        found = _isolated(DagBag, path)
        files[os.path.relpath(path, folder)] = {"dags": found["dags"], "error": found["error"]}
        told += [_warning(text, path) for text in found["warnings"]]
    return {"airflow": version("apache-airflow-core"), "files": files, "warnings": told}


def _isolated(make: Callable[..., Any], path: str) -> dict[str, Any]:
    """Import one file in a process of its own, as the dag-processor does: files do not change what others see, nor end more than theirs."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_import, args=(make, path, there))
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    except EOFError:
        found = {"dags": [], "error": None, "warnings": []}
    process.join()
    if process.exitcode:
        found["error"] = f"it has ended its process with status {process.exitcode}"
    return found


def _import(make: Callable[..., Any], path: str, answer: Connection) -> None:
    bag = make(dag_folder=path)
    # The keys are paths, which differ between releases; here they are all of this file, or of what is in it.
    answer.send(
        {
            "dags": list(bag.dags),
            "error": "\n".join(bag.import_errors.values()) or None,
            "warnings": [text for texts in bag.captured_warnings.values() for text in texts],
        }
    )


def _warning(text: str, importer: str) -> dict[str, Any]:
    match = WARNING.fullmatch(text)
    file, line, category, message = match.groups() if match else (importer, 0, "Warning", text)
    return {"file": file, "line": int(line), "category": category, "message": message, "importer": importer}
