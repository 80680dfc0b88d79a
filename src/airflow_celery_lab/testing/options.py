"""The options of the pytest plugin: on the command line, in `pytest.ini` or in `pyproject.toml`. The command line is stronger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_celery_lab.command import NAME
from airflow_celery_lab.configuration import roots
from airflow_celery_lab.configuration.procfile import Line
from airflow_celery_lab.configuration.suggestion import suggest, there_is
from airflow_celery_lab.errors import ProcfileError

#: Seconds in which a DAG run has to end.
TIMEOUT = 300.0
#: Options that a lab which runs already does not take.
OF_A_NEW_LAB = ("lab_workers", "lab_settings_file", "lab_reuse")
#: A worker of the options, such as `worker-io = files,mail:8`.
WORKER = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=\s*([^\s:,]+(?:\s*,\s*[^\s:,]+)*)\s*:\s*(\d{1,3})\s*")


class Worker(NamedTuple):
    """A worker that the tests want."""

    name: str
    queues: tuple[str, ...]
    slots: int

    @property
    def line(self) -> str:
        """Its line in a Procfile."""
        return (
            f"{self.name}: {NAME} exec airflow celery worker --queues {','.join(self.queues)} --concurrency {self.slots} --without-mingle"
        )


class Options(NamedTuple):
    """What the tests want of their lab."""

    project: Path
    dags: Path | None  #: None: as the project has it
    workers: tuple[Worker, ...]  #: none: those of the project's Procfile
    settings_file: Path | None  #: of connections, variables and pools; None: as the project has it
    check_requirements: bool
    home: Path | None  #: the state folder of a lab that runs already
    reuse: bool
    keep_failed: bool
    timeout: float  #: seconds for a DAG run
    output: Path | None  #: folder for the timelines of failed tests; None: pytest's temporary one


def read(config: pytest.Config, environ: Mapping[str, str]) -> Options:
    """Return what the options say.

    Raises:
        pytest.UsageError: one cannot be used.

    """
    dags = _path(config, "lab_dags")
    if dags is not None and not dags.is_dir():
        raise pytest.UsageError(f"{_origin(config, 'lab_dags')}: there is no folder {dags}; name the folder of your DAG files.")
    home, settings_file = _path(config, "lab_home"), _path(config, "lab_settings_file")
    if settings_file is not None and not settings_file.is_file():
        raise pytest.UsageError(
            f"{_origin(config, 'lab_settings_file')}: {settings_file} is not a file; name one of connections, variables and pools."
        )
    reuse, workers = config.getoption("lab_reuse"), config.getoption("lab_workers")
    if given := [name for name in OF_A_NEW_LAB if config.getoption("lab_home") and config.getoption(name)]:
        raise pytest.UsageError(f"--lab-home names a lab that runs already; leave out {_flag(given[0])}, which is for a new one.")
    check = config.getoption("lab_check_requirements")
    return Options(
        project=_project(config.rootpath, environ, dags),
        dags=dags,
        workers=parse_workers(workers or config.getini("lab_workers") or (), _origin(config, "lab_workers")) if home is None else (),
        settings_file=settings_file if home is None else None,
        check_requirements=check if check is not None else config.getini("lab_check_requirements") is not False,
        home=home,
        # Continuous integration begins with nothing; someone who types the option there means it.
        reuse=home is None and (reuse if reuse is not None else bool(config.getini("lab_reuse")) and not environ.get("CI")),
        keep_failed=bool(config.getoption("lab_keep_failed") or config.getini("lab_keep_failed")),
        timeout=_seconds(config),
        output=_path(config, "lab_output"),
    )


def check_names(config: pytest.Config, names: Iterable[str], known: Sequence[str]) -> None:
    """Do nothing when each of `names` in the configuration file is an option, one of the `known` ones or another plugin's.

    Raises:
        pytest.UsageError: there is no such option.

    """
    for name in names:
        if not _knows(config, name):
            raise pytest.UsageError(f"{config.inipath}: there is no option {name}; {suggest(name, known, there_is(known))}")


def _knows(config: pytest.Config, name: str) -> bool:
    try:
        config.getini(name)
    except ValueError:
        return False
    return True


def parse_workers(lines: Iterable[str], origin: str) -> tuple[Worker, ...]:
    """Return the workers that `lines` name, each as `NAME = QUEUES:SLOTS`.

    Raises:
        pytest.UsageError: a line cannot be read, or two have one name; the sentence begins with the option's `origin`.

    """
    workers: dict[str, Worker] = {}
    for line in lines:
        match = WORKER.fullmatch(line)
        if match is None or not int(match[3]):
            raise pytest.UsageError(
                f"{origin}: {line.strip()!r} is not NAME = QUEUES:SLOTS; write for example 'worker-io = files,mail:8' for a worker of 8 slots."
            )
        if match[1] in workers:
            raise pytest.UsageError(f"{origin} names {match[1]!r} twice; give each worker a name of its own.")
        workers[match[1]] = Worker(match[1], tuple(queue.strip() for queue in match[2].split(",")), int(match[3]))
    return tuple(workers.values())


def render(lines: Iterable[Line], workers: Iterable[Worker]) -> str:
    """Return a Procfile with the processes of `lines`, but with `workers` in place of its own ones.

    Raises:
        ProcfileError: a worker has the name of another process.

    """
    others = {line.name: f"{line.name}: {line.command}" for line in lines if line.service.kind != "worker"}
    own = {worker.name: worker.line for worker in workers}
    if taken := sorted(others.keys() & own.keys()):
        raise ProcfileError(
            f"lab_workers names a worker {taken[0]!r}, and so is another process called; give it a name of its own.", process=taken[0]
        )
    return "\n".join([*others.values(), *own.values()]) + "\n"


def _project(rootdir: Path, environ: Mapping[str, str], dags: Path | None) -> Path:
    """Return LAB_PROJECT, else the nearest folder upward from pytest's root with a Procfile or `dags/`, else that root."""
    if environ.get(roots.VARIABLE):
        return roots.find_project(environ)
    for folder in (rootdir, *rootdir.parents):
        if roots.is_project(folder):
            return folder
    if dags is None:
        raise pytest.UsageError(
            f"there is no folder `dags` in {rootdir} or above it; name yours with --lab-dags, or with lab_dags in {_file(rootdir)}."
        )
    return rootdir


def _file(rootdir: Path) -> str:
    return "pytest.ini" if (rootdir / "pytest.ini").exists() else "pyproject.toml"


def _path(config: pytest.Config, name: str) -> Path | None:
    """Return the folder or file that an option names: relative to where pytest was typed, or to the configuration file."""
    typed: Any = config.getoption(name)
    if typed:
        return config.invocation_params.dir / Path(typed).expanduser()
    written: Any = config.getini(name)
    return (config.inipath or config.rootpath / "pytest.ini").parent / Path(written).expanduser() if written else None


def _seconds(config: pytest.Config) -> float:
    text: Any = config.getoption("lab_timeout") or config.getini("lab_timeout")
    try:
        seconds = float(text or TIMEOUT)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(f"{_origin(config, 'lab_timeout')}: {text!r} is not a number of seconds; write for example 300.")
    return seconds


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _origin(config: pytest.Config, name: str) -> str:
    """Return where an option stands, as the user wrote it."""
    return _flag(name) if config.getoption(name) else f"{config.inipath}: {name}"
