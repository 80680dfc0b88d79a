"""The Procfile is edited while the lab runs in the background."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_celery_lab.cluster import journal
from airflow_celery_lab.testing import ThrowawayLab, pages
from airflow_celery_lab.testing.background import pids, workers
from airflow_celery_lab.wait import wait_until

EXTRA = "worker-extra: ./lab exec airflow celery worker --queues extra --concurrency 1\n"


def test_applying_an_edited_procfile_touches_only_what_differs(background: ThrowawayLab, procfile: Path) -> None:
    cluster = background.cluster
    before = pids(cluster)
    running = cluster.trigger("fan_out", {"tasks": 6, "seconds": 3})
    wait_until(lambda: None if any(worker.running for worker in cluster.status(details=False).workers) else "idle", 30, "a running task")
    procfile.write_text(procfile.read_text().replace("--queues default --concurrency 8", "--queues default,late --concurrency 3") + EXTRA)
    assert "the Procfile differs from what runs" in background.command("status", check=False).stdout

    printed = background.command("apply").stdout

    assert "+ worker-extra" in printed
    assert "~ worker-default" in printed
    after = pids(cluster)
    assert {name for name, pid in after.items() if before.get(name) != pid} == {"worker-default", "worker-extra"}
    workers = {worker.name: (worker.queues, worker.concurrency) for worker in cluster.status(details=False).workers}
    assert workers["worker-default"] == (["default", "late"], 3)
    assert workers["worker-extra"] == (["extra"], 1)
    # The changed worker has finished its tasks first: none of them was tried twice.
    wait_until(lambda: None if cluster.api.run_state("fan_out", running) == "success" else "running", 60, "the run")
    assert {task.try_number for task in cluster.look("fan_out", running).tasks} == {1}
    assert "lab: nothing to do" in background.command("apply").stdout


def test_workers_come_with_the_load_and_end_warm_and_neither_apply_nor_scale_is_in_their_way(
    background: ThrowawayLab, procfile: Path
) -> None:
    cluster = background.cluster
    procfile.write_text(procfile.read_text() + "autoscaler: ./lab exec autoscale worker-default=1..2\n")
    background.command("apply")
    before = pids(cluster)
    run_id = cluster.trigger("fan_out", {"tasks": 40, "seconds": 4})

    wait_until(lambda: None if "worker-default-2" in workers(cluster) else "not there", 60, "one more worker")

    refused, applied = background.command("scale", "worker-default=1", check=False), background.command("apply").stdout
    assert (refused.returncode, "has an autoscaler, which runs 1 to 2 of it" in refused.stderr) == (11, True)
    assert "lab: worker-default stays at 2 workers, as its autoscaler wants\nlab: nothing to do" in applied
    assert "the Procfile differs" not in background.command("status", check=False).stdout
    (line,) = pages.data(cluster)["status"]["autoscaled"]
    expected = {"line": "worker-default", "wanted": 2, "actual": 2, "least": 1, "most": 2, "process": "autoscaler"}
    assert expected.items() <= line.items()
    assert "on 8 slots a worker" in line["why"]
    wait_until(lambda: None if cluster.api.run_state("fan_out", run_id) == "success" else "running", 60, "the run")
    wait_until(lambda: None if pids(cluster) == before else "there still", 90, "the end of the second worker")
    tasks = cluster.look("fan_out", run_id).tasks
    assert ({task.try_number for task in tasks}, {task.worker for task in tasks}) == ({1}, {"worker-default", "worker-default-2"})
    acts = [f"{act.what} {', '.join(act.names)}" for act in journal.read(cluster.lab.state) if act.what.startswith("autoscaler")]
    assert acts == [f"autoscaler {what} worker-default-2" for what in ("added", "drains", "removed")]


def test_a_process_that_cannot_start_is_shown_with_its_last_words(background: ThrowawayLab, procfile: Path) -> None:
    procfile.write_text(procfile.read_text() + "broken: ./lab exec sh -c 'echo the reason; exit 3'\n")

    done = background.command("apply", check=False)

    assert done.returncode == 18
    assert "the reason" in done.stdout
    status = json.loads(background.command("status", "--json", check=False).stdout)
    broken = next(process for process in status["processes"] if process["name"] == "broken")
    assert broken["state"] == "failed"
    assert "status 3" in broken["reason"]
    assert "the reason" in broken["reason"]
