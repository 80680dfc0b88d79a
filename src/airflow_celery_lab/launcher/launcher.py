"""`lab exec`: stands before every process of the Procfile and gives it what a container would.

A name, its ports and secrets, a place in the start order, one stop signal, and the death of its whole
process tree. Never imports Airflow: one of these stands before each process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from airflow_celery_lab.configuration import debugger, links, names, services
from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.services import Service
from airflow_celery_lab.errors import LabError
from airflow_celery_lab.launcher import forkserver, guard, markers, process_table, reaper, registry, temporary, tree
from airflow_celery_lab.launcher.reaper import Reaper
from airflow_celery_lab.launcher.registry import Record, Registration

#: honcho kills 5 s after the first process has ended (`honcho.manager.KILL_WAIT`); all must be over by
#: then, Postgres and Redis after the others.
HONCHO_GRACE = 2.5
HONCHO_GRACE_LAST = 2.2
#: Seconds that the stages of a stop wait for those before them. The api-server's end is no later than that of an idle worker.
HONCHO_PATIENCE = {services.FIRST: 0.0, services.AFTER_WORKERS: 2.0, services.LAST: HONCHO_GRACE + 0.2}
#: Seconds for anything but a worker to end under supervisord; each takes less than 3.
GRACE = 15.0
#: Where `lab up` leaves its pid: the cluster does not outlive it.
STARTER = "LAB_UP_PID"


class Instance(NamedTuple):
    """One process of the lab: what its launcher knows of it."""

    service: Service
    command: Sequence[str]
    name: str
    supervisor: str
    lab: Lab
    links: links.Links

    @property
    def temporary(self) -> Path:
        """Where a worker keeps its temporary files."""
        return temporary.folder(self.lab.state, self.name)


def instance(command: Sequence[str], environ: Mapping[str, str]) -> Instance:
    """Return the process that `command` and `environ` describe.

    Raises:
        LabError: they make no sense.

    """
    service = services.describe(command)
    supervisor = _supervisor(environ)
    name = names.process_name(environ) or (debugger.NAME if debugger.VARIABLE in environ else service.kind)
    lab = labs.load(environ)
    # A lab in the foreground has none: what it left when the power went counts no more.
    found = links.read(lab.state) if service.kind == "worker" and supervisor != "honcho" else links.Links()
    return Instance(service, command, name, supervisor, lab, found)


def main(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `command` as a process of the lab and return its exit status.

    Raises:
        LabError: it cannot be started.

    """
    own = instance(command, environ)
    service, _, name, supervisor, lab, found = own
    _refuse_name_of_a_line(lab, environ, name)
    now = time.time()
    record = Record(
        name,
        os.getpid(),
        0,
        list(command),
        supervisor,
        "waiting",
        "",
        now,
        _queues(service, lab, environ),
        lab.settings.dotenv_print,
        now,
        _parallelism(service, lab, environ),
        found.on,
    )
    registration = Registration(lab.state, record)

    if STARTER in environ and lab.state.stopping.exists():
        registration.release()
        return 0

    def enter(state: str, pid: int, reason: str = "") -> None:
        registration.update(main_pid=pid, state=state, reason=reason, since=time.time())

    observer = guard.Observer(
        started=lambda pid: registration.update(reaper=pid),
        waiting=lambda reason: enter("waiting", 0, reason),
        running=lambda pid: enter("running", pid),
        stopping=lambda pid: enter("stopping", pid),
    )

    folder = temporary.make(lab.state, name) if service.kind == "worker" else None
    stop = _stop(service, lab, supervisor)

    def start(interrupt: guard.Interrupt) -> Reaper | None:
        if supervisor != "none" and forkserver.may_serve(service, command):
            observer.waiting("the forkserver imports Airflow")
            try:
                return forkserver.ask(lab.state, command, environ, interrupt, lambda: _expects_forkserver(lab, environ))
            except forkserver.Refused as refusal:
                if str(refusal):
                    say_own_import(str(refusal))
        return reaper.start(lambda report: become(own, report, _execute), stop.signal, alone=stop.alone)

    _mark(supervisor, markers.beginning(name))
    watched = _watched(supervisor) if debugger.VARIABLE not in environ else [os.getppid()]
    starter = [int(environ[STARTER])] if supervisor == "honcho" and STARTER in environ else []
    try:
        status = guard.run(start, stop, [*watched, *starter], observer)
        _mark(supervisor, markers.end(status))
        if registration.record.state != "stopping":
            registry.note_end(lab.state, name, status)
        return status
    finally:
        if folder:
            temporary.remove(folder)
        registration.release()
        _end_orphaned_reader(supervisor, watched)


def say_own_import(reason: str) -> None:
    """Say why a process does not come from the forkserver."""
    print(f"lab: imports Airflow by itself: {reason}", flush=True)


def _expects_forkserver(lab: Lab, environ: Mapping[str, str]) -> bool:
    from airflow_celery_lab.configuration import procfile  # As below.

    try:
        return any(line.service.kind == services.FORKSERVER for line in procfile.of(lab.settings, environ))
    except LabError:
        return False


def _mark(supervisor: str, line: str) -> None:
    """Write a line into the log that supervisord keeps; when it was killed, there is none."""
    if supervisor == "supervisord":
        with suppress(OSError):
            print(line, flush=True)


def _refuse_name_of_a_line(lab: Lab, environ: Mapping[str, str], name: str) -> None:
    """Refuse a further instance of a line that has another line's name: plain honcho counts without looking.

    Raises:
        ProcfileError: both would be called `name`.

    """
    if names.is_first(environ):
        return
    from airflow_celery_lab.configuration import procfile  # As below.

    procfile.add({line.name: line.command for line in procfile.of(lab.settings, environ)}, name, "")


def _queues(service: Service, lab: Lab, environ: Mapping[str, str]) -> tuple[str, ...]:
    if service.kind != "worker" or service.queues:
        return service.queues
    from airflow_celery_lab.configuration import environment  # As below.

    return (environment.default_queue(lab, environ),)


def _parallelism(service: Service, lab: Lab, environ: Mapping[str, str]) -> int:
    if service.kind != "scheduler":
        return 0
    from airflow_celery_lab.configuration import environment  # As below.

    return environment.parallelism(lab, environ)


def become(own: Instance, report: Callable[[str], None], execute: Callable[[list[str], dict[str, str]], NoReturn]) -> NoReturn:
    """Wait for what the service needs, then turn this process into its program by `execute`, given its arguments and variables."""
    # What only this process needs is imported after the fork: the guard stays, and stays small.
    from airflow_celery_lab.configuration import environment
    from airflow_celery_lab.launcher import program

    told = ""
    parent = os.getppid()
    service, command, name, _, lab, found = own

    def on_wait(reason: str) -> None:
        nonlocal told
        if reason != told:
            report(reason)
            print(f"lab: waiting: {reason}", flush=True)
            told = reason

    try:
        for problem in environment.conflicts(lab.settings, os.environ):
            raise problem
        variables = environment.of_process(lab, name, os.environ, found.towards(lab.settings.ports))
        if service.kind == "worker" and own.temporary.is_dir():
            variables[temporary.VARIABLE] = str(own.temporary)
        arguments = program.prepare(service, command, name, lab, variables, on_wait)
        tree.die_with(parent)  # Again: Postgres may have become another user.
        execute(arguments, variables)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr, flush=True)
        sys.exit(error.status)
    except FileNotFoundError:
        print(
            f"lab: there is no program {arguments[0]!r} on PATH; correct the line of {name} in the Procfile.", file=sys.stderr, flush=True
        )
        sys.exit(127)


def _execute(arguments: list[str], variables: dict[str, str]) -> NoReturn:
    os.execvpe(arguments[0], arguments, variables)


def _stop(service: Service, lab: Lab, supervisor: str) -> guard.Stop:
    """Plan the end of a service.

    Under honcho, or when the supervisor has died, all stop at once and in a hurry, what others need while they stop after those.
    supervisord gives each its time: a worker may finish its tasks.
    """

    def hurried(supervisor_died: bool) -> bool:  # noqa: FBT001  # guard.Stop names it
        return supervisor == "honcho" or supervisor_died

    def grace(supervisor_died: bool) -> float:  # noqa: FBT001  # as above
        if hurried(supervisor_died):
            return HONCHO_GRACE_LAST if service.stage == services.LAST else HONCHO_GRACE
        return lab.settings.stop_timeout if service.kind == "worker" else GRACE

    def blocked(supervisor_died: bool) -> bool:  # noqa: FBT001  # as above
        if service.stage == services.FIRST or not hurried(supervisor_died):
            return False
        return any(_stage(record) < service.stage for record in registry.running(lab.state).values())

    return guard.Stop(
        service.stop_signal,
        grace,
        blocked,
        patience=HONCHO_PATIENCE[service.stage],
        # In half of all stops Airflow's triggerer sleeps for ten seconds: the process of its triggers closes its pipes a
        # moment before it can be collected, and then nothing is left to wake the `select` (`WatchedSubprocess.kill`).
        # All that the sleep is followed by is that its job is marked as ended; the lab's executor does that.
        ends_alone=service.kind == "triggerer",
        # What the forkserver has forked has guards of its own.
        alone=service.kind == services.FORKSERVER,
    )


def _stage(record: Record) -> int:
    return services.describe(record.command).stage


def _supervisor(environ: Mapping[str, str]) -> str:
    if "HONCHO_PROCESS_NAME" in environ:
        return "honcho"
    return "supervisord" if "SUPERVISOR_PROCESS_NAME" in environ else "none"


def _watched(supervisor: str) -> list[int]:
    """Return the pids without which this process must not live.

    The nearest ancestor in another process group is the one that started us (a shell may stand
    between). honcho has a process of its own for reading each program's output: there honcho proper
    is one further up, and the reader does not notice when it dies.
    """
    if supervisor == "none":
        return []
    group = os.getpgrp()
    ancestor: int | None = os.getppid()
    with suppress(ProcessLookupError):
        while ancestor and ancestor > 1 and os.getpgid(ancestor) == group:
            ancestor = process_table.parent_of(ancestor)
    above = process_table.parent_of(ancestor) if supervisor == "honcho" and ancestor else None
    return [pid for pid in (ancestor, above) if pid and pid > 1]


def _end_orphaned_reader(supervisor: str, watched: list[int]) -> None:
    """End honcho's reader of our output if honcho itself was killed: nobody reads from it any more."""
    if supervisor != "honcho" or watched[2:] or not watched[1:]:
        return
    reader, honcho = watched
    if process_table.parent_of(reader) not in (None, honcho):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(reader, signal.SIGKILL)
