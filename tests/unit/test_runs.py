from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from airflow_celery_lab.cluster import runs
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.errors import NotRunningError


class RecordedApi:
    """Gives the answers of one run that Airflow once gave, look by look."""

    def __init__(self, looks: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> None:
        self.looks = list(looks)

    def run_state(self, _dag_id: str, _run_id: str) -> str:
        return self.looks[0][0]

    def task_instances(self, _dag_id: str, _run_id: str) -> Sequence[Mapping[str, Any]]:
        return (self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])[1]

    def events(self, _dag_id: str, _run_id: str, event: str) -> Sequence[Mapping[str, Any]]:
        given_up = "Executor X reported that the task instance finished with state failed, but it is queued. Learn more."
        return [
            {"event": event, "task_id": "vanished", "map_index": None, "extra": given_up},
            {"event": event, "task_id": "unheard", "map_index": 3, "extra": f"{given_up} Extra info: No worker listens."},
        ]


def instance(task_id: str, start: str | None, **changes: Any) -> Mapping[str, Any]:
    return {
        "task_id": task_id,
        "map_index": -1,
        "try_number": 1,
        "state": "success",
        "queue": "default",
        "hostname": "worker-default",
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


def test_a_failed_run_names_the_reasons_that_the_executor_gave() -> None:
    assert runs.look(recorded(("failed", [])), "dag", "run").reasons == {"unheard[3]": "No worker listens."}
    assert runs.look(recorded(("success", [])), "dag", "run").reasons == {}


def test_the_json_of_a_run_names_its_fields() -> None:
    data = runs.look(recorded(("success", [instance("t", "2026-01-01T00:00:01Z")])), "dag", "run").as_json()

    assert set(data) == {"dag_id", "run_id", "state", "tasks", "reasons"}
    assert set(data["tasks"][0]) == {"task_id", "map_index", "try_number", "state", "queue", "worker", "queued", "start", "end"}


def test_a_run_is_not_followed_any_longer_when_its_lab_was_stopped() -> None:
    class Gone:
        def run_state(self, _dag_id: str, _run_id: str) -> str:
            raise NotRunningError("Airflow does not answer")

    with pytest.raises(NotRunningError, match=r"^the lab was stopped; the run r goes on when it is started again\.$"):
        runs.follow(cast("AirflowApi", Gone()), "d", "r", lambda _: None, alive=lambda: False)
