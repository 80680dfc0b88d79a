"""The one lab of a test session: the first process that needs it starts it, and pytest-xdist's workers share it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from airflow_celery_lab.cli.app import progress
from airflow_celery_lab.cluster import faults, journal, trees
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import airflow_settings, procfile, roots, settings
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import LabError, NotReadyError, NotRunningError
from airflow_celery_lab.testing.home import Home, locked
from airflow_celery_lab.testing.options import Options, render
from airflow_celery_lab.testing.ports import free_offset
from airflow_celery_lab.wait import wait_until

#: Variables of the shell that belong to another lab.
OTHERS = {"LAB_HOME", "LAB_PORT_OFFSET", *settings.INTERNAL} - {"LAB_LIBRARIES"}
FOREIGN = ("HONCHO_", "SUPERVISOR_", "PYTEST_")
#: Files whose locks say until the end of this process that its tests use the lab.
_IN_USE: list[IO[str]] = []
#: Airflow's switch for schedules: in a test nothing runs that the test did not ask for.
SCHEDULES = "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"
#: Seconds in which tasks may end when the session is over, and in which supervisord answers that was just started.
STOP, ANSWER = 2.5, 3.0
#: Lines of the log of a process that did not start.
WORDS = 10


def attach(home: Home, options: Options, shell: Mapping[str, str], say: Callable[[str], None]) -> Cluster:
    """Return the session's lab, ready; start it where nobody has.

    `shell` is the environment in which pytest was typed.

    Raises:
        LabError: it cannot be started, or another process of the session has found that it cannot.

    """
    environ = _environ(options, shell)
    with locked(home.starting):
        if home.broken.exists():
            raise NotReadyError(home.broken.read_text(encoding="utf-8"))
        if home.started.exists():
            return Cluster.open({**environ, **home.variables()})
        stop(home, environ)  # The process that was starting it has crashed.
        _watch(home)
        try:
            return _start(home, options, shell, say)
        except LabError as error:
            home.broken.write_text(str(error), encoding="utf-8")
            raise


def attach_reused(home: Home, options: Options, shell: Mapping[str, str], say: Callable[[str], None]) -> Cluster:
    """Return the lab that an earlier session has left, put in order; start one where there is none, or one for something else.

    Raises:
        LabError: it cannot be started, or another session uses one that was started for something else.

    """
    home.folder.mkdir(mode=0o711, exist_ok=True)
    (home.folder / ".gitignore").write_text("*\n", encoding="utf-8")
    with locked(home.starting):
        cluster = _found(home, options, shell) or _start(home, options, shell, say)
        _IN_USE.append(home.users.open("a", encoding="utf-8"))
        fcntl.flock(_IN_USE[-1], fcntl.LOCK_SH)
        return cluster


def _found(home: Home, options: Options, shell: Mapping[str, str]) -> Cluster | None:
    """Return the lab that is there, in order, where it is the wanted one; end any other."""
    environ = _environ(options, shell)
    if not home.description.exists():
        return None
    fits = home.started.exists() and home.wanted() == _wanted(options, environ)
    try:
        with locked(home.users, fcntl.LOCK_EX | fcntl.LOCK_NB):
            cluster = Cluster.open({**environ, **home.variables()})
            if fits and cluster.supervisor.running:
                put_back(cluster)
                return cluster
            cluster.close()
            stop(home, environ)
            return None
    except BlockingIOError:
        if fits:
            return Cluster.open({**environ, **home.variables()})
        raise NotReadyError(
            f"another test session uses the lab in {home.folder}, which was started for other versions, workers or settings; "
            "wait for its end, or use --no-lab-reuse."
        ) from None


def attach_running(options: Options, shell: Mapping[str, str], home: Path) -> Cluster:
    """Return the lab that the user has started, whose state folder is `home`.

    Raises:
        LabError: none runs there, or it is not ready.

    """
    if not State(home).secrets.exists():
        raise NotRunningError(f"there is no lab in {home}; start one with `LAB_HOME={home} {typed()} up -d`.", path=home)
    cluster = Cluster.open({**shell, roots.VARIABLE: str(options.project), "LAB_HOME": str(home)}, writing=False)
    cluster.require_running()
    cluster.wait_until_ready()
    return cluster


def put_back(cluster: Cluster) -> None:
    """Make the lab what its Procfile says, and wait until it is ready: resume, start, add and remove processes.

    Raises:
        LabError: it did not become ready.

    """
    for name in _paused(cluster):
        cluster.resume(name)
    if cluster.links().ports:
        cluster.drop_links()
    cluster.apply()
    cluster.up()


def _paused(cluster: Cluster) -> list[str]:
    """Return the names of the processes that are paused, or that will be in a moment: a busy machine takes a while to stop one."""
    paused: set[str] = set()
    for act in journal.read(cluster.lab.state):
        if act.what == "pause":
            paused.update(act.names)
        elif act.what in {"resume", "kill", "stop"}:
            paused.difference_update(act.names)
    paused.update(trees.paused(cluster.records))
    return [name for name in cluster.records if name in paused]


def stop(home: Home, environ: Mapping[str, str]) -> None:
    """End the lab, whatever state it is in, and delete its state.

    Raises:
        LabError: something of it cannot be ended.

    """
    variables = home.variables()
    if variables and home.state.is_dir():
        with Cluster.open({**environ, **variables}) as cluster:
            if not home.started.exists():  # The process that started it was killed, perhaps a moment after it had started supervisord.
                with suppress(NotReadyError):
                    wait_until(lambda: None if cluster.supervisor.running else "no answer", ANSWER, "supervisord")
            cluster.down(STOP)
            for record in cluster.records.values():
                faults.kill(record, cluster.supervisor)
    home.started.unlink(missing_ok=True)
    shutil.rmtree(home.state, ignore_errors=True)
    home.description.unlink(missing_ok=True)


def _start(home: Home, options: Options, shell: Mapping[str, str], say: Callable[[str], None]) -> Cluster:
    environ = _environ(options, shell)
    variables = {
        roots.VARIABLE: str(options.project),
        "LAB_HOME": str(home.state),
        "LAB_PORT_OFFSET": str(free_offset()),
        **({"LAB_DAGS": str(options.dags)} if options.dags else {}),
        **({airflow_settings.VARIABLE: str(options.settings_file)} if options.settings_file else {}),
    }
    if options.workers:
        lines = procfile.read(options.project, named=settings.load(environ, options.project).procfile)
        home.procfile.write_text(render(lines, options.workers), encoding="utf-8")
        variables["LAB_PROCFILE"] = str(home.procfile)
    home.describe(variables, _wanted(options, environ))
    cluster = Cluster.open({**environ, **variables})
    say("lab: starting Airflow and its workers, once for all tests")
    try:
        seconds = cluster.up(on_wait=progress("starting", say))
    except NotReadyError as error:
        raise NotReadyError("\n".join([str(error), *_last_words(cluster)])) from error
    home.started.touch()
    say(f"lab: ready after {seconds:.1f} s")
    return cluster


def _last_words(cluster: Cluster) -> Iterator[str]:
    for process in cluster.status(details=False).not_ready:
        for line in cluster.supervisor.tail(process.name, WORDS):
            yield f"{process.name} | {line}"


def _watch(home: Home) -> None:
    """Start the watcher, in a process group of its own: Ctrl-C does not reach it."""
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    command = [sys.executable, "-m", "airflow_celery_lab.testing.watcher", str(home.folder)]
    os.posix_spawn(sys.executable, command, os.environ, file_actions=nothing, setpgroup=0)


def _environ(options: Options, shell: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which `up` would start the lab; what in it belongs to another lab is left out."""
    kept = {name: value for name, value in shell.items() if name not in OTHERS and not name.startswith(FOREIGN)}
    return {SCHEDULES: "False", **kept, roots.VARIABLE: str(options.project)}


def _wanted(options: Options, environ: Mapping[str, str]) -> str:
    """Return a word that is another one for other versions, workers or settings."""
    config = settings.load(environ, options.project)
    facts: list[Any] = [
        sys.prefix,
        sys.version,
        sorted(f"{one.name} {one.version}" for one in metadata.distributions()),
        options.workers,
        str(options.dags),
        _content(options.settings_file or airflow_settings.path_of(config)),
        [line[:2] for line in procfile.of(config, environ)],
        config.dotenv_print,
        sorted((name, value) for name, value in environ.items() if name.startswith(("LAB_", "AIRFLOW"))),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
