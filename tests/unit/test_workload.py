from __future__ import annotations

import json

import pytest

from airflow_celery_lab.inside_airflow import workload

TASK = {"dag_id": "etl", "task_id": "load", "run_id": "manual__1", "try_number": 2, "map_index": -1}


def body(argument: object) -> tuple[list[object], dict[str, object], dict[str, object]]:
    return [argument], {}, {}


def test_a_task_is_named_with_its_run_and_try() -> None:
    assert workload.describe(body(json.dumps({"token": "secret", "ti": TASK}))) == "etl.load run manual__1 try 2"


def test_a_mapped_task_is_named_with_its_index() -> None:
    assert workload.describe(body(json.dumps({"token": "secret", "ti": {**TASK, "map_index": 0}}))) == "etl.load[0] run manual__1 try 2"


@pytest.mark.parametrize("argument", [json.dumps({"token": "secret", "callback": {}}), "secret", None, json.dumps(["secret"])])
def test_what_is_no_task_is_not_quoted(argument: object) -> None:
    assert workload.describe(body(argument)) == "a workload that is no task"


def test_a_message_without_arguments_is_no_task() -> None:
    assert workload.describe(([], {}, {})) == "a workload that is no task"
