from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from airflow_celery_lab.cluster import trees
from airflow_celery_lab.launcher.registry import Record

#: A worker's program: below it stands a task, or a process of a pool.
WORKER = """
import subprocess, sys
child = subprocess.Popen([{title!r}, "-c", "print('there', flush=True); input()"], executable=sys.executable, process_group={group})
child.wait()
"""


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[Record]:
    """A worker whose child has the process group and the title that the test says."""
    group, title = request.param
    with subprocess.Popen(
        [sys.executable, "-c", WORKER.format(group=group, title=title)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield Record("worker-a", os.getpid(), process.pid, ["airflow", "celery", "worker"], "none", "running", "", 0.0)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the test's own worker needs process_group")
@pytest.mark.parametrize(
    ("worker", "busy"),
    [((0, "python"), ["worker-a"]), ((None, f"{trees.TASK}01a2"), ["worker-a"]), ((None, "python"), [])],
    ids=["a task", "a task before 3.3", "a process of a pool"],
    indirect=["worker"],
)
def test_a_worker_is_busy_itself_while_a_task_stands_right_below_it(worker: Record, busy: list[str]) -> None:
    assert trees.busy({"worker-a": worker}) == busy


def test_a_worker_that_waits_or_has_ended_is_not_busy() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    record = Record("worker-a", os.getpid(), 0, ["airflow", "celery", "worker"], "none", "waiting", "", 0.0)

    assert trees.busy({"a": record, "b": record._replace(main_pid=gone.pid)}) == []
