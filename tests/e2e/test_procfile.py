"""The Procfile is the cluster: honcho by itself runs it, and editing it changes it."""

from __future__ import annotations

import signal
from pathlib import Path

from airflow_celery_lab.testing import throwaway_lab
from airflow_celery_lab.testing.checkouts import copy_checkout


def test_plain_honcho_runs_an_edited_procfile_with_three_workers_in_a_far_folder_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "Zoë's çolléctiön of labs" / ("x" * 150)
    folder.mkdir(parents=True)
    project = copy_checkout(folder)
    procfile = project / "Procfile"
    procfile.write_text(
        procfile.read_text().replace("--queues high_cpu --concurrency 2", "--queues high_cpu,extra -c 1")
        + "worker-extra: ./lab exec airflow celery worker -q extra -c 1\n"
    )
    instances = ["worker-default", "worker-default-2", "worker-default-3"]

    with throwaway_lab(
        project / "dags", {"LAB_HOME": str(project / ".lab"), "LAB_VENV": str(project / ".venv"), "LC_ALL": "C"}, project
    ) as lab:
        assert "set" in lab.command("doctor").stdout
        lab.up("worker-default=3", command=[str(project / ".venv/bin/honcho"), "start", "-c", "worker-default=3"])

        workers = {worker.name: (worker.queues, worker.concurrency) for worker in lab.cluster.status().workers}
        assert workers == {
            **dict.fromkeys(instances, (["default"], 8)),
            "worker-high-cpu": (["extra", "high_cpu"], 1),
            "worker-extra": (["extra"], 1),
        }
        run = lab.cluster.run("fan_out", {"tasks": 24, "seconds": 3})
        assert {task.worker for task in run.tasks if task.task_id == "work"} == set(instances)
        assert lab.cluster.run("queue_routing").state == "success"
        lab.stop(signal.SIGINT)
