"""What the fixture `airflow_lab` gives to tests, on the suite's shared lab; test_wheel.py has it in a project of its own."""

from __future__ import annotations

import pytest

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.errors import AirflowError, NotReadyError, UnknownTaskError
from airflow_celery_lab.testing import AirflowLab


@pytest.fixture
def airflow(lab_cluster: Cluster) -> AirflowLab:
    return AirflowLab(lab_cluster, timeout=90, alone=lambda: True)


def test_a_mapped_task_is_asked_for_by_its_index_and_all_of_it_by_its_id(airflow: AirflowLab) -> None:
    run = airflow.run("fan_out", {"tasks": 10, "seconds": 1})

    assert run.succeeded
    assert run.task("work[3]").map_index == 3
    assert sorted(task.name for task in run.tasks("work")) == [f"work[{number}]" for number in range(10)]
    assert all(task.seconds and task.seconds >= 1 and task.worker == "worker-default" for task in run.tasks("work"))
    # The worker's slots.
    assert 2 <= run.most_at_once("work") <= 8
    assert run.most_at_once(worker="worker-high-cpu") == 0
    assert not run.overlap("items", "work")
    assert run.overlap("work", "work").seconds > 0
    with pytest.raises(UnknownTaskError, match=r"^work is mapped in fan_out: ask for one of them, such as `task\('work\[\d\]'\)`"):
        run.task("work")
    with pytest.raises(UnknownTaskError, match=r"^the run of fan_out has no task 'wrok\[3\]'; did you mean 'work\[3\]'\?$"):
        run.task("wrok[3]")


def test_a_test_waits_for_a_task_and_what_it_has_left_running_is_ended(airflow: AirflowLab) -> None:
    run = airflow.running("worker_loss", {"seconds": 60})

    task = run.wait_for("count", timeout=30)
    assert (task.state, task.worker, task.tries) == ("running", "worker-default", 1)
    assert not run.ended
    with pytest.raises(NotReadyError, match=r"^count of worker_loss is not success after 0\.5 s: count running on worker-default\.$"):
        run.wait_for("count", "success", timeout=0.5)
    with pytest.raises(NotReadyError, match=r"^worker_loss \S+ has not ended after 0\.5 s: count is running\.$"):
        run.wait(timeout=0.5)
    with pytest.raises(ValueError, match=r"^there is no task state 'runing'; did you mean 'running'\?$"):
        run.wait_for("count", "runing")

    airflow.tidy(begun=0)
    assert run.state == "failed"
    with pytest.raises(
        NotReadyError, match=r"^count of worker_loss has ended, and was not seen running: count failed on worker-default\.$"
    ):
        run.wait_for("count")


def test_what_airflow_would_not_take_is_refused_in_one_sentence(airflow: AirflowLab) -> None:
    with pytest.raises(AirflowError, match=r"^the run's conf is not JSON: Object of type set is not JSON serializable; "):
        airflow.run("fan_out", {"tasks": {1}})
    with pytest.raises(AirflowError, match=r"^logical_date='soon' is not ISO 8601; write for example '2026-01-31'\.$"):
        airflow.run("fan_out", logical_date="soon")
