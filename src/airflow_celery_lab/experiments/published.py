"""The DAGs that an experiment brings along, in a bundle of their own: there while it runs, and gone after it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from airflow_celery_lab.cluster import runs
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import AlreadyRunningError, LabError, NotReadyError, UnknownDagError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.wait import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self  # The standard library has it from Python 3.11 on.

#: Seconds in which Airflow has read a file that was put there, and in which it has taken back the tasks of a run that was ended.
READ = 45.0
#: Seconds in which it has noticed that a file is gone; it looks every second.
NOTICED = 10.0


@contextmanager
def alone(state: State) -> Iterator[None]:
    """Have the folder of these DAGs to oneself.

    Raises:
        AlreadyRunningError: somebody else has it.

    """
    with state.experiment_lock.open("a", encoding="utf-8") as lock:
        if not registry.try_lock(lock, fcntl.LOCK_EX):
            raise AlreadyRunningError("another `experiment` or `tour` is at work in this lab; wait for its end, or leave it.")
        yield


class Published:
    """Puts DAG files where Airflow finds them, and takes them away with all that Airflow knows of them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._folder = cluster.lab.state.experiment_dags

    def __enter__(self) -> Self:
        # What an experiment has left that was killed.
        self.take_away()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.take_away()

    def put(self, dag_id: str, source: str) -> None:
        """Write a DAG's file, and wait until Airflow has read it.

        Raises:
            NotReadyError: it has not; the user may have given Airflow other bundles than the lab's.

        """
        self.put_all({dag_id: source})

    def put_all(self, sources: Mapping[str, str]) -> None:
        """Write the files of DAGs, each source under its DAG's id, and wait until Airflow has read them.

        Raises:
            NotReadyError: as `put`.

        """
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for dag_id, source in sources.items():
            files.write(self._folder / f"{dag_id}.py", source, mode=0o644)
        advice = "see `[dag_processor] dag_bundle_config_list`, which must have the lab's bundle `experiments`"
        for dag_id in sources:
            wait_until(partial(self._lacks, dag_id), READ, f"the DAG {dag_id}", advice=advice)

    def end(self, dag_id: str) -> None:
        """End the runs of a DAG, and wait until its tasks have ended."""
        for run in self._cluster.api.pages(f"/dags/{dag_id}/dagRuns", "dag_runs"):
            if run["state"] not in runs.FINAL:
                self._cluster.api.fail_run(dag_id, run["dag_run_id"])
        with suppress(NotReadyError):
            wait_until(lambda: self._running(dag_id), READ, f"the end of the tasks of {dag_id}")

    def take_away(self) -> None:
        """End the runs of all DAGs that were put there, also by an experiment that was killed, and delete the DAGs."""
        found = [path.stem for path in self._folder.glob("*.py")]
        for dag_id in found:
            with suppress(LabError):  # Airflow may not have read it yet.
                self.end(dag_id)
        for dag_id in found:
            (self._folder / f"{dag_id}.py").unlink(missing_ok=True)
        # A dag-processor that is about to mark what was deleted meanwhile ends with an error of its database.
        with suppress(LabError):
            wait_until(lambda: ", ".join(dag_id for dag_id in found if not self._lacks(dag_id)) or None, NOTICED, "the end of these DAGs")
        for dag_id in found:
            with suppress(UnknownDagError):
                self._cluster.api.delete_dag(dag_id)
            shutil.rmtree(self._cluster.lab.state.task_logs / f"dag_id={dag_id}", ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _lacks(self, dag_id: str) -> str | None:
        try:
            stale = self._cluster.api.dag(dag_id).get("is_stale", False)
        except UnknownDagError:
            return "Airflow has not read its file yet"
        return "Airflow counts it as deleted" if stale else None

    def _running(self, dag_id: str) -> str | None:
        unfinished = [task for task in self._cluster.api.task_instances(dag_id, "~") if task["state"] in ("running", "queued")]
        return f"{len(unfinished)} go on" if unfinished else None
