"""The shortest proof that a lab works on this machine: `lab test -m smoke`. One test, as its steps build on each other."""

from __future__ import annotations

import json

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing.throwaway import throwaway_lab
from airflow_celery_lab.wait import wait_until


@pytest.mark.smoke
def test_a_lab_comes_up_runs_tasks_where_they_belong_scales_recovers_and_leaves_nothing() -> None:
    with throwaway_lab(CHECKOUT / "dags") as lab:
        assert "lab: ready after" in lab.command("up", "-d", timeout=240).stdout
        before = {name: record.pid for name, record in lab.cluster.records.items()}
        assert "lab: ready" in lab.command("up", "-d").stdout
        assert {name: record.pid for name, record in lab.cluster.records.items()} == before
        assert json.loads(lab.command("status", "--json").stdout)["ready"]

        run = json.loads(lab.command("run", "parallel_tasks", "--json").stdout)
        parallel = run["tasks"]
        assert run["state"] == "success"
        assert sorted(task["task_id"] for task in parallel) == ["a", "b", "c", "d"]
        assert {task["worker"] for task in parallel} == {"worker-default"}
        assert max(task["start"] for task in parallel) < min(task["end"] for task in parallel)

        routed = json.loads(lab.command("run", "queue_routing", "--json").stdout)["tasks"]
        assert {(task["queue"], task["worker"]) for task in routed} == {("default", "worker-default"), ("high_cpu", "worker-high-cpu")}

        assert "+ worker-default-3" in lab.command("scale", "worker-default=3").stdout
        scaled = json.loads(lab.command("status", "--json").stdout)
        assert scaled["ready"]
        assert [worker["name"] for worker in scaled["workers"] if "default" in worker["queues"]] == [
            "worker-default",
            "worker-default-2",
            "worker-default-3",
        ]

        assert "lab: killed worker-default-2" in lab.command("kill", "worker-default-2").stdout
        lab.cluster.wait_until_ready(60)

        assert "- worker-default-3" in lab.command("apply").stdout
        assert {name: record.pid for name, record in lab.cluster.records.items()} == before

        run_id = lab.cluster.trigger("worker_loss", {"seconds": 3})
        wait_until(lambda: None if lab.cluster.look("worker_loss", run_id).tasks[0].state == "running" else "not running", 30, "the task")
        log = lab.cluster.lab.state.process_log("worker-default")
        finished = log.read_text().count("final_state=success")
        lab.look()
        lab.command("down")
        assert not lab.cluster.records
        assert log.read_text().count("final_state=success") == finished + 1
        lab.wait_until_gone()
        assert "is not running" in lab.command("down").stdout
