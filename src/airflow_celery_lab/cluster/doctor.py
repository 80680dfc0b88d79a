"""What is wrong with this machine or configuration, and what to do about it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow_celery_lab.cluster import limits, preflight
from airflow_celery_lab.configuration import (
    airflow_settings,
    credentials,
    demand,
    environment,
    membership,
    procfile,
    requirements,
    settings,
)
from airflow_celery_lab.configuration.settings import SETTINGS, Settings
from airflow_celery_lab.errors import LabError, MissingProgramError, NotReadyError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.servers import executables, probes, schema

OK, BAD = True, False


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def examine(environ: Mapping[str, str]) -> list[Finding]:
    """Look at everything that can be looked at without starting anything."""
    findings = [Finding("Python", OK, f"{platform.python_version()} in {sys.prefix}"), Finding("Airflow", OK, schema.installed())]
    try:
        config = settings.load(environ)
    except LabError as error:
        return [*findings, Finding("settings", BAD, str(error))]
    chosen = ", ".join(f"{name}={value}" for name, value in {**config.dotenv, **environ}.items() if name in SETTINGS)
    findings.append(Finding("settings", OK, chosen or "all at their defaults"))
    findings += _mistyped(config, environ)
    findings.append(Finding("project", OK, str(config.project)))
    findings += [Finding("packages", BAD, sentence) for sentence in requirements.warnings(config.project, environ)]
    findings += [Finding("settings", BAD, sentence) for sentence in airflow_settings.of(config).refused]
    findings += [_try("Procfile", lambda: _procfile(config, environ)), _try("state folder", lambda: _state(config))]
    member = _try("joined", lambda: _joined(config))
    if not member.ok or member.detail:
        findings.append(member)
    else:
        findings += [_try("Postgres", lambda: _postgres(config)), _try("Redis", lambda: str(executables.redis_program(config)))]
    told = {finding.detail for finding in findings}
    findings += [_memory(config, environ), *(finding for finding in _start(config, environ) if finding.detail not in told)]
    return findings


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, OK, look())
    except LabError as error:
        return Finding(what, BAD, str(error))


def _mistyped(config: Settings, environ: Mapping[str, str]) -> list[Finding]:
    try:
        return [Finding("settings", BAD, warning) for warning in environment.warnings(config, environ)]
    except LabError:
        return []  # Reported as a reason not to start.


def _procfile(config: Settings, environ: Mapping[str, str]) -> str:
    count = len(procfile.of(config, environ))
    return (
        f"{count} processes"
        if config.procfile or procfile.path_in(config.project).exists()
        else f"none, so the default one: {count} processes"
    )


def _state(config: Settings) -> str:
    credentials.require_abilities(config.home)
    credentials.make_private_folder(config.home)
    return str(config.home)


def _joined(config: Settings) -> str:
    """Return what lab this folder has joined, "" where it runs its own; the servers are that lab's then."""
    if (member := membership.read(config.state)) is None:
        return ""
    if reason := probes.main_machine(config.state, member):
        raise NotReadyError(f"the lab {member.lab} does not answer: {reason}; see that it runs and is exposed.")
    return f"{member.lab} on {member.address}, as {member.machine}"


def _postgres(config: Settings) -> str:
    folder = executables.postgres_bin(config)
    return f"{executables.postgres_major(folder)} in {folder}"


def _memory(config: Settings, environ: Mapping[str, str]) -> Finding:
    free = limits.available()
    try:
        lines = procfile.of(config, environ)
    except LabError:  # Reported above.
        return Finding("memory", OK, f"{free} MB available")
    asked = demand.of((line.service for line in lines), demand.sizes({**environ, **config.variables}))
    running = asked if registry.running(config.state) else None
    lacking = limits.shortage(asked, free, running)
    takes = f"the lab takes about {asked.memory_at_rest}, and {asked.memory} when all {asked.slots} slots run a task"
    room = max(0, free - (0 if running else asked.memory)) // demand.BUSY_SLOT
    return Finding("memory", not lacking, lacking or f"{free} MB available; {takes}; {room} more slots would fit")


def _start(config: Settings, environ: Mapping[str, str]) -> list[Finding]:
    running = registry.running(config.state)
    if running:
        return [Finding("cluster", OK, f"running, {len(running)} processes")]
    try:
        expected = procfile.services_of(procfile.instances(procfile.of(config, environ)))
    except LabError:
        return []  # Reported above.
    found = [
        Finding("start", BAD, str(problem))
        for problem in preflight.problems(config, expected, environ)
        if not isinstance(problem, MissingProgramError)
    ]
    return found or [Finding("start", OK, f"nothing is in the way; ports {', '.join(map(str, config.ports))} are free")]
