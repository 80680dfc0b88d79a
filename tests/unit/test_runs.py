from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_celery_lab.cluster import runs
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.cluster.waits import Waits
from airflow_celery_lab.errors import LabError, NotRunningError, UnknownDagError, UnknownRunError


class RecordedApi:
    """Gives the answers of one run that Airflow once gave, look by look."""

    def __init__(
        self, looks: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], events: Sequence[Mapping[str, Any]] = (), log: Sequence[Any] = ()
    ) -> None:
        self.looks = list(looks)
        self._events = events
        self._log = log

    def run(self, dag_id: str, run_id: str) -> Mapping[str, Any]:
        return {"dag_id": dag_id, "dag_run_id": run_id, "state": self.looks[0][0], "start_date": "2026-01-01T00:00:00Z"}

    def task_instances(self, _dag_id: str, _run_id: str) -> Sequence[Mapping[str, Any]]:
        return (self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])[1]

    def events(self, _dag_id: str, _run_id: str, *kinds: str) -> Sequence[Mapping[str, Any]]:
        return [event for event in self._events if event["event"] in kinds]

    def log(self, *_which: object) -> Sequence[Any]:
        return self._log

    def pools(self) -> set[str]:
        return {"default_pool"}


def instance(task_id: str, start: str | None, **changes: Any) -> Mapping[str, Any]:
    return {
        "dag_id": "dag",
        "dag_run_id": "run",
        "task_id": task_id,
        "map_index": -1,
        "try_number": 1,
        "state": "success",
        "queue": "default",
        "pool": "default_pool",
        "hostname": "worker-default",
        "scheduled_when": "2026-01-01T00:00:00Z",
        "queued_when": "2026-01-01T00:00:00Z",
        "start_date": start,
        "end_date": None,
        **changes,
    }


def recorded(*looks: tuple[str, Sequence[Mapping[str, Any]]]) -> AirflowApi:
    return cast("AirflowApi", RecordedApi(looks))


def test_tasks_stand_in_the_order_in_which_they_started() -> None:
    instances = [
        instance("late", "2026-01-01T00:00:03Z"),
        instance("never", None),
        instance("early", "2026-01-01T00:00:01Z"),
    ]

    run = runs.look(recorded(("running", instances)), "dag", "run")

    assert [task.task_id for task in run.tasks] == ["early", "late", "never"]


def test_mapped_tasks_that_started_together_stand_in_the_order_of_their_index() -> None:
    instances = [instance("mapped", "2026-01-01T00:00:01Z", map_index=index) for index in (10, 2, 0)]

    run = runs.look(recorded(("running", instances)), "dag", "run")

    assert [task.map_index for task in run.tasks] == [0, 2, 10]


def test_a_task_that_no_worker_has_taken_has_no_worker() -> None:
    (task,) = runs.look(recorded(("running", [instance("waits", None, hostname="", state="queued")])), "dag", "run").tasks

    assert (task.worker, task.state) == (None, "queued")


def test_a_run_is_followed_until_it_has_ended() -> None:
    seen: list[str] = []
    cluster = recorded(("queued", []), ("running", []), ("failed", []))

    result = runs.follow(cluster, "dag", "run", lambda run: seen.append(run.state), interval=0)

    assert seen == ["queued", "running", "failed"]
    assert result.state == "failed"


def event(kind: str, task_id: str, extra: str, **changes: Any) -> Mapping[str, Any]:
    return {"event": kind, "task_id": task_id, "map_index": None, "try_number": 1, "extra": extra, **changes}


def test_a_failed_run_names_the_reasons_of_the_tasks_that_were_given_up() -> None:
    given_up = "Executor X reported that the task instance finished with state failed, but it is queued. Learn more."
    events = [
        event("state mismatch", "unheard", f"{given_up} Extra info: No worker listens.", map_index=3),
        event("heartbeat timeout", "silent", "Task did not emit heartbeat within time limit. See https://airflow.test", try_number=2),
        event("heartbeat timeout", "other", "Task did not emit heartbeat within time limit."),  # Of a try before the last one.
        event("state mismatch", "silent", given_up, try_number=2),
        event("state mismatch", "went_on", given_up),
    ]
    failed = [
        instance("unheard", None, state="failed", map_index=3),
        instance("silent", None, state="failed", try_number=2),
        instance("other", None, state="failed", try_number=2),
        instance("went_on", None),
        instance("not_tried", None, state="upstream_failed"),
    ]
    api = cast("AirflowApi", RecordedApi([("failed", failed)], events, [{"level": "error", "event": "Task not found."}]))

    assert runs.look(api, "dag", "run").reasons == {
        "unheard[3]": "No worker listens.",
        "silent": "Task did not emit heartbeat within time limit.",
        "other": "Task not found",
    }


def test_a_run_that_goes_on_names_the_tasks_whose_dag_cannot_be_loaded_and_reads_their_logs_once() -> None:
    put_off = [instance("f", "2026-01-01T00:00:01Z", state="up_for_reschedule")]
    log = [{"level": "error", "event": "Dag not found during start up", "logger": "task", "path": "gone.py"}]
    memory = runs.Memory(Waits(), {})

    for known in (log, []):
        run = runs.look(cast("AirflowApi", RecordedApi([("running", put_off)], log=known)), "dag", "run", memory)

        assert run.reasons == {"f": "Dag not found during start up (gone.py)"}


def test_a_run_that_goes_on_names_the_tasks_that_wait_for_a_pool_that_is_not_there() -> None:
    waits = [instance("f", None, state="scheduled", pool="gpu"), instance("g", None, state="scheduled")]

    (found,) = runs.look(recorded(("running", waits)), "dag", "run").reasons.items()

    assert found[0] == "f"
    assert found[1].startswith("there is no pool 'gpu'")


class Runs:
    """Airflow's answers about the runs of two DAGs, one of which has none."""

    def newest_run(self, dag_id: str) -> Mapping[str, Any] | None:
        if dag_id == "gone":
            raise UnknownDagError(dag_id)
        return {"dag_id": "ran", "dag_run_id": "second"} if dag_id in {"~", "ran"} else None

    def run(self, dag_id: str, run_id: str) -> Mapping[str, Any]:
        if run_id not in {"first", "second"}:
            raise UnknownRunError(run_id)
        return {"dag_id": dag_id, "dag_run_id": run_id}

    def dag_ids(self) -> list[str]:
        return ["ran", "idle"]

    def import_errors(self) -> list[Any]:
        return []


@pytest.mark.parametrize(("named", "found"), [((None, None), "second"), (("ran", None), "second"), (("ran", "first"), "first")])
def test_the_run_that_is_found_is_the_newest_one_or_the_one_that_is_named(named: tuple[str | None, str | None], found: str) -> None:
    assert runs.find(cast("AirflowApi", Runs()), Path("dags"), *named)["dag_run_id"] == found


@pytest.mark.parametrize(
    ("named", "kind", "told"),
    [
        (("gone", None), UnknownDagError, "there is no DAG 'gone' in dags; there is idle, ran."),
        (("idle", None), UnknownRunError, "idle has not run yet; `airflow-celery-lab run idle` runs it."),
        (("ran", "third"), UnknownRunError, "there is no run 'third' of ran; the newest one is second."),
    ],
)
def test_a_run_that_there_is_not_is_told_with_what_there_is(named: tuple[str, str | None], kind: type[LabError], told: str) -> None:
    with pytest.raises(kind) as error:
        runs.find(cast("AirflowApi", Runs()), Path("dags"), *named)

    assert str(error.value) == told


def test_the_json_of_a_run_names_its_fields() -> None:
    data = runs.look(recorded(("success", [instance("t", "2026-01-01T00:00:01Z")])), "dag", "run").as_json()

    assert set(data) == {"dag_id", "run_id", "state", "tasks", "reasons", "start"}
    assert set(data["tasks"][0]) == {"task_id", "map_index", "try_number", "state", "queue", "worker", "queued", "start", "end", "waited"}


def test_a_run_is_not_followed_any_longer_when_its_lab_was_stopped() -> None:
    class Gone:
        def run(self, _dag_id: str, _run_id: str) -> Mapping[str, Any]:
            raise NotRunningError("Airflow does not answer")

    with pytest.raises(NotRunningError, match=r"^the lab was stopped; the run r goes on when it is started again\.$"):
        runs.follow(cast("AirflowApi", Gone()), "d", "r", lambda _: None, alive=lambda: False)
