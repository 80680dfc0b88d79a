"""What a user sets is honoured, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_celery_lab.configuration import environment, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.overrides import ADVICE, FOR_ALL, FREE, LAB_EXECUTOR

SECRETS = Credentials("fernet", "jwt", "api", "pg-secret", "redis-secret", "cookie", "admin-secret")


def lab(project: Path, text: str = "") -> Lab:
    (project / ".env").write_text(text)
    return Lab(settings.load({}, project), SECRETS)


def refusals(own: Lab, **environ: str) -> list[str]:
    return [str(problem) for problem in environment.conflicts(own.settings, environ)]


def wired(own: Lab) -> list[str]:
    return [name for name in environment.wiring(own) if name not in FREE | FOR_ALL | {"AIRFLOW_CONFIG"}]


def test_each_key_that_the_lab_must_set_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    own = lab(tmp_path)

    for name in (*wired(own), *ADVICE):
        (told,) = refusals(own, **{name: "mine"})
        assert told.startswith(f"{name} in the environment cannot be used: ")
        (told,) = refusals(lab(tmp_path, f"{name}=mine\n"))
        assert told.startswith(f"{name} in .env cannot be used: ")


@pytest.mark.parametrize("variant", ["_CMD", "_SECRET"])
def test_airflows_other_ways_to_set_a_key_are_refused_too(tmp_path: Path, variant: str) -> None:
    (told,) = refusals(lab(tmp_path), **{f"AIRFLOW__CELERY__BROKER_URL{variant}": "echo amqp://"})

    assert told == f"AIRFLOW__CELERY__BROKER_URL{variant} in the environment cannot be used: the lab runs its own Redis; unset it."


@pytest.mark.parametrize("name", sorted(FREE - {"AIRFLOW__CORE__EXECUTOR"}))
def test_what_nothing_depends_on_is_the_users(tmp_path: Path, name: str) -> None:
    assert refusals(lab(tmp_path), **{name: "mine"}) == []
    assert environment.of_process(lab(tmp_path), "scheduler", {name: "mine"})[name] == "mine"
    assert environment.of_process(lab(tmp_path, f"{name}=mine\n"), "scheduler", {name: "other"})[name] == "mine"


@pytest.mark.parametrize("name", sorted(FOR_ALL))
def test_a_key_that_all_processes_must_have_alike_counts_in_dotenv_and_nowhere_else(tmp_path: Path, name: str) -> None:
    assert environment.of_process(lab(tmp_path, f"{name}=mine\n"), "scheduler", {})[name] == "mine"
    assert refusals(lab(tmp_path, f"{name}=mine\n")) == []
    assert refusals(lab(tmp_path), **{name: "mine"}) == [
        f"{name} in the environment cannot be used: every process needs the same one; set it in .env."
    ]


def test_tasks_find_the_api_server_below_the_path_of_the_users_address(tmp_path: Path) -> None:
    own = lab(tmp_path, "AIRFLOW__API__BASE_URL=https://proxy.test/team/airflow/\nLAB_PORT_OFFSET=1\n")

    variables = environment.of_process(own, "scheduler", {})

    assert variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8081/team/airflow/execution/"
    assert environment.web_url(own) == "https://proxy.test/team/airflow"


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ("CeleryExecutor", LAB_EXECUTOR),
        ("CeleryExecutor,LocalExecutor", f"{LAB_EXECUTOR},LocalExecutor"),
        ("LocalExecutor, CeleryExecutor", f"LocalExecutor,{LAB_EXECUTOR}"),
    ],
)
def test_a_list_of_executors_keeps_the_labs_own_under_airflows_name(tmp_path: Path, value: str, becomes: str) -> None:
    own = lab(tmp_path, f"AIRFLOW__CORE__EXECUTOR={value}\n")

    assert refusals(own) == []
    assert environment.of_process(own, "scheduler", {})["AIRFLOW__CORE__EXECUTOR"] == becomes


def test_an_executor_without_celery_is_refused(tmp_path: Path) -> None:
    assert refusals(lab(tmp_path, "AIRFLOW__CORE__EXECUTOR=LocalExecutor\n")) == [
        "AIRFLOW__CORE__EXECUTOR in .env cannot be used: the lab's workers need CeleryExecutor in it; add it."
    ]


def test_a_configuration_file_of_the_users_counts_over_the_labs_and_under_single_keys(tmp_path: Path) -> None:
    file = tmp_path / "mine.cfg"
    file.write_text("[core]\nparallelism = 7\nmax_active_tasks_per_dag = 5\n[logging]\nlog_format = %%(message)s\n")
    own = lab(tmp_path, "AIRFLOW__CORE__PARALLELISM=9\n")

    variables = environment.of_process(own, "scheduler", {"AIRFLOW_CONFIG": str(file)})

    assert refusals(own, AIRFLOW_CONFIG=str(file)) == []
    assert variables["AIRFLOW__CORE__PARALLELISM"] == "9"
    assert variables["AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG"] == "5"
    assert variables["AIRFLOW__LOGGING__LOG_FORMAT"] == "%(message)s"
    assert variables["AIRFLOW_CONFIG"] != str(file)


def test_a_key_that_is_refused_is_refused_in_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.cfg"
    file.write_text("[celery]\nbroker_url = amqp://\n")

    assert refusals(lab(tmp_path), AIRFLOW_CONFIG=str(file)) == [
        f"AIRFLOW__CELERY__BROKER_URL in {file} cannot be used: the lab runs its own Redis; unset it."
    ]


@pytest.mark.parametrize("text", [None, "no section", "[core\n"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "mine.cfg"
    if text is not None:
        file.write_text(text)

    (told,) = refusals(lab(tmp_path), AIRFLOW_CONFIG=str(file))
    assert told.startswith(f"cannot read {file}, which AIRFLOW_CONFIG names: ")


def test_what_a_process_of_the_lab_has_in_its_environment_is_the_labs_own(tmp_path: Path) -> None:
    own = lab(tmp_path)
    inside = environment.of_process(own, "worker-a", {})

    assert refusals(own, **inside) == []
    assert environment.of_process(own, "worker-a", inside) == inside


def test_the_default_queue_is_where_a_worker_without_queues_listens(tmp_path: Path) -> None:
    assert environment.default_queue(lab(tmp_path), {}) == "default"
    assert environment.default_queue(lab(tmp_path, "AIRFLOW__OPERATORS__DEFAULT_QUEUE=lite\n"), {}) == "lite"
    assert environment.default_queue(lab(tmp_path), {"AIRFLOW__OPERATORS__DEFAULT_QUEUE": "lite"}) == "lite"
