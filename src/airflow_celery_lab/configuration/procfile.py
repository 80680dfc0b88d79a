"""The Procfile: the one list of processes. Data and rules, but for `read`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from airflow_celery_lab.command import NAME, typed
from airflow_celery_lab.configuration import exposure, membership, names, ranges, roots, services, shell
from airflow_celery_lab.configuration.membership import Membership
from airflow_celery_lab.configuration.services import Service
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import ProcfileError

#: What honcho takes for a process (`honcho.environ.PROCFILE_LINE`); honcho drops any other line silently.
LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(.*)")
SCRIPT = "./lab"
#: What Celery puts before the `@` of a node that has no name of its own.
CELERY = "celery"
#: Name of the worker that `join --queues` runs.
WORKER = "worker"
#: Kinds of which a line runs once.
ALONE = ("autoscaler", services.FORKSERVER, services.GATEWAY)

#: The command of each process, by the process's name.
Processes = Mapping[str, str]


class Line(NamedTuple):
    """One line of the Procfile."""

    name: str
    command: str
    service: Service


def path_in(project: Path) -> Path:
    """Return where `project` has its Procfile, if it has one."""
    return project / roots.PROCFILE


def default() -> str:
    """Return the Procfile of a project that has none: this package's own, with the launcher that is there.

    A project that is no checkout has no `./lab`; `airflow-celery-lab` is the same launcher.
    """
    return (roots.DATA / roots.PROCFILE).read_text(encoding="utf-8").replace(f"{SCRIPT} ", f"{NAME} ")


def of(settings: Settings, environ: Mapping[str, str]) -> list[Line]:
    """Return the lines of a lab's Procfile, with the variables of its `.env` and of `environ` in them.

    A lab that is exposed has a gateway, whether the Procfile names one or not; a folder that has joined another lab has its workers alone.

    Raises:
        ProcfileError: it cannot be read, or a line cannot be used.

    """
    lines = read(settings.project, {**environ, **settings.dotenv}, settings.procfile)
    member = membership.read(settings.state)
    if member is not None:
        return of_member(lines, member, settings.project)
    return with_gateway(lines, settings.project) if exposure.read(settings.state) else lines


def of_member(lines: Sequence[Line], member: Membership, project: Path) -> list[Line]:
    """Return the lines of a folder that has joined another machine's lab: its workers, named with the machine, and what speaks for it.

    Raises:
        ProcfileError: there is no worker.

    """
    launcher = _launcher(project)
    workers = [line for line in lines if line.service.kind == "worker"]
    if member.queues:
        slots = f" --concurrency {member.concurrency}" if member.concurrency else ""
        command = f"{launcher} exec airflow celery worker --queues {member.queues}{slots} --without-mingle"
        workers = [Line(WORKER, command, service_of(command))]
    if any(line.name == CELERY for line in workers):
        raise ProcfileError(
            f"a worker called {CELERY!r} cannot work on another machine: Celery puts that before all names; rename its line."
        )
    if not workers:
        raise ProcfileError("the Procfile has no worker, and a machine that has joined runs nothing else; add one, or join with --queues.")
    command = f"{launcher} exec {services.PRESENCE}"
    named = [*workers, Line(services.PRESENCE, command, service_of(command))]
    return [line._replace(name=names.on_machine(line.name, member.machine)) for line in named]


def with_gateway(lines: Sequence[Line], project: Path) -> list[Line]:
    """Return `lines` with one that runs the gateway, where none does.

    Raises:
        ProcfileError: another process has its name.

    """
    if any(line.service.kind == services.GATEWAY for line in lines):
        return list(lines)
    if any(line.name == services.GATEWAY for line in lines):
        raise ProcfileError(
            f"the lab is exposed, and {services.GATEWAY!r} is the name of the process for that; rename that line of the Procfile.",
            process=services.GATEWAY,
        )
    command = f"{_launcher(project)} exec {services.GATEWAY}"
    return [*lines, Line(services.GATEWAY, command, service_of(command))]


def prefix_of(processes: Processes) -> str:
    """Return what stands before ` exec ` in the lab's own lines: the launcher, and what its shell does first."""
    return next(command for command in processes.values() if " exec " in command).split(" exec ")[0]


def _launcher(project: Path) -> str:
    return SCRIPT if (project / SCRIPT).exists() else NAME


def read(project: Path, variables: Mapping[str, str] | None = None, named: Path | None = None) -> list[Line]:
    """Return the lines of the Procfile that LAB_PROCFILE has `named`, else of the one in `project`, else of the default one.

    Without `variables` each `$NAME` stays as it is.

    Raises:
        ProcfileError: it cannot be read, or a line cannot be used.

    """
    path = named or path_in(project)
    try:
        text = path.read_text(encoding="utf-8") if named or path.exists() or project == roots.checkout() else default()
    except (OSError, UnicodeDecodeError) as error:
        advice = "name another one in LAB_PROCFILE" if named else _advice(project)
        raise ProcfileError(f"cannot read {path}: {error}; fix the file, or {advice}.", path=path) from error
    try:
        lines = parse(text, variables)
    except ProcfileError as error:
        raise ProcfileError(f"{error}", path=path, process=error.process) from error
    for line in lines:
        if line.command.startswith(f"{SCRIPT} ") and not (project / SCRIPT).exists():
            raise ProcfileError(
                f"the line of {line.name} in {path} runs `{SCRIPT}`, which is not in that folder; write `{NAME} exec` in its place.",
                path=path,
                process=line.name,
            )
    return lines


def parse(text: str, variables: Mapping[str, str] | None = None) -> list[Line]:
    """Return the processes that `text` names, in its order, each command as honcho and supervisord both run it.

    Raises:
        ProcfileError: a line does not parse, a name stands twice, or a command makes no sense.

    """
    lines: dict[str, Line] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        where = f"Procfile line {number}"
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(raw)
        if match is None:
            raise ProcfileError(
                f"{where} is not `name: command`, with a name of letters, digits, `_` and `-` from the first column on: {raw.strip()!r}."
            )
        name = match[1]
        if name in lines:
            raise ProcfileError(f"{where} names {name!r} a second time; give each process a name of its own.", process=name)
        try:
            command = shell.canonical(match[2])
            if variables is not None:
                command = shell.expand(command, variables)
            lines[name] = Line(name, command, service_of(command))
        except ProcfileError as error:
            raise ProcfileError(f"{where} ({name}): {error}", process=name) from error
    if not lines:
        raise ProcfileError(f"the Procfile names no process; add one, or remove the file and run `{typed()} init` for a new one.")
    _check_ranges(lines.values())
    return list(lines.values())


def _check_ranges(lines: Collection[Line]) -> None:
    """Refuse an autoscaler of what is no worker, and two autoscalers of one line."""
    owners: dict[str, str] = {}
    for line in lines:
        try:
            require_workers(line.service.ranges, lines)
        except ProcfileError as error:
            raise ProcfileError(f"Procfile ({line.name}): {error}", process=line.name) from error
        for one in line.service.ranges:
            if (other := owners.setdefault(one.line, line.name)) != line.name:
                raise ProcfileError(f"{other} and {line.name} both autoscale {one.line}; remove it from one of them.", process=line.name)


def require_workers(wanted: Iterable[ranges.Range], lines: Iterable[Line]) -> None:
    """Do nothing when each of the ranges is for a worker's line.

    Raises:
        ProcfileError: one names another process, or none.

    """
    kinds = {line.name: line.service.kind for line in lines}
    ranges.require_workers(wanted, [name for name, kind in kinds.items() if kind == "worker"], kinds)


def instances(lines: Sequence[Line], counts: Mapping[str, int] | None = None) -> Processes:
    """Return the processes that `lines` name; `counts` has how often a line runs, by its name, where that is not once.

    Raises:
        ProcfileError: `counts` names no line, or two processes would have one name.

    """
    counts = {require_line(lines, name).name: count for name, count in (counts or {}).items()}
    for name, count in counts.items():
        service = require_line(lines, name).service
        if service.kind in ALONE and count > 1:
            raise ProcfileError(
                f"{name} cannot run {count} times: one {service.kind} is enough; leave it at 1, or 0 for none.", process=name
            )
    processes: dict[str, str] = {}
    for line in lines:
        for number in range(1, counts.get(line.name, 1) + 1):
            add(processes, names.instance_name(line.name, number), line.command)
    return processes


def add(processes: dict[str, str], name: str, command: str) -> None:
    """Add a process to `processes`.

    Raises:
        ProcfileError: there is one of that name.

    """
    if name in processes:
        raise ProcfileError(f"two processes would be called {name!r}; rename one of the lines in the Procfile.", process=name)
    processes[name] = command


def require_line(lines: Sequence[Line], name: str) -> Line:
    """Return the line `name`, which may be without its machine.

    Raises:
        ProcfileError: there is none.

    """
    for line in lines:
        if name in (line.name, names.line_of(line.name)):
            return line
    raise ProcfileError(f"there is no process {name!r} to scale; the Procfile has {', '.join(line.name for line in lines)}.", process=name)


def services_of(processes: Processes) -> dict[str, Service]:
    """Return the service behind each process."""
    return {name: service_of(command) for name, command in processes.items()}


def service_of(command: str) -> Service:
    """Return the service behind a whole command of the Procfile.

    Raises:
        ProcfileError: the command makes no sense.

    """
    *before, last = [shlex.split(" ".join(word.text for word in words if not word.operator)) for words in shell.commands(command)]
    if any(_launched(words) is not None for words in before):
        raise ProcfileError("the launcher must be in the last command of the line; put what follows it into a script.")
    launched = _launched(last)
    for own in (services.AUTOSCALE, services.FORKSERVER, services.GATEWAY):
        if launched is None and (bare := _after_launcher(last, own)) is not None:
            raise ProcfileError(f"the launcher is missing; write `{typed()} exec {' '.join([own, *bare])}`.")
    return services.without_launcher() if launched is None else services.describe(launched)


def around_launcher(command: str) -> tuple[list[str], list[str]]:
    """Return the words of a whole command before the launcher in its last part, and those after its `exec`; all before where there is none."""
    *before, last = [shlex.split(" ".join(word.text for word in words if not word.operator)) for words in shell.commands(command)]
    launched = _launched(last)
    own = last if launched is None else last[: len(last) - len(launched) - 2]
    return [*(word for words in before for word in words), *own], launched or []


def _launched(words: Sequence[str]) -> list[str] | None:
    """Return the words after the launcher's `exec`, None where there is no launcher."""
    return _after_launcher(words, "exec")


def _after_launcher(words: Sequence[str], command: str) -> list[str] | None:
    for position, word in enumerate(words[:-1]):
        if word.rpartition("/")[2] in services.LAUNCHERS and words[position + 1] == command:
            return list(words[position + 2 :])
    return None


def _advice(project: Path) -> str:
    return "get it back with `git checkout Procfile`" if project == roots.checkout() else "remove it to run the default one"
