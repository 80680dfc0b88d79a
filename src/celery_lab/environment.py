"""The environment that a process of the lab runs in: where settings and secrets become Airflow's words."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from celery_lab import identity
from celery_lab.credentials import ADMIN, Credentials
from celery_lab.probes import DATABASE
from celery_lab.settings import PROJECT, Settings

#: Airflow reads this file for the passwords of its users.
PASSWORDS_FILE = "airflow-passwords.json"


def of_process(settings: Settings, credentials: Credentials, name: str | None, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base`, the user's `.env` and the lab's wiring, each stronger than the one before.

    The lab's own settings are the other way round (celery_lab.settings), and who needs them reads them there.
    """
    dotenv = {variable: value for variable, value in settings.dotenv.items() if not variable.startswith("LAB_")}
    variables = {**base, **dotenv, **wiring(settings, credentials)}
    # A daemon in a terminal's session would otherwise buffer what it prints.
    variables["PYTHONUNBUFFERED"] = "1"
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
    if name:
        variables[identity.VARIABLE] = name
    return variables


def wiring(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """Return what holds the lab's processes together; nobody may override it piecemeal."""
    host = f"[{settings.client_host}]" if ":" in settings.client_host else settings.client_host
    database = f"postgresql+psycopg2://{DATABASE}:{credentials.postgres_password}@{host}:{settings.ports.postgres}/{DATABASE}"
    broker = f"redis://:{credentials.redis_password}@{host}:{settings.ports.redis}/0"
    web = settings.url("webserver")
    return {
        "AIRFLOW_HOME": str(settings.home / "airflow"),
        "AIRFLOW_CONFIG": str(PROJECT / "config" / "airflow.cfg"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags),
        "AIRFLOW__CORE__EXECUTOR": "celery_lab.executor.LabCeleryExecutor" if settings.listener_timeout else "CeleryExecutor",
        "AIRFLOW__CORE__FERNET_KEY": credentials.fernet_key,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{web}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.home / PASSWORDS_FILE),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__API__HOST": settings.bind,
        "AIRFLOW__API__PORT": str(settings.ports.webserver),
        "AIRFLOW__API__BASE_URL": web,
        "AIRFLOW__API__SECRET_KEY": credentials.api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": credentials.jwt_secret,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.home / "logs"),
        "AIRFLOW__DAG_PROCESSOR__CHILD_PROCESS_LOG_DIRECTORY": str(settings.home / "logs" / "dag_processor"),
        # Celery and Flower read these where `airflow` is not in front of them.
        "CELERY_BROKER_URL": broker,
        "FLOWER_CONF": str(PROJECT / "config" / "flowerconfig.py"),
        "FLOWER_ADDRESS": settings.bind,
        "FLOWER_PORT": str(settings.ports.flower),
        "FLOWER_BASIC_AUTH": f"{ADMIN}:{credentials.admin_password}",
        "FLOWER_COOKIE_SECRET": credentials.flower_cookie_secret,
        "FLOWER_DB": str(settings.home / "flower" / "history"),
    }
