"""What a user sets is honoured, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_celery_lab.configuration import environment, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.overrides import ADVICE, FOR_ALL, FREE, LAB_EXECUTOR, MODULES

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
    assert refusals(lab(tmp_path), **{name: "/mine"}) == []
    assert environment.of_process(lab(tmp_path), "scheduler", {name: "/mine"})[name] == "/mine"
    assert environment.of_process(lab(tmp_path, f"{name}=/mine\n"), "scheduler", {name: "/other"})[name] == "/mine"


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


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("airflow__core__parallelism=8", "Airflow reads capital letters only; write AIRFLOW__CORE__PARALLELISM"),
        ("AIRFLOW__CORE_PARALLELISM=8", "it has no section; write AIRFLOW__SECTION__KEY, with two underscores between the three"),
        ("AIRFLOW__WEBSERVER__BASE_URL=http://x", "it is called AIRFLOW__API__BASE_URL now; set that, as far as the lab allows it"),
        ("AIRFLOW__CORE__SQL_ALCHEMY_CONN=sqlite://", "it is called AIRFLOW__DATABASE__SQL_ALCHEMY_CONN now; set that, as far as the lab"),
        ("AIRFLOW__CORE__FERNET_KEY_CMD='cat key'", "all processes need the same one; set AIRFLOW__CORE__FERNET_KEY itself in .env"),
        ("AIRFLOW__CELERY__EXTRA_CELERY_CONFIG={worker: 1}", "it is not JSON (Expecting property name enclosed in double quotes: line 1"),
        ("AIRFLOW__CELERY__EXTRA_CELERY_CONFIG=[]", "it is no JSON object; write for example {"),
        ('AIRFLOW__CELERY__EXTRA_CELERY_CONFIG={"broker_url": "x"}', "the lab sets broker_url for all of its processes; remove it"),
        ("AIRFLOW__CELERY__POOL=threads", "Airflow's tasks set signal handlers, which Python refuses in threads; use prefork or solo"),
        ("AIRFLOW__CELERY__POOL=gevent", "the package gevent is not installed; install it, or use prefork or solo"),
        ("AIRFLOW__CELERY__POOL=fork", "Celery has no pool 'fork'; use prefork or solo"),
        ("_PIP_ADDITIONAL_REQUIREMENTS=pandas", "write the packages into requirements.txt, and remove it"),
        ("AIRFLOW__CELERY__FLOWER_PORT=5556", "set LAB_PORT_OFFSET instead"),
    ],
)
def test_what_would_have_no_effect_or_another_one_is_refused(tmp_path: Path, line: str, reason: str) -> None:
    (told,) = refusals(lab(tmp_path, f"{line}\n"))

    assert told.startswith(f"{line.partition('=')[0]} in .env cannot be used: {reason}")


def test_what_a_copied_file_has_at_its_default_is_no_conflict(tmp_path: Path) -> None:
    own = lab(
        tmp_path,
        "AIRFLOW_UID=50000\nAIRFLOW_PROJ_DIR=.\n_PIP_ADDITIONAL_REQUIREMENTS=\nAIRFLOW__API__SSL_CERT=\nAIRFLOW__CELERY__SSL_ACTIVE=False\n"
        "AIRFLOW__CELERY__WORKER_ENABLE_REMOTE_CONTROL=true\nAIRFLOW__CELERY__POOL=solo\nAIRFLOW__CELERY__WORKER_CONCURRENCY=16\n"
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT=60\nAIRFLOW_CONN_LOWER=http://x\n"
        'AIRFLOW__CELERY__EXTRA_CELERY_CONFIG={"worker_max_tasks_per_child": 10}\n'
        "AIRFLOW__CORE__AUTH_MANAGER=airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager\n",
    )

    assert refusals(own) == []


def test_relative_paths_start_at_the_project_wherever_they_stand_and_a_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.cfg").write_text("[core]\nparallelism = 7\nplugins_folder = plugins\n[logging]\nbase_log_folder = logs\n")
    own = lab(project, "AIRFLOW_CONFIG=mine.cfg\n")
    monkeypatch.chdir(tmp_path)

    for base in ({}, {"AIRFLOW_CONFIG": "elsewhere.cfg"}):
        variables = environment.of_process(own, "scheduler", base)
        assert variables["AIRFLOW__CORE__PARALLELISM"] == "7"
        assert variables["AIRFLOW__CORE__PLUGINS_FOLDER"] == str(project / "plugins")
        assert variables["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] == str(project / "logs")
    absolute = lab(project, "AIRFLOW__CORE__PLUGINS_FOLDER=/srv/plugins\n")
    assert environment.of_process(absolute, "scheduler", {})["AIRFLOW__CORE__PLUGINS_FOLDER"] == "/srv/plugins"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_of_the_users_is_given_to_the_labs_own(tmp_path: Path, name: str) -> None:
    own, variable = MODULES[name]

    variables = environment.of_process(lab(tmp_path, f"{name}=my.module.CONFIG\n"), "scheduler", {})

    assert (variables[name], variables[variable]) == (own, "my.module.CONFIG")
    assert environment.of_process(lab(tmp_path), "scheduler", variables)[variable] == "my.module.CONFIG"
    assert variable not in environment.of_process(lab(tmp_path, f"{name}={own}\n"), "scheduler", {})
