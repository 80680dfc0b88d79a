"""The Procfile is the cluster: honcho by itself runs it, and editing it changes it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from celery_lab import runs
from celery_lab.testing import copy_project, throwaway_lab


def test_plain_honcho_runs_three_workers_with_names_of_their_own() -> None:
    with throwaway_lab() as lab:
        honcho = [sys.executable, "-m", "honcho", "start", "-c", "worker-default=3"]
        lab.up("worker-default=3", command=honcho)

        names = ["worker-default", "worker-default-2", "worker-default-3", "worker-high-cpu"]
        assert [worker.name for worker in lab.cluster.status().workers] == names
        run = runs.run(lab.cluster, "fan_out", {"tasks": 12, "seconds": 2})
        assert {task.worker for task in run.tasks if task.task_id == "work"} == set(names[:3])
        lab.stop(signal.SIGINT)


def test_a_far_folder_with_spaces_and_an_edited_procfile_work(tmp_path: Path) -> None:
    folder = tmp_path / "Zoë's çolléctiön of labs" / ("x" * 150)
    folder.mkdir(parents=True)
    project = copy_project(folder)
    procfile = project / "Procfile"
    procfile.write_text(
        procfile.read_text().replace("--queues high_cpu --concurrency 2", "--queues high_cpu,extra -c 1")
        + "worker-extra: ./lab exec airflow celery worker -q extra -c 1\n"
    )

    with throwaway_lab(project / "dags", {"LAB_HOME": str(project / ".lab"), "LAB_VENV": str(project / ".venv")}, project) as lab:
        assert "set" in lab.command("doctor").stdout
        lab.up()

        workers = {worker.name: (worker.queues, worker.concurrency) for worker in lab.cluster.status().workers}
        assert workers["worker-high-cpu"] == (["extra", "high_cpu"], 1)
        assert workers["worker-extra"] == (["extra"], 1)
        assert runs.run(lab.cluster, "queue_routing").state == "success"
        lab.stop(signal.SIGINT)
