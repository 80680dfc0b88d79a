"""What an idle scheduler takes for something to do, asked in a database with Airflow's own tables."""

from __future__ import annotations

import json
import subprocess
import sys

from airflow_celery_lab.configuration import environment
from airflow_celery_lab.servers import probes

from .sandbox import Sandbox, until

ASK = """
import json
from datetime import datetime, timedelta, timezone
from uuid import uuid4
from airflow import models, settings
from airflow.models.asset import AssetDagRunQueue
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import delete, insert
from airflow_celery_lab.inside_airflow.agenda import Agenda

models.import_all_models()
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
anything, news = [], []
agenda = Agenda()
for table in Base.metadata.tables.values():
    table.constraints -= table.foreign_key_constraints  # The rows stand alone: no DAG, no run of a task.
Base.metadata.create_all(settings.engine)
for name, rows in cases.items():
    agenda.await_news(0, 0)
    with create_session() as session:
        for model, values in rows:
            # A task instance is made from a task, which there is none of.
            session.execute(insert(model).values(values)) if model is TaskInstance else session.add(model(**values))
    if agenda.rest(0, 0):
        anything.append(name)
    if agenda.await_news(0, 0):
        news.append(name)
    with create_session() as session:
        for model, _ in rows:
            session.execute(delete(model))
print(json.dumps([anything, news]))
"""


def test_an_idle_scheduler_has_something_to_do_when_a_run_has_not_ended_or_is_due_and_news_when_there_is_more_of_it(
    sandbox: Sandbox,
) -> None:
    postgres = sandbox.start("postgres", "postgres")
    until(lambda: probes.postgres(sandbox.lab) is None, "Postgres")
    variables = environment.of_process(sandbox.lab, "scheduler", sandbox.environ)

    done = subprocess.run([sys.executable, "-c", ASK], env=variables, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "ERROR" not in postgres.output
    anything, news = json.loads(done.stdout.splitlines()[-1])
    assert anything == ["a run that waits", "a run that goes on", "a schedule that is due", "an asset that was written"]
    assert set(anything) < set(news)
    assert set(news) - set(anything) == {"a run that has ended", "a task that a trigger has woken"}
