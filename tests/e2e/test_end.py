"""However a lab ends, nothing of it is left; and what it did is still there when it starts again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.testing import leftovers
from airflow_celery_lab.testing.throwaway import ThrowawayLab, throwaway_lab
from airflow_celery_lab.wait import wait_until

#: Begins what Postgres says when it starts: that it was shut down before, or interrupted.
STARTED = "database system was"


@pytest.fixture
def lab(lab_dags: Path, tmp_path: Path) -> Iterator[ThrowawayLab]:
    """A lab to start and end. Its processes have a temporary folder of their own, and it has no kept schema: its first start migrates."""
    folder = Path(mkdtemp(prefix="lab-tmp-"))
    folder.chmod(0o711)
    with throwaway_lab(lab_dags, {"TMPDIR": str(folder), "XDG_CACHE_HOME": str(tmp_path)}) as lab:
        yield lab
    shutil.rmtree(folder)


def left_by(lab: ThrowawayLab) -> set[str]:
    """Return what is in the lab's temporary folder, and on its ports."""
    return leftovers.look(Path(lab.environ["TMPDIR"]), lab.cluster.settings.ports)


def start_a_task_that_escapes(lab: ThrowawayLab, minutes: int) -> str:
    """Run a task with children in a process group and in a session of their own, and return its run's id.

    The children sleep for `minutes`, by which they are known.
    """
    run_id = lab.cluster.trigger("own_process_group", {"seconds": 10, "child": f"{minutes}m"})

    def escaped() -> str | None:
        states = [task.state for task in lab.cluster.look("own_process_group", run_id).tasks]
        sleeping = [command for command in lab.commands().values() if command == ["sleep", f"{minutes}m"]]
        return None if states == ["running"] and len(sleeping) >= 2 else f"the task is {states}, {len(sleeping)} of 2 children run"

    wait_until(escaped, 30, "the task's children")
    return run_id


def honcho(lab: ThrowawayLab) -> psutil.Process:
    assert lab.process is not None
    return next(child for child in psutil.Process(lab.process.pid).children() if "honcho" in child.cmdline())


def shut_down_cleanly(lab: ThrowawayLab) -> bool:
    """Return whether Postgres said so when it started the last time."""
    lines = [line for line in lab.log.read_text().splitlines() if STARTED in line]
    return f"{STARTED} shut down" in lines[-1]


def assert_the_run_goes_on(cluster: Cluster, run_id: str) -> None:
    def ended() -> str | None:
        run = cluster.look("own_process_group", run_id)
        return None if run.state == "success" else f"{run}"

    wait_until(ended, 90, "the interrupted run")
    assert all(task.try_number > 1 for task in cluster.look("own_process_group", run_id).tasks)


def test_ctrl_c_sigterm_and_sigkill_leave_nothing_and_lose_no_run_and_the_next_start_works(lab: ThrowawayLab) -> None:
    before = left_by(lab)
    for moment in ("making the database", "migrating the database schema"):
        interrupt_a_start(lab, lambda words=moment: words in lab.tail(200), f"`{moment}` in the log")  # type: ignore[misc]  # bound at once
        assert left_by(lab) == before

    lab.up()
    assert shut_down_cleanly(lab)
    credentials = lab.cluster.credentials
    finished = lab.cluster.run("fan_out", {"tasks": 1, "seconds": 0})
    interrupted = [start_a_task_that_escapes(lab, minutes=1)]
    memory = leftovers.memory_of(lab.look())
    assert lab.stop(signal.SIGINT) == 130
    assert left_by(lab) == before
    assert memory
    assert leftovers.left(memory) == set()

    lab.up()
    assert shut_down_cleanly(lab)
    assert lab.cluster.api.run_state("fan_out", finished.run_id) == "success"
    assert Cluster.open(lab.environ).credentials == credentials
    assert finished.run_id in flower_history(lab.cluster)
    interrupted.append(start_a_task_that_escapes(lab, minutes=2))
    honcho(lab).kill()
    until_gone(lab)
    assert left_by(lab) == before

    lab.up()
    for run_id in interrupted:
        assert_the_run_goes_on(lab.cluster, run_id)
    assert finished.run_id in flower_history(lab.cluster)
    assert lab.stop(signal.SIGTERM) == 143
    assert left_by(lab) == before

    starts = lab.log.read_text().count(STARTED)
    interrupt_a_start(lab, lambda: lab.log.read_text().count(STARTED) > starts, "Postgres")
    assert shut_down_cleanly(lab)
    lab.up()
    assert shut_down_cleanly(lab)
    assert lab.process is not None
    os.kill(lab.process.pid, signal.SIGKILL)
    until_gone(lab)
    assert left_by(lab) == before


def interrupt_a_start(lab: ThrowawayLab, moment: Callable[[], bool], what: str) -> None:
    lab.up(wait=False)
    wait_until(lambda: None if moment() else "not yet", 30, what, interval=0.01)
    lab.stop(signal.SIGINT)


def until_gone(lab: ThrowawayLab) -> None:
    """Wait for the end of a lab one of whose processes was killed."""
    assert lab.process is not None
    lab.process.wait(timeout=10)
    lab.wait_until_gone()


def flower_history(cluster: Cluster) -> str:
    import httpx

    from airflow_celery_lab.configuration.credentials import ADMIN

    return httpx.get(f"{cluster.settings.url('flower')}/api/tasks", auth=(ADMIN, cluster.credentials.admin_password)).text
