"""Processes are killed, paused and cut off, and the lab says so and recovers."""

from __future__ import annotations

import json

from airflow_celery_lab.cluster.runs import finish
from airflow_celery_lab.testing import AirflowLab, ThrowawayLab
from airflow_celery_lab.testing.background import pids, workers
from airflow_celery_lab.wait import wait_until


def test_a_killed_worker_is_back_within_30_seconds(background: ThrowawayLab) -> None:
    before = background.cluster.records["worker-default"].pid
    background.command("kill", "worker-default")

    def back() -> str | None:
        record = background.cluster.records.get("worker-default")
        return None if record and record.pid != before and "worker-default" in workers(background.cluster) else "away"

    wait_until(back, 30, "the return of worker-default")


def test_a_process_that_is_killed_again_and_again_always_comes_back(background: ThrowawayLab) -> None:
    """Left alone, supervisord gives up after the fourth time within 15 seconds of its start."""
    for _ in range(5):
        wait_until(lambda: None if "flower" in background.cluster.records else "away", 30, "flower")
        background.command("kill", "flower")

    background.cluster.wait_until_ready(30)


def test_a_paused_process_is_shown_as_such_and_goes_on_when_resumed(background: ThrowawayLab) -> None:
    background.command("pause", "worker-high-cpu")
    paused = next(process for process in background.cluster.status(details=False).processes if process.name == "worker-high-cpu")
    background.command("resume", "worker-high-cpu")

    assert (paused.state, paused.ready) == ("paused", False)
    wait_until(lambda: None if background.cluster.status(details=False).ready else "not ready", 20, "the lab")


def test_a_server_that_hangs_does_not_hang_status_which_names_it(background: ThrowawayLab) -> None:
    for name in ("redis", "postgres", "webserver"):
        background.command("pause", name)
        try:
            status = json.loads(background.command("status", "--json", check=False, timeout=30).stdout)
        finally:
            background.command("resume", name)

        assert {process["name"]: process["state"] for process in status["processes"]}[name] == "paused"
        assert not status["ready"]
    background.cluster.wait_until_ready(60)


def test_a_link_of_the_workers_is_slow_and_cut_until_it_is_healed_and_no_other_process_is_touched(background: ThrowawayLab) -> None:
    cluster, workers = background.cluster, {"worker-default", "worker-high-cpu"}
    before = pids(cluster)

    def changed() -> set[str]:
        return {name for name, pid in pids(cluster).items() if before.get(name) != pid}

    mistyped = background.command("slow", "redis", "200", check=False)
    assert (mistyped.returncode, "did you mean 200ms?" in mistyped.stderr) == (10, True)
    told = background.command("slow", "redis", "200ms").stdout
    assert "worker-default, worker-high-cpu start again for that, after their tasks, 30 s at most" in told
    assert changed() == workers | {"links"}

    (cut,) = [link for link in json.loads(background.command("cut", "redis", "--json").stdout) if link["cut"]]
    background.command("kill", "links")
    run_id = cluster.trigger("fan_out", {"tasks": 2, "seconds": 0})
    wait_until(lambda: None if cluster.broker.waiting("default") else "no message", 30, "messages that no worker hears of")
    status = json.loads(background.command("status", "--json", check=False).stdout)
    assert (cut["server"], status["ready"], status["links"][0]) == ("redis", False, cut)
    assert any("the workers' link to redis is cut: " in warning for warning in status["warnings"])
    background.command("heal")
    (task, other) = [task for task in finish(cluster.api, "fan_out", run_id, 60).tasks if task.task_id == "work"]
    assert {(one.state, one.try_number) for one in (task, other)} == {("success", 1)}

    airflow = AirflowLab(cluster, timeout=60, alone=lambda: True)
    airflow.cut("postgres", "webserver")
    assert [link.cut for link in airflow.status().links] == [False, True, True]
    airflow.heal()
    assert "nothing to do" in background.command("apply").stdout
    assert "workers reach Redis, Postgres and the api-server directly" in background.command("heal", "--off").stdout
    assert changed() == workers
    assert not cluster.status(details=False).links
    cluster.wait_until_ready(30)


def test_a_fault_for_a_process_of_another_lab_is_refused(background: ThrowawayLab) -> None:
    for command in ("kill", "pause", "resume"):
        done = background.command(command, "worker-of-another-lab", check=False)
        assert done.returncode == 19
        assert "worker-of-another-lab" in done.stderr


def test_logs_shows_the_last_lines_of_a_process(background: ThrowawayLab) -> None:
    printed = background.command("logs", "worker-default", "-n", "500").stdout

    assert "celery@worker-default ready." in printed
    assert background.command("logs", "nobody", check=False).returncode == 19
