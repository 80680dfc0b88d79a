from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from airflow_celery_lab.configuration import coordinators, overrides, services, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.launcher import program
from airflow_celery_lab.launcher.registry import Record, Registration

SECRETS = Credentials("fernet", "jwt", "api", "pg", "redis", "cookie", "admin-secret")


def own_options(command: str) -> list[str]:
    words = command.split()
    return program._own_options(services.describe(words), words, "worker-a")


def test_a_worker_is_given_its_name_and_no_log_server() -> None:
    assert own_options("airflow celery worker --queues a") == ["--celery-hostname", "worker-a", "--skip-serve-logs"]


def test_a_triggerer_is_given_no_log_server() -> None:
    assert own_options("airflow triggerer") == ["--skip-serve-logs"]


@pytest.mark.parametrize("command", ["airflow api-server", "airflow scheduler", "celery flower", "airflow dag-processor", "sh -c true"])
def test_other_programs_run_as_they_are_written(command: str) -> None:
    assert own_options(command) == []


def test_a_worker_may_be_called_as_a_word_of_its_command() -> None:
    words = ["airflow", "celery", "worker"]

    assert program._own_options(services.describe(words), words, "worker") == ["--celery-hostname", "worker", "--skip-serve-logs"]


@pytest.mark.parametrize("name", ["-H mine", "-Hmine", "--celery-hostname mine", "--celery-hostname=mine"])
def test_a_name_that_the_user_gave_is_kept(name: str) -> None:
    assert own_options(f"airflow celery worker {name}") == ["--skip-serve-logs"]


@pytest.mark.parametrize(
    ("command", "variables", "queues"),
    [
        ("airflow celery worker --queues a,b", {}, ["a", "b"]),
        ("airflow celery worker", {}, ["default"]),
        ("airflow celery worker", {"AIRFLOW__OPERATORS__DEFAULT_QUEUE": "mine"}, ["mine"]),
    ],
)
def test_the_labs_coordinator_runs_the_tasks_of_a_workers_queues(command: str, variables: dict[str, str], queues: list[str]) -> None:
    program._choose_coordinator(services.describe(command.split()).queues, variables)

    assert json.loads(variables[coordinators.OF_QUEUES]) == dict.fromkeys(queues, "lab")
    assert json.loads(variables[coordinators.ALL])["lab"]["classpath"] == coordinators.CLASS


@pytest.mark.parametrize("name", [coordinators.ALL, coordinators.OF_QUEUES, f"{coordinators.ALL}_CMD", f"{coordinators.OF_QUEUES}_SECRET"])
def test_coordinators_that_the_user_gave_are_kept(name: str) -> None:
    variables = {name: "{}"}

    program._choose_coordinator(("java",), variables)

    assert variables == {name: "{}"}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("airflow celery worker --skip-serve-logs", ["--celery-hostname", "worker-a"]),
        ("airflow celery worker -H mine --skip-serve-logs", []),
        ("airflow triggerer --skip-serve-logs", []),
    ],
)
def test_an_option_that_the_user_gave_is_not_doubled(command: str, options: list[str]) -> None:
    assert own_options(command) == options


def test_the_first_scheduler_alone_has_the_port_of_the_health_check(tmp_path: Path) -> None:
    state = State(tmp_path)
    lab = Lab(settings.load({}, tmp_path)._replace(state=state), SECRETS)
    running = [
        Registration(state, Record(name, os.getpid(), 0, ["airflow", kind], "none", "waiting", "", 0.0))
        for name, kind in (("scheduler-10", "scheduler"), ("scheduler-2", "scheduler"), ("a-triggerer", "triggerer"))
    ]

    assert [program._is_first("scheduler", name, lab) for name in ("scheduler", "scheduler-2", "scheduler-10")] == [True, True, False]
    for each in running:
        each.release()


@pytest.mark.parametrize(
    ("given", "first", "others"),
    [
        ({}, {"LAB_HEALTH_CHECK": "1"}, {overrides.HEALTH_CHECK: "False"}),
        ({overrides.HEALTH_CHECK: "True"}, {overrides.HEALTH_CHECK: "True"}, {overrides.HEALTH_CHECK: "False"}),
        ({overrides.HEALTH_CHECK: "False"}, {overrides.HEALTH_CHECK: "False"}, {overrides.HEALTH_CHECK: "False"}),
    ],
)
def test_one_scheduler_answers_health_checks_as_the_user_wants_it(
    given: dict[str, str], first: dict[str, str], others: dict[str, str]
) -> None:
    of_first, of_others = dict(given), dict(given)

    program._answer_health_checks(of_first, first=True)
    program._answer_health_checks(of_others, first=False)

    assert (of_first, of_others) == (first, others)


def test_airflow_finds_the_admins_password_where_nobody_else_can_read(tmp_path: Path) -> None:
    program.write_passwords(Lab(settings.load({}, tmp_path)._replace(state=State(tmp_path)), SECRETS))

    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text()) == {"admin": "admin-secret"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
