"""What a task's supervisor asks the api-server, which is a function here: Airflow's client hands it each request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from airflow_celery_lab.configuration import roots

#: Supervises a process that goes on saying a word, until a heartbeat or for that many seconds, and prints what the api-server was asked.
#: That is a function here.
PROGRAM = """
import json, os, signal, sys, time, uuid
import httpx
from airflow.executors.workloads.base import BundleInfo
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import DagRun, TaskInstance
from airflow.sdk.execution_time.supervisor import ActivitySubprocess
from airflow_celery_lab.inside_airflow.coordinator import Supervisor

asked = []
run = {"dag_id": "d", "run_id": "r", "run_type": "manual", "state": "running", "clear_number": 0, "consumed_asset_events": []}
times = dict.fromkeys(("run_after", "start_date"), "2026-01-01T00:00:00Z")
context = {"dag_run": {**dict.fromkeys(DagRun.model_fields), **run, **times}, "max_tries": 0, "should_retry": False}

def answer(request):
    asked.append(request.url.path.rpartition("/")[2])
    if asked[-1] == "heartbeat":
        end()
    return httpx.Response(200, json=context)

def end(*_):
    os.kill(process.pid, signal.SIGKILL)
    print("asked:", json.dumps(asked), flush=True)
    os._exit(0)

def task():
    while True:
        print("a word", flush=True)
        time.sleep(0.1)

what = TaskInstance(id=uuid.uuid4(), task_id="t", dag_id="d", run_id="r", try_number=1, dag_version_id=uuid.uuid4(), pool_slots=1,
                    queue="default", priority_weight=1)
kind = {"lab": Supervisor, "airflow": ActivitySubprocess}[sys.argv[1]]
client = Client(base_url="http://nowhere", token="", transport=httpx.MockTransport(answer))
process = kind.start(what=what, dag_rel_path="d.py", bundle_info=BundleInfo(name="b", version=None), client=client, target=task)
signal.signal(signal.SIGALRM, end)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
process.wait()
"""


@pytest.mark.skipif(
    tuple(map(int, metadata.version("apache-airflow-core").split(".")[:2])) < (3, 3), reason="coordinators came with Airflow 3.3"
)
@pytest.mark.parametrize(
    ("kind", "interval", "seconds", "expected"),
    [("airflow", 60, 60, ["run", "heartbeat"]), ("lab", 60, 2, ["run"]), ("lab", 1, 60, ["run", "heartbeat"])],
)
def test_the_first_heartbeat_comes_an_interval_after_the_start_and_not_with_the_first_word(
    tmp_path: Path, kind: str, interval: int, seconds: float, expected: list[str]
) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "LAB_"))} | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": str(interval),
        "PYTHONPATH": str(roots.DATA / "src"),
    }

    done = subprocess.run([sys.executable, "-c", PROGRAM, kind, str(seconds)], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("asked:")]
    assert json.loads(line.removeprefix("asked:")) == expected
