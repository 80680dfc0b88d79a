"""Airflow's REST API, as far as the lab uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import environment, membership
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.errors import AirflowError, LabError, ModeError, NotRunningError, UnknownDagError, UnknownRunError

if TYPE_CHECKING:
    import httpx

#: Seconds for one answer: the first one after a start also does work that later ones find done.
TIMEOUT = 15.0
#: Seconds for the health report, which takes milliseconds, and seconds when many tasks start at once.
HEALTH = 5.0
#: Task instances a page; Airflow gives at most 100 whatever is asked for (`[api] maximum_page_limit`).
PAGE = 100


class AirflowApi:
    """A client that logs in when it has to."""

    def __init__(self, lab: Lab) -> None:
        import httpx  # Here and below: most commands do not ask Airflow, and need not wait for this import.

        # Below the path of `[api] base_url`, as behind a proxy; not at its host, which may be a proxy's.
        path = urlsplit(environment.web_url(lab)).path
        self._member = membership.read(lab.state)
        self._http = httpx.Client(base_url=lab.settings.url("webserver") + path, timeout=TIMEOUT, trust_env=False)
        self._password = lab.credentials.admin_password

    def health(self) -> dict[str, Any]:
        """Return what Airflow says of its components, as soon as its answer to a first task would not be a wait of seconds.

        The api-server makes the tasks' API at the first request to it, and answers nothing else meanwhile. One without that
        API (`--apps core`) says so at once.
        """
        self._http.get("/execution/health", timeout=HEALTH)
        response = self._http.get("/api/v2/monitor/health", timeout=HEALTH)
        response.raise_for_status()
        return dict(response.json())

    def jobs(self) -> list[dict[str, Any]]:
        """Return the last jobs that have sent a heartbeat: schedulers, triggerers, dag-processors."""
        return list(self.request("GET", "/jobs", params={"order_by": "-latest_heartbeat", "limit": PAGE}, timeout=HEALTH)["jobs"])

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Return the JSON answer of `/api/v2` + `path`.

        Raises:
            NotRunningError: nobody answers.
            AirflowError: Airflow refuses; its own reason is in the message.

        """
        response = self._send(method, path, **options)
        _check(response)
        return response.json() if response.content else None

    def dag(self, dag_id: str) -> dict[str, Any]:
        """Return the DAG's description.

        Raises:
            UnknownDagError: Airflow does not know it (yet).

        """
        return self._find(f"/dags/{dag_id}", UnknownDagError(dag_id))

    def dag_ids(self) -> list[str]:
        """Return the ids of all DAGs that are there."""
        return [dag["dag_id"] for dag in self.pages("/dags", "dags")]

    def task_ids(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's tasks.

        Raises:
            UnknownDagError: Airflow does not know it (yet).

        """
        return [task["task_id"] for task in self._find(f"/dags/{dag_id}/tasks", UnknownDagError(dag_id))["tasks"]]

    def trigger(self, dag_id: str, conf: Mapping[str, Any], *, logical_date: str | None = None, run_id: str | None = None) -> str:
        """Start a DAG run, unpausing its DAG, and return the run's id: `run_id`, or one that Airflow chooses.

        `logical_date` is in ISO 8601, with its zone.
        """
        if self.dag(dag_id)["is_paused"]:
            self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        asked = {"logical_date": logical_date, "conf": dict(conf), "dag_run_id": run_id}
        run = self.request("POST", f"/dags/{dag_id}/dagRuns", json=asked)
        return str(run["dag_run_id"])

    def newest_run(self, dag_id: str = "~") -> dict[str, Any] | None:
        """Return the DAG run that was made last, of one DAG or of all; None where there is none.

        Raises:
            UnknownDagError: Airflow does not know the DAG.

        """
        found = self._find(f"/dags/{dag_id}/dagRuns", UnknownDagError(dag_id), params={"order_by": "-id", "limit": 1})
        return next(iter(found["dag_runs"]), None)

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a DAG run.

        Raises:
            UnknownRunError: Airflow does not know it.

        """
        return self._find(f"/dags/{dag_id}/dagRuns/{run_id}", UnknownRunError(run_id))

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run: queued, running, success or failed."""
        return str(self.run(dag_id, run_id)["state"])

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """End a DAG run as failed, and with it those of its tasks that run."""
        self.request("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def runs(self, *states: str) -> list[dict[str, Any]]:
        """Return the runs of all DAGs, those in one of `states` alone where any are given."""
        return self.pages("/dags/~/dagRuns", "dag_runs", {"state": states} if states else {})

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a DAG run with its task instances and their XComs."""
        self.request("DELETE", f"/dags/{dag_id}/dagRuns/{run_id}")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the newest try of each task instance of a DAG run."""
        return self.pages(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")

    def tries(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """Return all tries of a task instance."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}{f'/{map_index}' if map_index >= 0 else ''}/tries"
        return list(self.request("GET", path)["task_instances"])

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int = -1) -> list[Any]:
        """Return the log of one try, an item an event."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return list(self.request("GET", path, params={"map_index": map_index, "full_content": True})["content"])

    def events(self, dag_id: str, run_id: str, *kinds: str) -> list[dict[str, Any]]:
        """Return the entries of Airflow's log of events for some kinds of event in a DAG run, the oldest first."""
        wanted = {"dag_id": dag_id, "run_id": run_id, "included_events": kinds, "order_by": "when"}
        return self.pages("/eventLogs", "event_logs", wanted)

    def delete_dag(self, dag_id: str) -> None:
        """Delete all that Airflow knows of a DAG; nothing where it knows none. Its file, if it is still there, brings the DAG back."""
        response = self._send("DELETE", f"/dags/{dag_id}")
        if response.status_code != HTTPStatus.NOT_FOUND:
            _check(response)

    def make_pool(self, name: str, slots: int) -> None:
        """Make a pool."""
        self.request("POST", "/pools", json={"name": name, "slots": slots})

    def delete_pool(self, name: str) -> None:
        """Delete a pool; nothing where there is none."""
        response = self._send("DELETE", f"/pools/{name}")
        if response.status_code != HTTPStatus.NOT_FOUND:
            _check(response)

    def pools(self) -> set[str]:
        """Return the names of the pools that there are."""
        return {pool["name"] for pool in self.pages("/pools", "pools")}

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the DAG files that cannot be read, with their tracebacks."""
        return self.pages("/importErrors", "import_errors")

    def plugin_errors(self) -> list[dict[str, Any]]:
        """Return the plugins that cannot be imported, each with its source and its error."""
        return list(self.request("GET", "/plugins/importErrors")["import_errors"])

    def pages(self, path: str, key: str, query: Mapping[str, str | Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """Return all items below `key` of a listing, over all of its pages."""
        items: list[dict[str, Any]] = []
        while True:
            answer = self.request("GET", path, params={**(query or {}), "limit": PAGE, "offset": len(items)})
            items.extend(answer[key])
            if not answer[key] or len(items) >= answer["total_entries"]:
                return items

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def _find(self, path: str, unknown: LabError, **options: Any) -> dict[str, Any]:
        """Return the JSON answer of a GET; raise `unknown` where Airflow has no such thing."""
        response = self._send("GET", path, **options)
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise unknown
        _check(response)
        return dict(response.json())

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        if self._member is not None:
            raise ModeError(
                f"this folder runs workers for the lab on {self._member.address}, and Airflow is there; type that on that machine."
            )
        try:
            if "Authorization" not in self._http.headers:
                self._log_in()
            response = self._http.request(method, f"/api/v2{path}", **options)
            if response.status_code == HTTPStatus.UNAUTHORIZED:  # The token has expired.
                self._log_in()
                response = self._http.request(method, f"/api/v2{path}", **options)
            return response
        except httpx.TransportError as error:
            raise NotRunningError(
                f"Airflow does not answer at {self._http.base_url} ({error}); start the lab with `{typed()} up`, and see `{typed()} status`."
            ) from error

    def _log_in(self) -> None:
        self._http.headers.pop("Authorization", None)
        response = self._http.post("/auth/token", json={"username": ADMIN, "password": self._password})
        if response.is_error:
            raise AirflowError(f"Airflow refused the log-in of {ADMIN!r} with status {response.status_code}: {_detail(response)}.")
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"


def _check(response: httpx.Response) -> None:
    """Raise an AirflowError when Airflow refuses."""
    if response.is_error:
        request = response.request
        raise AirflowError(f"Airflow refused {request.method} {request.url.path} with status {response.status_code}: {_detail(response)}.")


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:200] or response.reason_phrase
    items = detail if isinstance(detail, list) else [detail]
    told = (str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in items)
    # Of a parameter that a schema refuses, Airflow sends the whole schema after the first line.
    return "; ".join(next(iter(text.strip().splitlines()), "no reason given").rstrip(".") for text in told)
