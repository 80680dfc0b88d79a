"""The forkserver: imports Airflow once, and forks the processes of the lab that would do the same.

Each of them runs what `python -m airflow ...` would run, in the same environment and with the same limits, or
imports Airflow by itself. See docs/decisions/0043.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from airflow_celery_lab.configuration import coordinators, names, overrides, roots, services
from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.configuration.environment import PARALLELISM
from airflow_celery_lab.inside_airflow import frames, imports
from airflow_celery_lab.launcher import forkserver, launcher, reaper, temporary
from airflow_celery_lab.launcher.forkserver import Request

#: Variables that tell processes apart, and that each reads when it needs them.
OWN = {
    coordinators.ALL,
    coordinators.OF_QUEUES,
    names.VARIABLE,
    names.HEALTH_CHECK,
    overrides.HEALTH_CHECK,
    temporary.VARIABLE,
    "HONCHO_PROCESS_NAME",
    "OLDPWD",
    "PORT",
    "PWD",
    "SHLVL",
    "SUPERVISOR_GROUP_NAME",
    "SUPERVISOR_PROCESS_NAME",
    "_",
}
#: What of /proc a process has from the one that starts it, and keeps: names of files, and of lines of `status`.
INHERITED = ("cgroup", "limits", "oom_score_adj")
INHERITED_STATUS = (
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed",
)
INHERITED_LINKS = ("cwd", "root", "ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/user", "ns/uts")

#: Where the releases of Airflow list the entry points of all packages, once in a process; and the group of plugins.
LISTS_OF_ENTRY_POINTS = ("airflow._shared.module_loading", "airflow.sdk._shared.module_loading", "airflow.utils.entry_points")
PLUGINS = "airflow.plugins"
_PACKAGE = __name__.partition(".")[0]
#: Time of the last change and size of a file, None where there is none.
Print = tuple[int, int] | None


class Fork(NamedTuple):
    """What a forked process has been asked to be."""

    request: Request
    reports: int  #: the pipe on which it says what it waits for


def main(environ: Mapping[str, str]) -> int:
    """Import Airflow, then fork for each request; a fork runs its program here."""
    if not forkserver.IS_FOR_THIS_SYSTEM:
        print("lab: the forkserver is for Linux; on this system each process imports Airflow by itself", flush=True)
        signal.pause()
    variables = dict(environ)
    state = labs.load(environ, writing=False).state
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody asks how a reaper has ended.
    signal.signal(signal.SIGHUP, _begin_again)
    trouble = _import()
    sources = dict(_sources())
    server = os.getpid()
    with forkserver.listen(state) as listener:
        fork = _serve(listener, sources, trouble)
    own = launcher.instance(fork.request.command, os.environ)

    def execute(arguments: list[str], wanted: dict[str, str]) -> NoReturn:
        reason = _difference(variables, wanted, own.service.kind)
        if changed := _changed(sources):
            reason = f"{changed} has changed since the forkserver did"
            os.kill(server, signal.SIGHUP)
        if reason or arguments[:3] != [sys.executable, "-m", "airflow"]:
            launcher.say_own_import(reason)
            os.execvpe(arguments[0], arguments, wanted)
        os.close(fork.reports)
        _run(arguments, wanted)

    launcher.become(own, lambda text: reaper.report(fork.reports, text), execute)


def _begin_again(*_: object) -> None:
    """Import what has changed, as the same process: what it has forked stays its own."""
    os.execv(sys.executable, [sys.executable, "-m", "airflow_celery_lab", services.FORKSERVER])


def _import() -> str:
    """Import what the processes share, and return why it is of no use, if so."""
    gc.disable()  # Nothing that is imported is garbage.
    for module in imports.OF_PROCESSES:
        try:
            with suppress(ModuleNotFoundError):
                importlib.import_module(module)
        except Exception as error:  # noqa: BLE001, PERF203  # a process that imports it by itself says what is wrong
            return f"the forkserver cannot import {module}: {type(error).__name__}"
    with suppress(ImportError):
        importlib.import_module("sqlalchemy.orm").configure_mappers()  # As the first query would.
    with suppress(ImportError, AttributeError):
        # The names of metrics, which each process reads from YAML at its first one, the api-server at the first run.
        importlib.import_module("airflow._shared.observability.metrics.stats")._get_registry()  # noqa: SLF001  # Nothing else has it read.
    with suppress(ImportError):
        importlib.import_module("setproctitle").getproctitle()  # It looks for its room in memory, beside the first environment.
    gc.enable()
    # What is never looked at is never written to, and stays shared.
    gc.collect()
    gc.freeze()
    return "the forkserver has threads" if len(os.listdir("/proc/self/task")) > 1 else ""


def _serve(listener: socket.socket, sources: Mapping[str, Print], trouble: str) -> Fork:
    """Fork for each request; return in a process that is to run a program.

    All that is done for a request is done in the fork: what this process wrote to would be shared no more.
    """
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            if trouble and _changed(sources):  # It may be over.
                os.kill(os.getppid(), signal.SIGHUP)
                os._exit(0)
            return _answer(connection, trouble)
        connection.close()


def _answer(connection: socket.socket, trouble: str) -> Fork:
    """Become the reaper and the program that are asked for; return in the program's process."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with connection:
        request = forkserver.receive(connection)
        if request is None:  # Somebody has looked whether this process answers.
            os._exit(0)
        refusal = trouble or _other_circumstances(connection)
        forkserver.answer(connection, refusal)
        if refusal:
            os._exit(0)
    for number, file in enumerate(request.output, start=1):
        os.dup2(file, number)
        os.close(file)
    reports = reaper.divide(services.describe(request.command).stop_signal, request.ends)
    os.environ.clear()
    os.environ.update(request.environ)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # As Python has it at its start.
    return Fork(request, reports)


def _run(arguments: list[str], variables: dict[str, str]) -> NoReturn:
    """Run `python -m airflow ...` in this process."""
    if str(roots.PLUGIN) not in _folders(variables):
        _leave_the_plugin_out()
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = arguments[2:]
    with suppress(ImportError):
        import setproctitle

        setproctitle.setproctitle(" ".join(arguments))
    from airflow_celery_lab.inside_airflow import first

    first.begin()
    sys.modules.pop("airflow.__main__", None)  # It is run, not imported.
    frames.in_one_chunk(lambda: runpy.run_module("airflow", run_name="__main__", alter_sys=True))
    sys.exit(0)


def _leave_the_plugin_out() -> None:
    """Let this process not find the lab's plugin, which Airflow has listed for the api-server: each task would read about it again."""
    sys.path[:] = [folder for folder in sys.path if folder != str(roots.PLUGIN)]
    for name in LISTS_OF_ENTRY_POINTS:
        if list_of_groups := getattr(sys.modules.get(name), "_get_grouped_entry_points", None):
            groups = list_of_groups()
            groups[PLUGINS] = [found for found in groups[PLUGINS] if not found[0].value.startswith(f"{_PACKAGE}.")]


def _folders(variables: Mapping[str, str]) -> list[str]:
    return variables.get("PYTHONPATH", "").split(os.pathsep)


def _difference(ours: Mapping[str, str], theirs: Mapping[str, str], kind: str) -> str:
    """Return in what the environment differs from the one that Airflow was imported in, if it does."""
    own = OWN if kind == "scheduler" else OWN | {PARALLELISM}  # Which only a scheduler reads.
    if [*filter(None, _folders(theirs)), str(roots.PLUGIN)] == [*filter(None, _folders(ours))]:
        own = own | {"PYTHONPATH"}  # All but the api-server are to find no plugin of the lab's.
    different = sorted(name for name in ours.keys() | theirs.keys() if name not in own and ours.get(name) != theirs.get(name))
    return f"{', '.join(different)} is not as in the forkserver's environment" if different else ""


def _other_circumstances(connection: socket.socket) -> str:
    """Return what the process that asks has inherited and this one has not, if anything: limits, priority, namespaces."""
    pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
    try:
        ours, theirs = _circumstances("self"), _circumstances(str(pid))
    except OSError:
        return "the forkserver cannot see it"
    different = [name for name in ours if ours[name] != theirs[name]]
    return f"its {', '.join(different)} is not the forkserver's" if different else ""


def _circumstances(pid: str) -> dict[str, str]:
    folder = Path("/proc", pid)
    found = {name: (folder / name).read_text() for name in INHERITED}
    for line in (folder / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in INHERITED_STATUS:
            found[name] = value
    found["nice value"] = (folder / "stat").read_text().rpartition(")")[2].split()[16]
    return found | {name: str((folder / name).readlink()) for name in INHERITED_LINKS}


def _sources() -> Iterator[tuple[str, Print]]:
    """Yield the files that were imported, and the folders and settings that decide what is, as they are now."""
    home = os.environ["AIRFLOW_HOME"]
    users = [os.environ[overrides.PLUGINS], f"{home}/config"]
    paths = {str(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    paths |= {path for path in sys.path if path.startswith(sys.prefix)}
    # A file that could not be imported is no module.
    paths |= {str(file) for folder in users for file in Path(folder).glob("*.py")}
    for path in {*paths, *users, f"{home}/airflow.cfg", os.environ["AIRFLOW_CONFIG"]}:
        yield path, _print(path)


def _changed(sources: Mapping[str, Print]) -> str:
    """Return one of the files that are not as they were, if there is one."""
    return next((path for path, known in sources.items() if known != _print(path)), "")


def _print(path: str) -> Print:
    with suppress(OSError):
        found = os.stat(path)  # noqa: PTH116  # three thousand of them, at each request
        return found.st_mtime_ns, found.st_size
    return None
