"""The pytest plugin: the fixture `airflow_lab`, its options and its mark. docs/testing-dags.md is its handbook.

Every session of pytest in this environment imports this module, so it imports nothing of the lab until a test wants one.
"""

from __future__ import annotations

import os
from argparse import BooleanOptionalAction
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

if TYPE_CHECKING:
    from airflow_celery_lab.testing.lab import AirflowLab
    from airflow_celery_lab.testing.session import Session

#: The environment in which pytest was typed, which is the lab's. What conftest.py sets later is for tests in this process.
SHELL = dict(os.environ)
FIXTURE, ALONE = "airflow_lab", "lab_alone"


class Option(NamedTuple):
    """One option: `--lab-dags` on the command line, `lab_dags` in the configuration file."""

    name: str
    kind: Literal["string", "linelist", "bool"]
    metavar: str
    help: str


OPTIONS = (
    Option("lab_dags", "string", "DIR", "Folder of the DAG files (default: the project's)."),
    Option(
        "lab_workers", "linelist", "NAME=QUEUES:SLOTS", "A worker in place of the Procfile's, such as worker-io=files,mail:8; repeat it."
    ),
    Option("lab_settings_file", "string", "FILE", "Connections, variables and pools (default: the project's airflow_settings.yaml)."),
    Option("lab_check_requirements", "bool", "", "Refuse the tests where a package of requirements.txt is missing (default: it does)."),
    Option("lab_reuse", "bool", "", "Keep the lab for the next session, or use the one that was kept (in the file: not where CI is set)."),
    Option("lab_home", "string", "DIR", "Use the lab that runs with this state folder, and leave it running."),
    Option("lab_keep_failed", "bool", "", "Keep the lab when a test has failed, to look into it."),
    Option("lab_timeout", "string", "SECONDS", "Time for a DAG run to end (default: 300)."),
    Option("lab_output", "string", "DIR", "Folder for the timelines of failed tests (default: pytest's temporary folder)."),
)

_session: pytest.StashKey[Session] = pytest.StashKey()
#: Of a test: how many runs there were before it.
_begun: pytest.StashKey[int] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("airflow-celery-lab", "Airflow Celery Lab")
    for name, kind, metavar, text in OPTIONS:
        flag = f"--{name.replace('_', '-')}"
        if kind == "bool":
            group.addoption(flag, action=BooleanOptionalAction, default=None, dest=name, help=text)
        else:
            group.addoption(flag, action="append" if kind == "linelist" else "store", dest=name, metavar=metavar, help=text)
        # Else pytest's own default for a kind could not be told from what the user wrote.
        parser.addini(name, text, type=kind, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, where any is given."""
    config.addinivalue_line("markers", f"{ALONE}: no other test uses the lab beside this one, under pytest-xdist too.")
    if _written(config) or any(config.getoption(option.name) is not None for option in OPTIONS):
        _of(config).check(_written(config), [option.name for option in OPTIONS])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remember whether a test has failed."""
    if known := session.config.stash.get(_session, None):
        known.failed = bool(session.testsfailed)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how to reach a lab that goes on."""
    if (known := config.stash.get(_session, None)) and (lines := known.farewell()):
        terminalreporter.section("Airflow lab")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the lab, unless it is to go on."""
    if known := config.stash.get(_session, None):
        known.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the session's lab is, or will be."""
    node.workerinput[FIXTURE] = _of(node.config).as_workerinput()


@pytest.fixture(scope="session")
def airflow_lab(request: pytest.FixtureRequest) -> Iterator[AirflowLab]:
    """Give a running Airflow cluster with Celery workers, one for the whole session. Each test leaves its processes as they were."""
    with _of(request.config).attached() as lab:
        yield lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that wants the lab for itself have it, and all others have it together."""
    if not _uses_lab(item):
        return (yield)
    session = _of(item.config)
    session.alone = item.get_closest_marker(ALONE) is not None
    item.stash[_begun] = len(session.lab.runs) if session.lab else 0
    with session.turn():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the lab did, where a test has failed."""
    report = yield
    if report.failed and _uses_lab(item):
        report.sections.extend(_of(item.config).sections(getattr(item, "funcargs", {}), item.stash[_begun]))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Put back what the test has done to the lab."""
    try:
        if _uses_lab(item) and (lab := _of(item.config).lab):
            lab.tidy(item.stash[_begun])
    finally:
        yield


def _uses_lab(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ())


def _of(config: pytest.Config) -> Session:
    """Return what this process knows of the session's lab."""
    if _session not in config.stash:
        from airflow_celery_lab.testing.session import Session

        given = getattr(config, "workerinput", None)
        config.stash[_session] = Session(config, SHELL) if given is None else Session(config, **given[FIXTURE])
    return config.stash[_session]


def _written(config: pytest.Config) -> list[str]:
    """Return the names in the configuration file that could be this plugin's; pytest itself only warns of one that nobody knows."""
    # Until pytest 9.1 it has the other name, and asking for that one is deprecated since.
    given = vars(config).get("_inicfg") or vars(config).get("inicfg") or {}
    return [name for name in given if name.startswith("lab_")]
