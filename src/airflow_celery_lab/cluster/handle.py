"""The handle on one lab: what the command line, tests, experiments and notebooks all go through.

It does, waits and returns data. It logs what it does and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_celery_lab.cluster import dag_files, faults, journal, judgement, runs
from airflow_celery_lab.cluster.dag_files import DagFile
from airflow_celery_lab.cluster.linked import Linked
from airflow_celery_lab.cluster.readiness import OnWait, quietly
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.inside_airflow import shared_ids


class Cluster(Linked):
    """One lab, running or not: `up`, `status`, `scale`, `down` and others come from the classes below this one."""

    def kill(self, name: str) -> int:
        """Kill a process with all that descends from it, at one moment; return how many died.

        Raises:
            UnknownProcessError: no process of that name runs.
            NotReadyError: some of them cannot be killed.

        """
        record = self.record(name)
        journal.note(self.lab.state, "kill", [name])
        return faults.kill(record, self.supervisor)

    def pause(self, name: str) -> int:
        """Stop a program and all below it, as a hung machine; return how many.

        Raises:
            UnknownProcessError: no process of that name runs.
            NotReadyError: it has not become its program yet.

        """
        count = faults.pause(self.record(name))
        journal.note(self.lab.state, "pause", [name])
        return count

    def resume(self, name: str) -> int:
        """Let a paused program go on; return how many processes that were.

        Raises:
            UnknownProcessError: no process of that name runs.

        """
        record = self.record(name)
        journal.note(self.lab.state, "resume", [name])
        return faults.resume(record)

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, logical_date: str | None = None, run_id: str | None = None
    ) -> str:
        """Start a run of a DAG, and return the run's id: `run_id`, or one that Airflow chooses.

        Waits a moment for a DAG whose file is new, or was saved just now.

        `logical_date` is in ISO 8601, with its zone; without it the run has none.

        Raises:
            UnknownDagError: there is no such DAG.
            DagFileError: its file cannot be read.
            NotReadyError: Airflow has not parsed the file since it was saved.

        """
        self.wait_until_live(dag_id)
        self.require_dag(dag_id)
        return self.api.trigger(dag_id, conf or {}, logical_date=logical_date, run_id=run_id)

    def require_dag(self, dag_id: str) -> None:
        """Do nothing when there is that DAG; waits a moment for one whose file is new.

        Raises:
            UnknownDagError: there is none.

        """
        runs.require(self.api, self.settings.dags, dag_id)

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 300) -> Run:
        """Run a DAG, and return the run when it has ended, however it ended.

        Raises:
            UnknownDagError: there is no such DAG.
            NotReadyError: it has not ended after `timeout` seconds.

        """
        return runs.finish(self.api, dag_id, self.trigger(dag_id, conf), timeout)

    def dag_files(self) -> list[DagFile]:
        """Return the files in the DAG folder, and what Airflow has made of each."""
        return dag_files.look(self.api, self.settings)

    def wait_until_live(self, dag_id: str, on_wait: OnWait = quietly) -> float:
        """Wait until a DAG runs as it was saved last, and return the seconds that took; 0.0 if it does, or is not known yet.

        Raises:
            DagFileError: its file cannot be read.
            NotReadyError: Airflow has not parsed the file since it was saved.

        """
        return dag_files.wait_until_live(self.api, self.settings, dag_id, on_wait)

    def look(self, dag_id: str, run_id: str) -> Run:
        """Return a run as it is now."""
        return runs.look(self.api, dag_id, run_id)

    def warnings_about(self, dag_id: str) -> list[str]:
        """Return what is known to be wrong with a DAG before it runs: that its id stands in more than one file."""
        files = shared_ids.read(self.settings).get(dag_id)
        return [judgement.shared(dag_id, files)] if files else []

    def follow(self, dag_id: str, run_id: str, on_change: Callable[[Run], None], timeout: float | None = None) -> Run:
        """Watch a run until it has ended, and return it; `on_change` sees each look.

        Raises:
            LabError: Airflow has not answered for a minute, or the lab was stopped.
            NotReadyError: the run has not ended after `timeout` seconds.

        """
        return runs.follow(self.api, dag_id, run_id, on_change, lambda: bool(self.records), timeout)
