"""What an idle scheduler takes for something to do, asked in a database with Airflow's own tables."""

from __future__ import annotations

import json
import subprocess
import sys

from airflow_celery_lab.configuration import environment

from .sandbox import Sandbox

ASK = """
import json
from datetime import datetime, timedelta, timezone
from airflow import models
from airflow.models.asset import AssetDagRunQueue
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from airflow_celery_lab.inside_airflow import agenda

models.import_all_models()
engine = create_engine("sqlite://")
now, hour = datetime.now(timezone.utc), timedelta(hours=1)
run = {"dag_id": "a", "run_id": "r", "run_type": "manual", "run_after": now}
dag = {"dag_id": "a", "bundle_name": "b", "is_paused": False, "is_stale": False, "next_dagrun_create_after": now - hour}
cases = {
    "nothing": [],
    "a run that waits": [(DagRun, {**run, "state": "queued"})],
    "a run that goes on": [(DagRun, {**run, "state": "running"})],
    "a run that has ended": [(DagRun, {**run, "state": "failed"})],
    "a schedule that is due": [(DagModel, dag)],
    "a schedule that is due later": [(DagModel, {**dag, "next_dagrun_create_after": now + hour})],
    "a schedule of a paused DAG": [(DagModel, {**dag, "is_paused": True})],
    "a schedule of a DAG that is gone": [(DagModel, {**dag, "is_stale": True})],
    "an asset that was written": [(AssetDagRunQueue, {"asset_id": 1, "target_dag_id": "a"})],
}
answers = {}
for name, rows in cases.items():
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(model(**values) for model, values in rows)
        session.flush()
        answers[name] = bool(session.scalar(agenda.QUESTION))
    Base.metadata.drop_all(engine)
print(json.dumps(answers))
"""


def test_an_idle_scheduler_has_something_to_do_when_a_run_has_not_ended_or_is_due(sandbox: Sandbox) -> None:
    variables = environment.of_process(sandbox.lab, "scheduler", sandbox.environ)

    done = subprocess.run([sys.executable, "-c", ASK], env=variables, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert [name for name, answer in json.loads(done.stdout.splitlines()[-1]).items() if answer] == [
        "a run that waits",
        "a run that goes on",
        "a schedule that is due",
        "an asset that was written",
    ]
