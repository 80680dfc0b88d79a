"""A DAG in a sub-folder that uses all that a project may have."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow.sdk import BaseHook, Variable, dag, task
from team.words import WORD

Never = import_module("calendars").Never


@dag(schedule=Never())
def uses_all() -> None:
    """Say what is there."""

    @task(pool="narrow")
    def tell() -> list[Any]:
        warehouse = BaseHook.get_connection("warehouse")
        package = import_module("greetings").Greetings.name
        return [WORD, package, warehouse.host, warehouse.password, warehouse.extra_dejson, Variable.get("region")]

    tell()


uses_all()
