"""A logging class and a Celery configuration of the user's, in the processes that import the lab's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_celery_lab.configuration import environment

from .sandbox import Sandbox

LOGGING = """
from copy import deepcopy
from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG
CONFIG = deepcopy(DEFAULT_LOGGING_CONFIG)
CONFIG["formatters"]["mine"] = {"format": "%(message)s"}
REMOTE_TASK_LOG = None
"""
CELERY = """
from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
CONFIG = {**DEFAULT_CELERY_CONFIG, "worker_max_tasks_per_child": 7, "database_engine_options": {}}
WRONG = {"broker_url": "amqp://"}
NONE = 1
"""
SHOW = """
from airflow.configuration import conf
from airflow.providers.celery.executors.celery_executor_utils import create_celery_app
from airflow_celery_lab.inside_airflow import celery_config, first
print(conf.get("logging", "logging_config_class"))
print("mine" in first.LOGGING_CONFIG["formatters"], first.LOGGING_CONFIG["handlers"]["task"]["class"])
print(*map(celery_config.CELERY_CONFIG.get, ("worker_max_tasks_per_child", "worker_send_task_events")))
print(type(create_celery_app(conf).backend).__name__)
"""


def show(sandbox: Sandbox, text: str) -> subprocess.CompletedProcess[str]:
    """Run SHOW as a process of the lab whose `.env` is `text`."""
    (sandbox.project / "mylog.py").write_text(LOGGING)
    (sandbox.project / "mycelery.py").write_text(CELERY)
    (sandbox.project / ".env").write_text(f"PYTHONPATH={sandbox.project}:{sandbox.project}/src\n{text}")
    variables = environment.of_process(sandbox.lab, "scheduler", sandbox.environ)
    return subprocess.run([sys.executable, "-c", SHOW], env=variables, capture_output=True, text=True, check=False)


def test_the_users_modules_count_and_what_the_lab_needs_stays(sandbox: Sandbox) -> None:
    done = show(sandbox, "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=mylog.CONFIG\nAIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=mycelery.CONFIG\n")

    assert done.stdout.splitlines()[-4:] == [
        "airflow_celery_lab.inside_airflow.first.LOGGING_CONFIG",
        "True airflow_celery_lab.inside_airflow.task_logs.SharedFolderTaskHandler",
        "7 True",
        "ResultBackend",
    ], done.stderr


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=nothere.CONFIG", " cannot be imported: No module named 'nothere'; correct it, or put its"),
        ("AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=mycelery.NONE", " is no dictionary; name one."),
        (
            "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=mycelery.WRONG",
            " changes broker_url, which the lab sets for all of its processes; leave",
        ),
        ("AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=mylog.NOT", " cannot be imported: module 'mylog' has no attribute 'NOT'; correct it, or"),
    ],
)
def test_a_module_that_cannot_be_used_ends_the_process_with_a_sentence(sandbox: Sandbox, line: str, reason: str) -> None:
    done = show(sandbox, f"{line}\n")

    told = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert told.startswith(f"lab: {line.partition('=')[0]}")
    assert reason in told
