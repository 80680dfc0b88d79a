from __future__ import annotations

import pytest

from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.errors import ProcfileError
from airflow_celery_lab.testing import options
from airflow_celery_lab.testing.options import Worker

PROCFILE = """
redis: airflow-celery-lab exec redis
worker-default: airflow-celery-lab exec airflow celery worker --queues default
own: python serve.py
"""


def test_a_worker_is_a_name_its_queues_and_its_slots() -> None:
    workers = options.parse_workers(["worker-io = files, mail:8", "one=default:1"], "--lab-workers")

    assert workers == (Worker("worker-io", ("files", "mail"), 8), Worker("one", ("default",), 1))


@pytest.mark.parametrize(
    "line", ["", "worker-io", "worker-io=files", "worker-io=files:0", "worker-io=:8", "worker io=files:8", "a=b,:8", "a=b:c"]
)
def test_what_is_no_worker_is_refused_with_what_to_write(line: str) -> None:
    with pytest.raises(pytest.UsageError, match=r"^--lab-workers: .* is not NAME = QUEUES:SLOTS; write for example "):
        options.parse_workers([line], "--lab-workers")


def test_a_name_can_stand_once_among_the_workers_and_the_other_processes() -> None:
    with pytest.raises(pytest.UsageError, match=r"^lab_workers names 'a' twice"):
        options.parse_workers(["a=b:1", "a=c:1"], "lab_workers")
    with pytest.raises(ProcfileError, match=r"^lab_workers names a worker 'redis', and so is another process called"):
        options.render(procfile.parse(PROCFILE), [Worker("redis", ("default",), 1)])


def test_the_workers_of_the_options_stand_in_place_of_the_procfiles_own_ones() -> None:
    text = options.render(procfile.parse(PROCFILE), [Worker("worker-io", ("files", "mail"), 8)])

    assert [(line.name, line.service.kind, line.service.queues) for line in procfile.parse(text)] == [
        ("redis", "redis", ()),
        ("own", "own", ()),
        ("worker-io", "worker", ("files", "mail")),
    ]
