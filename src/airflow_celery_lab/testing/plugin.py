"""The pytest plugin: the fixture `airflow_lab`, its options and its mark. docs/testing-dags.md is its handbook.

Every session of pytest in this environment imports this module, so it imports nothing of the lab until a test wants one.
"""

from __future__ import annotations

import os
import sys
from argparse import BooleanOptionalAction
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_celery_lab.testing.home import Home, Keeper
    from airflow_celery_lab.testing.lab import AirflowLab
    from airflow_celery_lab.testing.options import Options
    from airflow_celery_lab.testing.run import LabRun

#: The environment in which pytest was typed, which is the lab's. What conftest.py sets later is for tests in this process.
SHELL = dict(os.environ)
#: Each option with its kind in the configuration file and its help; `--lab-dags` is `lab_dags` there.
OPTIONS = {
    "lab_dags": ("string", "DIR", "Folder of the DAG files (default: the project's)."),
    "lab_workers": (
        "linelist",
        "NAME=QUEUES:SLOTS",
        "A worker in place of the Procfile's, such as worker-io=files,mail:8; several times for several.",
    ),
    "lab_reuse": ("bool", None, "Keep the lab for the next session, and use the one that was kept (in the file: not where CI is set)."),
    "lab_home": ("string", "DIR", "Use the lab that runs with this state folder, and leave it running."),
    "lab_keep_failed": ("bool", None, "Keep the lab when a test has failed, to look into it."),
    "lab_timeout": ("string", "SECONDS", "Time for a DAG run to end (default: 300)."),
    "lab_output": ("string", "DIR", "Folder for the timelines of failed tests (default: pytest's temporary folder)."),
}
FIXTURE, ALONE = "airflow_lab", "lab_alone"

_options: pytest.StashKey[Options] = pytest.StashKey()
_keeper: pytest.StashKey[Keeper] = pytest.StashKey()
_lab: pytest.StashKey[AirflowLab] = pytest.StashKey()
#: Of a test: how many runs there were before it.
_begun: pytest.StashKey[int] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("airflow-celery-lab", "Airflow Celery Lab")
    for name, (kind, metavar, text) in OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        if kind == "bool":
            group.addoption(flag, action=BooleanOptionalAction, default=None, dest=name, help=text)
        else:
            group.addoption(flag, action="append" if kind == "linelist" else "store", default=None, dest=name, metavar=metavar, help=text)
        parser.addini(name, text, type=kind, default=None if kind == "string" else False if kind == "bool" else [])  # type: ignore[arg-type]


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, where any is given."""
    config.addinivalue_line("markers", f"{ALONE}: no other test uses the lab beside this one, under pytest-xdist too.")
    if any(name.startswith("lab_") for name in config.inicfg) or any(config.getoption(name) for name in OPTIONS):
        _read(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the lab."""
    keeper = config.stash.get(_keeper, None)
    if keeper is None:
        return
    keep = bool(keeper.used and config.stash.get(_failed, False) and _read(config).keep_failed)
    if keeper.used and not keep:
        _say(config, "lab: stopping")
    keeper.close(keep=keep)


#: Whether a test has failed.
_failed: pytest.StashKey[bool] = pytest.StashKey()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remember whether a test has failed."""
    session.config.stash[_failed] = bool(session.testsfailed)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how to reach a lab that goes on."""
    home = _home(config, make=False)
    if home is None or not home.started.exists():
        return
    options = _read(config)
    if options.reuse or (options.keep_failed and config.stash.get(_failed, False)):
        from airflow_celery_lab.command import typed

        words = " ".join(f"{name}={value}" for name, value in home.variables().items())
        terminalreporter.section("Airflow lab")
        terminalreporter.write_line("the lab goes on; to look at it, and to stop it:")
        for command in ("status", "password", "down"):
            terminalreporter.write_line(f"  {words} {typed()} {command}")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the session's lab is, or will be."""
    home = _home(node.config, make=True)
    node.workerinput[FIXTURE] = {"folder": str(home.folder) if home else "", "shell": SHELL}


@pytest.fixture(scope="session")
def airflow_lab(request: pytest.FixtureRequest) -> Iterator[AirflowLab]:
    """Give a running Airflow cluster with Celery workers, one for the whole session. Each test leaves its processes as they were."""
    from airflow_celery_lab.errors import LabError
    from airflow_celery_lab.testing.lab import AirflowLab

    config = request.config
    options = _read(config)
    try:
        cluster = _attach(config, options)
    except LabError as error:
        pytest.fail(f"there is no lab for these tests: {error}", pytrace=False)
    lab = config.stash[_lab] = AirflowLab(cluster, options.timeout)
    yield lab
    del config.stash[_lab]
    cluster.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let tests that want the lab for themselves have it, and all others have it together."""
    if not _uses_lab(item):
        return (yield)
    with _turn(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Remember where the test begins."""
    if _uses_lab(item):
        lab = item.config.stash.get(_lab, None)
        item.stash[_begun] = len(lab.runs) if lab else 0
        if lab:
            lab.alone = _is_alone(item)
    yield
    if _uses_lab(item) and (lab := item.config.stash.get(_lab, None)):
        lab.alone = _is_alone(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the lab did, where a test has failed."""
    report = yield
    lab = item.config.stash.get(_lab, None)
    if report.failed and lab and _uses_lab(item):
        from airflow_celery_lab.testing import report as reports

        report.sections.extend(reports.sections(lab, _runs(item, lab), _output(item.config)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Put back what the test has done to the lab."""
    lab = item.config.stash.get(_lab, None)
    try:
        if lab and _uses_lab(item):
            lab.tidy(item.stash[_begun])
    finally:
        yield


def _uses_lab(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ())


def _runs(item: pytest.Item, lab: AirflowLab) -> list[LabRun]:
    """Return the runs of a test: those that it has started, and those that its fixtures gave it."""
    from airflow_celery_lab.testing.run import LabRun

    given = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, LabRun)]
    own = lab.runs[item.stash[_begun] :]
    return [*(run for run in given if run not in own), *own]


def _read(config: pytest.Config) -> Options:
    if _options not in config.stash:
        from airflow_celery_lab.errors import LabError
        from airflow_celery_lab.testing import options

        options.check_names(config, OPTIONS)
        try:
            config.stash[_options] = options.read(config, _shell(config))
        except LabError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[_options]


def _workerinput(config: pytest.Config) -> dict[str, Any] | None:
    """Return what the controller of pytest-xdist has told this worker, None where this process is none."""
    given = getattr(config, "workerinput", None)
    return None if given is None else given[FIXTURE]


def _shell(config: pytest.Config) -> dict[str, str]:
    given = _workerinput(config)
    return SHELL if given is None else given["shell"]


def _home(config: pytest.Config, *, make: bool) -> Home | None:
    """Return the folder of the session's lab; None where the lab is the user's, or where it is not there and not to be made."""
    from pathlib import Path

    from airflow_celery_lab.testing.home import Home, Keeper

    if given := _workerinput(config):
        return Home(Path(given["folder"])) if given["folder"] else None
    if _keeper in config.stash:
        return config.stash[_keeper].home
    if _options in config.stash:
        options = config.stash[_options]
        if options.home is not None:
            return None
        if options.reuse:
            return Home(config.rootpath / ".lab-pytest")
    if not make:
        return None
    config.stash[_keeper] = Keeper()
    return config.stash[_keeper].home


def _attach(config: pytest.Config, options: Options) -> Any:
    from airflow_celery_lab.testing import shared

    shell = _shell(config)
    if options.home is not None:
        shared.require_lab(options.home)
        return shared.attach_running(options, shell)
    home = _home(config, make=True)
    assert home is not None
    attach = shared.attach_reused if options.reuse else shared.attach
    from airflow_celery_lab.cli.app import progress

    _say(config, "lab: starting Airflow and its workers, once for all tests")
    return attach(home, options, shell, progress("starting", partial(_say, config)))


def _say(config: pytest.Config, text: str) -> None:
    """Print a line to the terminal, past pytest's capture; a worker of pytest-xdist has the controller's stderr."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print(f"\n{text}", end="", file=sys.stderr, flush=True)


def _is_alone(item: pytest.Item) -> bool:
    return _workerinput(item.config) is None or item.get_closest_marker(ALONE) is not None


def _turn(item: pytest.Item) -> AbstractContextManager[object]:
    home = _home(item.config, make=False) if _workerinput(item.config) else None
    if home is None:
        return nullcontext()
    from airflow_celery_lab.testing import home as homes

    return homes.turn(home, alone=_is_alone(item))


def _output(config: pytest.Config) -> Any:
    output = _read(config).output
    return output or config._tmp_path_factory.mktemp("airflow_lab")  # type: ignore[attr-defined]  # noqa: SLF001  # as its fixture does
