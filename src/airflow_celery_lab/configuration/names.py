"""The one name of a process: in Airflow, Celery, Flower and the list of processes."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Where the launcher leaves the name for the program that it runs.
VARIABLE = "LAB_NAME"
#: Between a process and the machine that it runs on, where that is not the lab's own.
AT = "@"
#: The name of a machine: up to 63 letters, digits and hyphens.
MACHINE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
#: Tells a scheduler to answer at /health: of several, one has the port.
HEALTH_CHECK = "LAB_HEALTH_CHECK"


def process_name(environ: Mapping[str, str]) -> str | None:
    """Return the name that honcho or supervisord gave this process, None outside of both.

    honcho numbers every process; the first of a line carries the line's own name:
    `worker-default.1` is `worker-default`, `worker-default.2` is `worker-default-2`.
    """
    supervised = environ.get("SUPERVISOR_PROCESS_NAME")
    name = environ.get("HONCHO_PROCESS_NAME")
    if name is None:
        return supervised
    base, _, number = name.rpartition(".")
    return instance_name(base, int(number)) if base and re.fullmatch(r"\d+", number) else name


def is_first(environ: Mapping[str, str]) -> bool:
    """Return whether this process carries a name of the Procfile's, and is no further instance that honcho counts."""
    return re.search(r"\.(?!1$)\d+$", environ.get("HONCHO_PROCESS_NAME", "")) is None


def instance_name(base: str, number: int) -> str:
    """Return the name of instance `number` (from 1) of the Procfile's line `base`."""
    line, at, machine = base.partition(AT)
    return base if number == 1 else f"{line}-{number}{at}{machine}"


def on_machine(line: str, machine: str) -> str:
    """Return the name of the Procfile's line on a machine that has joined another one's lab; Celery writes its nodes so."""
    return f"{line}{AT}{machine}"


def line_of(name: str) -> str:
    """Return a name without its machine."""
    return name.partition(AT)[0]


def machine_of(name: str) -> str | None:
    """Return the machine in the name of a process, None for one of the lab's own machine."""
    return name.partition(AT)[2] or None


def in_order(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people count: `worker-2` before `worker-10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def node_name(name: str) -> str:
    """Return the Celery node name of the worker `name`; Celery puts `celery@` before a name without a machine."""
    return name if AT in name else f"celery{AT}{name}"


def worker_name(node: str) -> str:
    """Return the name of the worker behind a Celery node name."""
    return node.removeprefix("celery@")
