"""How each service is started: what must be there first, and the command of the real program."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import (
    airflow_settings,
    coordinators,
    environment,
    files,
    membership,
    names,
    observer,
    overrides,
    ranges,
    roots,
    services,
)
from airflow_celery_lab.configuration.credentials import ADMIN, make_private_folder
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.services import Service
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.servers import applied_settings, postgres, probes, redis, schema
from airflow_celery_lab.wait import wait_until


def prepare(
    service: Service,
    command: Sequence[str],
    name: str,
    lab: Lab,
    variables: dict[str, str],
    on_wait: Callable[[str], None],
) -> list[str]:
    """Make everything ready that the service needs and return the program to run, with its arguments.

    Raises:
        LabError: it cannot be made ready, or not within LAB_START_TIMEOUT seconds.

    """
    for folder in (lab.state.airflow, lab.state.task_logs, lab.state.flower):
        make_private_folder(folder)
    if server := {"postgres": postgres.prepare, "redis": redis.prepare}.get(service.kind):
        return [*server(lab), *command[1:]]
    if service.kind == services.FORKSERVER:
        _show_plugin(variables)  # For the api-server: entry points are listed once, while Airflow is imported.
    if own := {services.FORKSERVER: "forkserver", services.LINKS: "carrier"}.get(service.kind):
        return [sys.executable, "-m", "airflow_celery_lab", own]
    _wait_for_needs(service, lab, variables, on_wait)
    if service.kind in (services.GATEWAY, services.PRESENCE):
        return [sys.executable, "-m", "airflow_celery_lab", service.kind]
    if service.kind == "autoscaler":
        return [sys.executable, "-m", "airflow_celery_lab", "autoscaler", *map(ranges.text, service.ranges)]
    _equip(service, command, name, lab, variables)
    return _python_program([*command, *_own_options(service, command, name)])


def _equip(service: Service, command: Sequence[str], name: str, lab: Lab, variables: dict[str, str]) -> None:
    """Give a process what only its kind needs."""
    if service.kind == "api-server":
        write_passwords(lab)
        _show_plugin(variables)
    elif service.kind == "scheduler":
        _apply_settings(lab, variables)
        _answer_health_checks(variables, first=_is_first(service.kind, name, lab))
    elif service.kind == "worker":
        _choose_coordinator(service.queues, variables)
    elif command[0] == "celery":
        variables.setdefault(observer.VARIABLE, observer.MODULE)


def _show_plugin(variables: dict[str, str]) -> None:
    """Let a process find the lab's plugin."""
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [variables.get("PYTHONPATH"), str(roots.PLUGIN)]))


def _choose_coordinator(queues: Sequence[str], variables: dict[str, str]) -> None:
    """Have the lab's own coordinator run the tasks of these queues, unless the user has chosen any."""
    if not any(name + variant in variables for name in (coordinators.ALL, coordinators.OF_QUEUES) for variant in overrides.VARIANTS):
        variables.update(coordinators.of(queues or [environment.default_queue_in(variables)]))


def write_passwords(lab: Lab) -> None:
    """Write the admin's password to the file in which Airflow looks for it."""
    files.write(lab.state.passwords, json.dumps({ADMIN: lab.credentials.admin_password}))


def _answer_health_checks(variables: dict[str, str], *, first: bool) -> None:
    """Let one scheduler have the port: with Airflow's own server if the user asks for that, else with the lab's."""
    if not first:
        variables[overrides.HEALTH_CHECK] = "False"
    elif overrides.HEALTH_CHECK not in variables:
        variables[names.HEALTH_CHECK] = "1"


def _apply_settings(lab: Lab, variables: dict[str, str]) -> None:
    """Write what has changed in the project's connections, variables and pools, before a task can miss it."""
    settings = airflow_settings.of(lab.settings)
    for sentence in settings.refused:
        print(f"lab: warning: {sentence}", flush=True)
    if settings.entries and (target := applied_settings.of_lab(lab)):
        done = applied_settings.apply(lab, target, variables)
        for sentence in done.failed:
            print(f"lab: warning: {sentence}", flush=True)
        if done.written:
            print(
                f"lab: applied {airflow_settings.path_of(lab.settings).name}: {', '.join(entry.label for entry in done.written)}",
                flush=True,
            )


def _is_first(kind: str, name: str, lab: Lab) -> bool:
    """Return whether of all processes of that kind this one has the port; by now each of them has its record."""
    running = [record.name for record in registry.running(lab.state).values() if services.describe(record.command).kind == kind]
    return name == min([name, *running], key=names.in_order)


def _wait_for_needs(service: Service, lab: Lab, variables: dict[str, str], on_wait: Callable[[str], None]) -> None:
    needs: list[tuple[str, Callable[[], str | None]]] = []
    if service.needs and (member := membership.read(lab.state)):
        where = f"the lab on {member.address}"
        wait_until(
            lambda: probes.main_machine(lab.state, member), lab.settings.start_timeout, where, advice="see that it runs", on_wait=on_wait
        )
        return
    if "redis" in service.needs:
        needs.append(("redis", lambda: probes.redis(lab)))
    if "postgres" in service.needs:
        needs.append(("postgres", lambda: probes.postgres(lab)))
    if "schema" in service.needs:
        needs.append(("the database schema", lambda: schema.probe(lab, variables)))
    for what, probe in needs:
        wait_until(probe, lab.settings.start_timeout, what, advice=f"see its log, or `{typed()} status`", on_wait=on_wait)


def _own_options(service: Service, command: Sequence[str], name: str) -> list[str]:
    """Return the options that give a process its identity and keep it off a port it does not need."""
    # One log server a machine is all that there is port for, and it listens on all interfaces.
    # The logs lie on the api-server's own disk (airflow_celery_lab.inside_airflow.task_logs).
    options: dict[str, list[tuple[str, ...]]] = {
        "worker": [("--celery-hostname", name), ("--skip-serve-logs",)],
        "triggerer": [("--skip-serve-logs",)],
    }
    given = {"--celery-hostname" if word.startswith("-H") else word.partition("=")[0] for word in command if word.startswith("-")}
    return [word for option in options.get(service.kind, []) if option[0] not in given for word in option]


def _python_program(command: Sequence[str]) -> list[str]:
    """Return the command; `airflow` and `celery` run as modules, whatever the length of their path."""
    if command[0] in ("airflow", "celery"):
        return [sys.executable, "-m", *command]
    return list(command)
