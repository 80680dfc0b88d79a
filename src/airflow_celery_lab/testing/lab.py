"""The fixture `airflow_lab`: a running lab, as tests use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from typing import Any

import pytest

from airflow_celery_lab.cluster import journal
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.cluster.runs import FINAL
from airflow_celery_lab.configuration import environment, links
from airflow_celery_lab.configuration.links import CLEAN, Condition
from airflow_celery_lab.errors import AirflowError, UnknownProcessError
from airflow_celery_lab.testing import shared
from airflow_celery_lab.testing.run import LabRun, told

#: What the lab's journal calls what needs nothing to be put back.
HARMLESS = {"up", "resume", *(f"autoscaler {what}" for what in ("added", "drains", "keeps", "removed"))}


class AirflowLab:
    """A running lab. `cluster` is the handle behind it, with all that the command line does."""

    def __init__(self, cluster: Cluster, timeout: float, alone: Callable[[], bool]) -> None:
        """Use a lab that is ready; `timeout` is in seconds, for each DAG run; `alone` tells whether no other test uses the lab now."""
        self.cluster = cluster
        self.runs: list[LabRun] = []  #: those that tests of this process have started, the oldest first
        self._timeout = timeout
        self._tidied = self._acts()
        self._alone = alone

    def __repr__(self) -> str:
        return f"<Airflow lab at {self.url}>"

    @property
    def url(self) -> str:
        """Airflow's address for a browser, without a trailing slash."""
        return environment.web_url(self.cluster.lab)

    @told
    def run(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        logical_date: date | str | None = None,
        timeout: float | None = None,
    ) -> LabRun:
        """Run a DAG, and return the run when it has ended, however it ended.

        `logical_date` is a date, or ISO 8601; without a zone it is UTC. Without one the run has none, as in Airflow.

        Raises:
            UnknownDagError: there is no such DAG.
            NotReadyError: it has not ended after `timeout` seconds (default: the option `lab_timeout`).
            LabError: as `running`.

        """
        return self.running(dag_id, conf, logical_date=logical_date, timeout=timeout).wait()

    @told
    def running(
        self,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        *,
        logical_date: date | str | None = None,
        timeout: float | None = None,
    ) -> LabRun:
        """Start a run of a DAG, and return it while it goes on; in a `with` block, the block ends when the run has.

        Raises:
            UnknownDagError: there is no such DAG.
            DagFileError: the DAG's file was edited, and cannot be read now.
            AirflowError: Airflow refused the run, for its `conf` for example.

        """
        run_id = self.cluster.trigger(dag_id, _json(conf), logical_date=_moment(logical_date))
        self.runs.append(LabRun(self.cluster, dag_id, run_id, self._timeout if timeout is None else timeout))
        return self.runs[-1]

    @told
    def kill(self, name: str | None) -> None:
        """Kill a process and all that descends from it at one moment, as when a machine is lost; it is started again.

        Raises:
            UnknownProcessError: no process of that name runs.

        """
        self._require_alone("kill")
        self.cluster.kill(_named(name))

    @told
    def pause(self, name: str | None) -> None:
        """Stop a program and all below it, as when a machine hangs.

        Raises:
            UnknownProcessError: no process of that name runs.

        """
        self._require_alone("pause")
        self.cluster.pause(_named(name))

    @told
    def resume(self, name: str | None) -> None:
        """Let a paused program go on.

        Raises:
            UnknownProcessError: no process of that name runs.

        """
        self.cluster.resume(_named(name))

    @told
    def slow(self, server: str, delay: str) -> None:
        """Let each answer of redis, postgres or webserver come later to workers and tasks, by a `delay` such as 200ms.

        Raises:
            LabError: there is no such server, or no such delay.

        """
        self._require_alone("slow")
        self.cluster.spoil_links([server], Condition(delay=links.delay(delay) / 2))

    @told
    def cut(self, *servers: str) -> None:
        """Let nothing get across between workers and redis, postgres or webserver, as without a cable.

        Raises:
            UnknownProcessError: there is no such server.

        """
        self._require_alone("cut")
        self.cluster.spoil_links(servers, Condition(cut=True))

    @told
    def heal(self, *servers: str) -> None:
        """Make links clean again, by default all.

        Raises:
            UnknownProcessError: there is no such server.

        """
        links.require_servers(servers)
        self.cluster.set_links(servers or links.SERVERS, CLEAN)

    @told
    def stop(self, name: str | None) -> None:
        """Stop a process as the command `stop` does: a worker finishes its tasks first.

        Raises:
            UnknownProcessError: the lab has no such process.

        """
        self._require_alone("stop")
        self.cluster.stop([_named(name)])

    @told
    def start(self, name: str | None) -> None:
        """Start a process that was stopped, and wait until it is ready.

        Raises:
            LabError: the lab has no such process, or it did not become ready.

        """
        self.cluster.start([_named(name)])

    @told
    def scale(self, counts: Mapping[str, int]) -> None:
        """Run lines of the Procfile so often as `counts` says, and wait until the new processes are ready.

        Raises:
            LabError: the Procfile has no such line, or one did not become ready.

        """
        self._require_alone("scale")
        self.cluster.scale(counts)

    @told
    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Wait until every process is ready.

        Raises:
            NotReadyError: it took longer than `timeout` seconds; says what was missing.

        """
        self.cluster.wait_until_ready(timeout)

    @told
    def status(self) -> Status:
        """Return what `airflow-celery-lab status` shows."""
        return self.cluster.status()

    @told
    def reset(self) -> None:
        """End and delete all DAG runs with their XComs, and make the processes those of the Procfile.

        Raises:
            LabError: it did not become ready again.

        """
        self._require_alone("reset")
        shared.put_back(self.cluster)
        api = self.cluster.api
        for run in api.runs("queued", "running"):
            api.fail_run(run["dag_id"], run["dag_run_id"])
        for run in api.runs():
            api.delete_run(run["dag_id"], run["dag_run_id"])
        self.runs.clear()
        self._tidied = self._acts()

    def tidy(self, begun: int) -> None:
        """After a test: put back what it has done to the processes, and end those of its runs that go on, from number `begun` on.

        Raises:
            LabError: the lab did not become ready again.

        """
        if self._alone() and self._acts() != self._tidied:
            shared.put_back(self.cluster)
            self._tidied = self._acts()
        for run in self.runs[begun:]:
            if run.state not in FINAL:
                self.cluster.api.fail_run(run.dag_id, run.run_id)

    def _acts(self) -> list[journal.Act]:
        return [act for act in journal.read(self.cluster.lab.state) if act.what not in HARMLESS]

    def _require_alone(self, verb: str) -> None:
        if not self._alone():
            pytest.fail(
                f"`{verb}` changes the lab for the tests that run beside this one: mark the test with @pytest.mark.lab_alone, "
                "and it gets the lab for itself."
            )


def _json(conf: Mapping[str, Any] | None) -> Mapping[str, Any]:
    try:
        json.dumps(conf)
    except (TypeError, ValueError) as error:
        raise AirflowError(f"the run's conf is not JSON: {error}; pass texts, numbers, lists and dicts.") from error
    return conf or {}


def _moment(given: date | str | None) -> str | None:
    if given is None:
        return None
    try:
        when = datetime.fromisoformat(str(given).replace("Z", "+00:00"))
    except ValueError as error:
        raise AirflowError(f"logical_date={given!r} is not ISO 8601; write for example '2026-01-31'.") from error
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).isoformat()


def _named(name: str | None) -> str:
    if name is None:
        raise UnknownProcessError("no worker has had this task yet; wait for it with `run.wait_for(task)`.")
    return name
