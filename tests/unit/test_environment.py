from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from airflow_celery_lab.configuration import environment, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.configuration.settings import Settings

SECRETS = Credentials("fernet", "jwt", "api", "pg-secret", "redis-secret", "cookie", "admin-secret")


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    (tmp_path / ".env").write_text("GREETING=from-dotenv\nAIRFLOW__CORE__PARALLELISM=64\n")
    return settings.load({}, tmp_path)


def test_what_the_user_sets_for_airflow_reaches_it(config: Settings) -> None:
    variables = environment.of_process(Lab(config, SECRETS), "scheduler", {"AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "7"})

    assert variables["AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT"] == "7"
    assert variables["AIRFLOW__CORE__PARALLELISM"] == "64"


def test_dotenv_is_stronger_than_what_a_shell_happens_to_have(config: Settings) -> None:
    assert environment.of_process(Lab(config, SECRETS), "scheduler", {"GREETING": "from-shell"})["GREETING"] == "from-dotenv"


def test_the_labs_executor_stands_for_airflows_own_under_its_name() -> None:
    def executor(**variables: str) -> str:
        return environment.wiring(Lab(settings.load(variables), SECRETS))["AIRFLOW__CORE__EXECUTOR"]

    assert executor() == "CeleryExecutor:airflow_celery_lab.inside_airflow.executor.LabCeleryExecutor"


def test_a_program_sees_the_settings_that_its_lab_runs_with(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LAB_PORT_OFFSET=100\nLAB_START_TIMEOUT=20\n")
    base = {"LAB_PORT_OFFSET": "200"}
    config = settings.load(base, tmp_path)

    variables = environment.of_process(Lab(config, SECRETS), "scheduler", base)

    assert settings.load(variables, tmp_path) == config


def test_a_program_knows_its_name_and_finds_the_python_of_the_lab(config: Settings) -> None:
    variables = environment.of_process(Lab(config, SECRETS), "worker-a", {"PATH": "/usr/bin"})

    assert variables["LAB_NAME"] == "worker-a"
    assert variables["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/usr/bin"
    assert variables["PYTHONUNBUFFERED"] == "1"


def test_a_command_of_the_user_has_no_name(config: Settings) -> None:
    assert "LAB_NAME" not in environment.of_process(Lab(config, SECRETS), None, {})


@pytest.mark.parametrize(("bind", "host"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
def test_addresses_lead_to_this_labs_servers_with_its_passwords(tmp_path: Path, bind: str, host: str) -> None:
    config = settings.load({"LAB_BIND": bind, "LAB_PORT_OFFSET": "1"}, tmp_path)

    words = environment.wiring(Lab(config, SECRETS))

    database = f"postgresql+psycopg2://airflow:pg-secret@{host}:15433/airflow"
    assert words["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == database
    assert words["AIRFLOW__CELERY__RESULT_BACKEND"] == f"db+{database}"
    assert words["AIRFLOW__CELERY__BROKER_URL"] == words["CELERY_BROKER_URL"] == f"redis://:redis-secret@{host}:16380/0"
    assert words["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"http://{host}:8081/execution/"
    assert (words["AIRFLOW__API__HOST"], words["AIRFLOW__API__PORT"]) == (bind, "8081")
    assert (words["FLOWER_ADDRESS"], words["FLOWER_PORT"]) == (bind, "5556")


def test_all_state_lies_below_the_state_folder(tmp_path: Path) -> None:
    config = settings.load({"LAB_HOME": str(tmp_path / "state")}, tmp_path / "project")

    words = environment.wiring(Lab(config, SECRETS))

    paths = {name: value for name, value in words.items() if value.startswith("/")}
    elsewhere = {name for name, value in paths.items() if not Path(value).is_relative_to(tmp_path / "state")}
    projects = {"AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER"}
    assert elsewhere == {"AIRFLOW_CONFIG", "AIRFLOW__API__LOG_CONFIG", "FLOWER_CONF"} | projects


def test_the_committed_configuration_is_what_airflow_and_flower_read(config: Settings) -> None:
    words = environment.wiring(Lab(config, SECRETS))

    assert words["AIRFLOW_CONFIG"] == str(CHECKOUT / "config" / "airflow.cfg")
    assert Path(words["AIRFLOW_CONFIG"]).is_file()
    assert Path(words["FLOWER_CONF"]).is_file()


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({}, ["localhost", "127.0.0.1", "::1"]),
        ({"NO_PROXY": "intern.test, .corp"}, ["intern.test", ".corp", "localhost", "127.0.0.1", "::1"]),
        ({"no_proxy": "a", "NO_PROXY": "b"}, ["b", "a", "localhost", "127.0.0.1", "::1"]),
        ({"no_proxy": "localhost"}, ["localhost", "127.0.0.1", "::1"]),
        ({"no_proxy": "*"}, ["*"]),
        ({"no_proxy": "a", "NO_PROXY": "*"}, ["*"]),
    ],
)
def test_loopback_is_never_asked_through_a_proxy_and_the_users_exceptions_stay(
    config: Settings, given: dict[str, str], hosts: list[str]
) -> None:
    variables = environment.of_process(Lab(config, SECRETS), "worker-a", {"HTTP_PROXY": "http://proxy.test", **given})

    assert variables["NO_PROXY"] == variables["no_proxy"] == ",".join(hosts)
    assert variables["HTTP_PROXY"] == "http://proxy.test"


def test_an_address_of_the_labs_own_is_not_asked_through_a_proxy_either(tmp_path: Path) -> None:
    lab = Lab(settings.load({"LAB_BIND": "192.168.1.5"}, tmp_path), SECRETS)

    assert environment.of_process(lab, None, {})["no_proxy"].endswith(",192.168.1.5")
