"""The shortest proof that a lab works on this machine: `lab test -m smoke`. One test, as its steps build on each other."""

from __future__ import annotations

import json

import pytest

from celery_lab.settings import PROJECT
from celery_lab.testing import throwaway_lab


@pytest.mark.smoke
def test_a_lab_comes_up_runs_tasks_where_they_belong_scales_and_leaves_nothing() -> None:
    with throwaway_lab(PROJECT / "dags") as lab:
        for _ in ("the first time", "doing it twice is harmless"):
            assert "lab: ready after" in lab.command("up", "-d", timeout=240).stdout
        assert json.loads(lab.command("status", "--json").stdout)["ready"]

        parallel = json.loads(lab.command("run", "parallel_tasks", "--json").stdout)["tasks"]
        assert max(task["start"] for task in parallel) < min(task["end"] for task in parallel)

        routed = json.loads(lab.command("run", "queue_routing", "--json").stdout)["tasks"]
        assert {(task["queue"], task["worker"]) for task in routed} == {("default", "worker-default"), ("high_cpu", "worker-high-cpu")}

        before = {name: record.pid for name, record in lab.cluster.records.items()}
        lab.command("scale", "worker-default=3")
        workers = json.loads(lab.command("status", "--json").stdout)["workers"]
        assert [worker["name"] for worker in workers if "default" in worker["queues"]] == [
            "worker-default",
            "worker-default-2",
            "worker-default-3",
        ]

        lab.command("apply")
        assert {name: record.pid for name, record in lab.cluster.records.items()} == before

        lab.look()
        lab.command("down")
        assert not lab.cluster.records
        lab.wait_until_gone()
        assert "is not running" in lab.command("down").stdout
