"""What of the lab's own wiring a user may change, and what is refused by name. Data and rules, but for `read_file`.

A key may stand in `.env`, in the environment, or in a configuration file of the user's that AIRFLOW_CONFIG names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_celery_lab.configuration import dotenv, names
from airflow_celery_lab.errors import SettingsError

CONFIG, EXECUTOR = "AIRFLOW_CONFIG", "AIRFLOW__CORE__EXECUTOR"
HEALTH_CHECK = "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK"
#: The executor of Airflow's that the lab's stands in for, under its name (`@task(executor="CeleryExecutor")`).
CELERY_EXECUTOR = "CeleryExecutor"
LAB_EXECUTOR = f"{CELERY_EXECUTOR}:airflow_celery_lab.inside_airflow.executor.LabCeleryExecutor"

#: The user's value counts: nothing of the lab depends on it.
FREE = frozenset(
    {
        EXECUTOR,  # As far as `executors` allows.
        "AIRFLOW__API__LOG_CONFIG",
        HEALTH_CHECK,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY",
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
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__GLOBAL_KEYPREFIX": "Flower and `celery` could not find the queues; unset it",
    TASKS_URL: "tasks ask the lab's own api-server; unset it",
}
OTHERS = "the lab sets it for all of its processes; unset it"
#: Airflow's other ways to set a key.
VARIANTS = ("", "_CMD", "_SECRET")


class Given(NamedTuple):
    """What a user has set, and where."""

    value: str
    where: str


def given(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, Given]:
    """Return all that a user has set, in `environ` and stronger in `variables` of `.env`.

    What a process of the lab has in its environment comes from the lab.

    Raises:
        SettingsError: the file that AIRFLOW_CONFIG names cannot be read.

    """
    result: dict[str, Given] = {}
    if names.VARIABLE not in environ:
        result |= {name: Given(value, "in the environment") for name, value in environ.items()}
    result |= {name: Given(value, f"in {dotenv.NAME}") for name, value in variables.items()}
    if CONFIG in result:
        path = Path(result[CONFIG].value).expanduser()
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


def merged(wiring: Mapping[str, str], user: Mapping[str, Given]) -> dict[str, str]:
    """Return `wiring` with what the user may change, and beside it all keys of the user's configuration file."""
    from_file = {name: one.value for name, one in user.items() if name.startswith("AIRFLOW__")}
    allowed = {name: one.value for name, one in user.items() if name in FREE or (name in FOR_ALL and one.where == f"in {dotenv.NAME}")}
    result = {**from_file, **wiring, **allowed}
    if BASE_URL in allowed:
        # The api-server serves all below the path of its address, for tasks as well.
        path = urlsplit(allowed[BASE_URL]).path.rstrip("/")
        result[TASKS_URL] = urlsplit(wiring[TASKS_URL])._replace(path=f"{path}/execution/").geturl()
    if EXECUTOR in allowed:
        result[EXECUTOR] = executors(allowed[EXECUTOR], wiring[EXECUTOR])
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
                yield SettingsError(f"{name}{variant} {one.where} cannot be used: {reason}.", setting=name + variant)


def _refusal(name: str, variant: str, one: Given, wiring: Mapping[str, str]) -> str | None:
    if name == CONFIG:
        return None
    if variant:
        return ADVICE.get(name, OTHERS)
    if one.value == wiring.get(name):
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
