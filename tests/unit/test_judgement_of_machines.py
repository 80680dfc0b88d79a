"""What `status` makes of machines that have joined, and of a folder that has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_celery_lab.cluster import judgement
from airflow_celery_lab.cluster.broker import Worker
from airflow_celery_lab.cluster.judgement import Evidence
from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.launcher.lease import Lease, RemoteWorker
from airflow_celery_lab.launcher.registry import Record

ATLAS = Lease("atlas", "k", 7, {"w@atlas": RemoteWorker(1, 2.0, ("default",))}, age=1.0, dags="same")
WELL = Evidence(
    records={},
    postgres=None,
    redis=None,
    health={},
    workers=[Worker("w@atlas", ["default"], 8, 0)],
    queues=[],
    flower=[],
    machines={"atlas": ATLAS},
    dags="same",
)


def test_a_machine_that_lives_is_no_news() -> None:
    assert judgement.judge({}, WELL).warnings == []
    assert judgement.judge({}, replace(WELL, machines={"atlas": ATLAS._replace(left=True, age=50.0)}, workers=[])).warnings == []


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (replace(WELL, machines={"atlas": ATLAS._replace(age=48.0)}), "atlas has not been heard of for 48 s"),
        (replace(WELL, workers=[]), "w@atlas runs and does not answer"),
        (replace(WELL, dags="other"), "the DAG folder on atlas is not this machine's"),
    ],
)
def test_what_is_wrong_with_a_machine_is_warned_of_in_a_sentence(evidence: Evidence, words: str) -> None:
    (warning,) = judgement.judge({}, evidence).warnings

    assert words in warning


def test_nothing_in_a_joined_folder_is_ready_while_the_main_machine_does_not_answer() -> None:
    command = "./lab exec airflow celery worker --queues default"
    record = Record("w@atlas", 1, 2, command.split()[2:], "supervisord", "running", "", 0.0, ("default",))
    away = replace(WELL, records={"w@atlas": record}, redis="Redis of 10.99.0.1: Connection refused", machines={})

    (process,) = judgement.judge({"w@atlas": procfile.service_of(command)}, away).processes

    assert process.reason == away.redis
