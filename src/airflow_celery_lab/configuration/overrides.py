"""What of the lab's own wiring a user may change, and what is refused by name. Data and rules, but for `read_file`.

A key may stand in `.env`, in the environment, or in a configuration file of the user's that AIRFLOW_CONFIG names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_celery_lab.configuration import dotenv, names
from airflow_celery_lab.errors import SettingsError

CONFIG, EXECUTOR = "AIRFLOW_CONFIG", "AIRFLOW__CORE__EXECUTOR"
PLUGINS = "AIRFLOW__CORE__PLUGINS_FOLDER"
#: Where bundles keep what they fetch, such as a repository. Airflow's own place would be one for all labs of the machine.
BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"
HEALTH_CHECK = "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK"
#: The executor of Airflow's that the lab's stands in for, under its name (`@task(executor="CeleryExecutor")`).
CELERY_EXECUTOR = "CeleryExecutor"
LAB_EXECUTOR = f"{CELERY_EXECUTOR}:airflow_celery_lab.inside_airflow.executor.LabCeleryExecutor"

#: The user's value counts: nothing of the lab depends on it.
FREE = frozenset(
    {
        EXECUTOR,  # As far as `executors` allows.
        "AIRFLOW__API__LOG_CONFIG",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY",
        PLUGINS,
        BUNDLES,
    }
)
#: The user's value counts where every process has it, which is `.env`.
BASE_URL, TASKS_URL = "AIRFLOW__API__BASE_URL", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"
FOR_ALL = frozenset({BASE_URL, "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"})
#: What to do instead of setting a key of these.
ADVICE = {
    "AIRFLOW_HOME": "Airflow's files lie in the state folder; unset it, or move that folder with LAB_HOME",
    "AIRFLOW__CORE__DAGS_FOLDER": "set LAB_DAGS instead",
    "AIRFLOW__API__HOST": "set LAB_BIND instead",
    "AIRFLOW__API__PORT": "set LAB_PORT_OFFSET instead",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "set LAB_BIND instead",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": "set LAB_PORT_OFFSET instead",
    "FLOWER_ADDRESS": "set LAB_BIND instead",
    "FLOWER_PORT": "set LAB_PORT_OFFSET instead",
    "AIRFLOW__CELERY__BROKER_URL": "the lab runs its own Redis; unset it",
    "CELERY_BROKER_URL": "the lab runs its own Redis; unset it",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "the lab runs its own Postgres; unset it",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "the lab runs its own Postgres; unset it",
    "AIRFLOW__CELERY__RESULT_BACKEND": "the lab runs its own Postgres; unset it",
    **dict.fromkeys(
        (f"AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__{name}" for name in ("GLOBAL_KEYPREFIX", "FANOUT_PREFIX", "FANOUT_PATTERNS", "SEP")),
        "Flower, `celery` and `status` could not find the queues; unset it",
    ),
    "AIRFLOW__CELERY__SSL_ACTIVE": "the lab's Redis has no TLS; unset it",
    "AIRFLOW__CELERY__WORKER_ENABLE_REMOTE_CONTROL": "workers could not say that they are ready; unset it",
    "AIRFLOW__CELERY__FLOWER_HOST": "set LAB_BIND instead",
    "AIRFLOW__CELERY__FLOWER_PORT": "set LAB_PORT_OFFSET instead",
    "AIRFLOW__CELERY__FLOWER_BASIC_AUTH": "Flower has Airflow's user and password; unset it",
    "AIRFLOW__CELERY__FLOWER_URL_PREFIX": "the lab asks Flower at its root; unset it",
    "FLOWER_URL_PREFIX": "the lab asks Flower at its root; unset it",
    "FLOWER_UNIX_SOCKET": "the lab asks Flower at its port; unset it",
    "AIRFLOW__API__SSL_CERT": "tasks and `status` ask the api-server without TLS; unset it",
    "AIRFLOW__API__SSL_KEY": "tasks and `status` ask the api-server without TLS; unset it",
    "AIRFLOW__CORE__AUTH_MANAGER": "the lab logs in with Airflow's SimpleAuthManager; unset it",
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": "a task's host is the name of its worker; unset it",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA": "the lab runs its own Postgres; unset it",
    # Of Airflow's docker compose file.
    "_AIRFLOW_WWW_USER_USERNAME": "the user is `admin`; remove it",
    "_AIRFLOW_WWW_USER_PASSWORD": "the lab makes a password of its own, which `password` prints; remove it",
    "_PIP_ADDITIONAL_REQUIREMENTS": "write the packages into requirements.txt, and remove it",
    "AIRFLOW_IMAGE_NAME": "the lab runs no image; choose a release with LAB_AIRFLOW, and remove it",
    "AIRFLOW_PROJ_DIR": "name the folder of your DAGs with LAB_DAGS, and remove it",
    TASKS_URL: "tasks ask the lab's own api-server; unset it",
}
#: Values with which a key of ADVICE changes nothing.
HARMLESS = {
    "AIRFLOW__CELERY__SSL_ACTIVE": {"false", "f", "0"},
    "AIRFLOW__CELERY__WORKER_ENABLE_REMOTE_CONTROL": {"true", "t", "1"},
    "AIRFLOW__CORE__AUTH_MANAGER": {"airflow.api_fastapi.auth.managers.simple.simple_auth_manager.simpleauthmanager"},
    "AIRFLOW_PROJ_DIR": {"."},
}
#: Former names of keys that the lab sets: Airflow would read them where the lab's own did not stand before them.
FORMER = {
    "AIRFLOW__CORE__BASE_LOG_FOLDER": "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
    "AIRFLOW__CORE__SQL_ALCHEMY_CONN": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__SCHEDULER__CHILD_PROCESS_LOG_DIRECTORY": "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY",
    "AIRFLOW__WEBSERVER__BASE_URL": BASE_URL,
    "AIRFLOW__WEBSERVER__SECRET_KEY": "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "AIRFLOW__API__HOST",
    "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": "AIRFLOW__API__PORT",
    "AIRFLOW__WEBSERVER__WEB_SERVER_SSL_CERT": "AIRFLOW__API__SSL_CERT",
    "AIRFLOW__WEBSERVER__WEB_SERVER_SSL_KEY": "AIRFLOW__API__SSL_KEY",
    "AIRFLOW__WORKERS__EXECUTION_API_SERVER_URL": TASKS_URL,
    "AIRFLOW__CELERY__DEFAULT_QUEUE": "AIRFLOW__OPERATORS__DEFAULT_QUEUE",
}
#: Modules of the lab's own, which every process imports; the user's, named here by the key, is imported by them.
MODULES = {
    "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": ("airflow_celery_lab.inside_airflow.first.LOGGING_CONFIG", "LAB_LOGGING_CONFIG"),
    "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": ("airflow_celery_lab.inside_airflow.celery_config.CELERY_CONFIG", "LAB_CELERY_CONFIG"),
}
#: Paths: a relative one starts at the project, whichever folder a command is typed in.
PATHS = FREE - {EXECUTOR}
POOL = "AIRFLOW__CELERY__POOL"
EXTRA = "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"
#: Celery's own names for what the keys above are about.
WIRED = ("broker_url", "broker_read_url", "broker_write_url", "broker_transport_options", "result_backend", "control_exchange")
OTHERS = "the lab sets it for all of its processes; unset it"
#: Airflow's other ways to set a key.
VARIANTS = ("", "_CMD", "_SECRET")


class Given(NamedTuple):
    """What a user has set, and where."""

    value: str
    where: str


def given(environ: Mapping[str, str], variables: Mapping[str, str], project: Path) -> dict[str, Given]:
    """Return all that a user has set, in `environ` and stronger in `variables` of `.env`.

    What a process of the lab has in its environment comes from the lab. A relative path starts at `project`.

    Raises:
        SettingsError: the file that AIRFLOW_CONFIG names cannot be read.

    """
    result: dict[str, Given] = {}
    if names.VARIABLE not in environ:
        result |= {name: Given(value, "in the environment") for name, value in environ.items()}
    result |= {name: Given(value, f"in {dotenv.NAME}") for name, value in variables.items()}
    if CONFIG in result:
        path = project / Path(result[CONFIG].value).expanduser()
        # Its keys are weaker than those that stand alone.
        result = {**{name: Given(value, f"in {path}") for name, value in read_file(path).items()}, **result}
    return result


def read_file(path: Path) -> dict[str, str]:
    """Return the keys of a configuration file of Airflow's, as variables.

    Raises:
        SettingsError: it cannot be read.

    """
    import configparser  # A launcher does not need it.

    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise SettingsError(
            f"cannot read {path}, which {CONFIG} names: {str(error).splitlines()[0]}.", path=path, setting=CONFIG
        ) from error
    return {
        f"AIRFLOW__{section.upper().replace('.', '_')}__{key.upper()}": value.replace("%%", "%")
        for section in parser.sections()
        for key, value in parser.items(section)
    }


def merged(wiring: Mapping[str, str], user: Mapping[str, Given], project: Path) -> dict[str, str]:
    """Return `wiring` with what the user may change, and beside it all keys of the user's configuration file.

    A relative path starts at `project`.
    """
    from_file = {name: one.value for name, one in user.items() if name.startswith("AIRFLOW__")}
    allowed = {name: one.value for name, one in user.items() if name in FREE or (name in FOR_ALL and one.where == f"in {dotenv.NAME}")}
    result = {**from_file, **wiring, **allowed}
    if BASE_URL in allowed:
        # The api-server serves all below the path of its address, for tasks as well.
        path = urlsplit(allowed[BASE_URL]).path.rstrip("/")
        result[TASKS_URL] = urlsplit(wiring[TASKS_URL])._replace(path=f"{path}/execution/").geturl()
    if EXECUTOR in allowed:
        result[EXECUTOR] = executors(allowed[EXECUTOR], wiring[EXECUTOR])
    for name in PATHS & user.keys():
        if (value := result.get(name, user[name].value)) and not value.startswith(("/", "~", "$")):
            result[name] = str(project / value)
    for name, (own, variable) in MODULES.items():
        if name in user and user[name].value not in {own, ""}:
            result |= {name: own, variable: user[name].value}
    return result


def executors(value: str, own: str) -> str:
    """Return a list of executors with the lab's `own` in the place of Airflow's CeleryExecutor."""
    return ",".join(own if item.strip() == CELERY_EXECUTOR else item.strip() for item in value.split(","))


def conflicts(wiring: Mapping[str, str], user: Mapping[str, Given]) -> Iterator[SettingsError]:
    """Yield a sentence for each key that a user has set in vain."""
    for name in (*wiring, *(name for name in ADVICE if name not in wiring)):
        for variant in VARIANTS:
            one = user.get(name + variant)
            if one is not None and (reason := _refusal(name, variant, one, wiring)):
                yield _refused(name + variant, one, reason)
    for name, one in user.items():
        if name in FORMER:
            yield _refused(name, one, f"it is called {FORMER[name]} now; set that, as far as the lab allows it")
        elif reason := _misspelt(name) or CHECKS.get(name, _nothing_to_say)(one.value):
            yield _refused(name, one, reason)


def _refused(name: str, one: Given, reason: str) -> SettingsError:
    return SettingsError(f"{name} {one.where} cannot be used: {reason}.", setting=name)


def _misspelt(name: str) -> str | None:
    """Return why Airflow would not see a name that begins like one of its keys."""
    upper = name.upper()
    if not upper.startswith("AIRFLOW__"):
        return None
    if name != upper:
        return f"Airflow reads capital letters only; write {upper}"
    if not re.fullmatch(r"AIRFLOW__.+?__.+", name):
        return "it has no section; write AIRFLOW__SECTION__KEY, with two underscores between the three"
    return None


def _nothing_to_say(_value: str) -> str | None:
    return None


def _pool(value: str) -> str | None:
    """Return why a worker's pool cannot run tasks."""
    if value in {"", "prefork", "processes", "solo"}:
        return None
    if value == "threads":
        return "Airflow's tasks set signal handlers, which Python refuses in threads; use prefork or solo"
    if value not in {"gevent", "eventlet"}:
        return f"Celery has no pool {value!r}; use prefork or solo"
    from importlib.util import find_spec

    return None if find_spec(value) else f"the package {value} is not installed; install it, or use prefork or solo"


def _extra(value: str) -> str | None:
    """Return why Celery's further configuration cannot be used."""
    import json

    try:
        keys = json.loads(value or "{}")
    except ValueError as error:
        return f'it is not JSON ({error}); write for example {{"worker_max_tasks_per_child": 10}}'
    if not isinstance(keys, dict):
        return 'it is no JSON object; write for example {"worker_max_tasks_per_child": 10}'
    wired = [name for name in WIRED if name in keys]
    return f"the lab sets {', '.join(wired)} for all of its processes; remove {'it' if len(wired) == 1 else 'them'}" if wired else None


#: What looks at the value of a key that is the user's.
CHECKS: Mapping[str, Callable[[str], str | None]] = {EXTRA: _extra, POOL: _pool}


def _refusal(name: str, variant: str, one: Given, wiring: Mapping[str, str]) -> str | None:
    if name == CONFIG:
        return None
    if variant:
        return f"all processes need the same one; set {name} itself in {dotenv.NAME}" if name in FOR_ALL else ADVICE.get(name, OTHERS)
    if one.value == wiring.get(name) or one.value.strip().lower() in HARMLESS.get(name, ()):
        return None
    if name not in wiring and not one.value.strip():  # As in a copied file.
        return None
    if name == EXECUTOR:
        listed = [item.strip() for item in one.value.split(",")]
        return (
            None if CELERY_EXECUTOR in listed or wiring[EXECUTOR] in listed else f"the lab's workers need {CELERY_EXECUTOR} in it; add it"
        )
    if name in FREE:
        return None
    if name in FOR_ALL:
        return None if one.where == f"in {dotenv.NAME}" else f"every process needs the same one; set it in {dotenv.NAME}"
    return ADVICE.get(name, OTHERS)
