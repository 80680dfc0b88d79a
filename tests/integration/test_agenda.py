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
from uuid import uuid4
from airflow import models
from airflow.models.asset import AssetDagRunQueue
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import Session
from airflow_celery_lab.inside_airflow import agenda

models.import_all_models()
engine = create_engine("sqlite://")
now, hour = datetime.now(timezone.utc), timedelta(hours=1)
run = {"dag_id": "a", "run_id": "r", "run_type": "manual", "run_after": now}
task = {"dag_id": "a", "run_id": "r", "task_id": "t", "map_index": -1, "pool": "p", "dag_version_id": uuid4()}
dag = {"dag_id": "a", "bundle_name": "b", "is_paused": False, "is_stale": False, "next_dagrun_create_after": now - hour}
cases = {
    "nothing": [],
    "a run that waits": [(DagRun, {**run, "state": "queued"})],
    "a run that goes on": [(DagRun, {**run, "state": "running"})],
    "a run that has ended": [(DagRun, {**run, "state": "failed"})],
    "a task that a trigger has woken": [(TaskInstance, {**task, "state": "scheduled"})],
    "a task that runs": [(TaskInstance, {**task, "state": "running"})],
    "a schedule that is due": [(DagModel, dag)],
    "a schedule that is due later": [(DagModel, {**dag, "next_dagrun_create_after": now + hour})],
    "a schedule of a paused DAG": [(DagModel, {**dag, "is_paused": True})],
    "a schedule of a DAG that is gone": [(DagModel, {**dag, "is_stale": True})],
    "an asset that was written": [(AssetDagRunQueue, {"asset_id": 1, "target_dag_id": "a"})],
}
answers, news = {}, []
for name, rows in cases.items():
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        before = session.execute(agenda.NEWS).one()
        for model, values in rows:
            # A task instance is made from a task, which there is none of.
            session.execute(insert(model).values(values)) if model is TaskInstance else session.add(model(**values))
        session.flush()
        answers[name] = bool(session.scalar(agenda.ANYTHING))
        if session.execute(agenda.NEWS).one() != before:
            news.append(name)
    Base.metadata.drop_all(engine)
print(json.dumps([[name for name, answer in answers.items() if answer], news]))
"""


def test_an_idle_scheduler_has_something_to_do_when_a_run_has_not_ended_or_is_due_and_news_when_there_is_more_of_it(
    sandbox: Sandbox,
) -> None:
    variables = environment.of_process(sandbox.lab, "scheduler", sandbox.environ)

    done = subprocess.run([sys.executable, "-c", ASK], env=variables, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    anything, news = json.loads(done.stdout.splitlines()[-1])
    assert anything == ["a run that waits", "a run that goes on", "a schedule that is due", "an asset that was written"]
    assert set(anything) < set(news)
    assert set(news) - set(anything) == {"a run that has ended", "a task that a trigger has woken"}
