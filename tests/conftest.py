"""The labs that tests share, and which tests run beside each other."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_celery_lab import command
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing import throwaway

if TYPE_CHECKING:
    from airflow_celery_lab.testing.browser import Browser

#: Folders of tests, and marks.
LEVELS = ("unit", "integration", "e2e")
#: Files in a folder below this one share a lab.
SHARING = Path("tests/e2e")
#: Marks of tests that one process runs as fast as several.
SHORT = ("unit", "smoke")
#: Bytes that a process's lab and browser need, with some to spare.
MEMORY = 2_500_000_000

# Messages name the command that was typed; here that is nobody's, whatever started the tests.
os.environ.pop(command.VARIABLE, None)
# Programs that tests start know nothing of this pytest: not of its xdist, nor of the width that its readline has put into the environment.
for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID", "COLUMNS", "LINES"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(next(level for level in LEVELS if level in item.path.parts))


def pytest_keyboard_interrupt() -> None:
    """End all labs at once: an xdist worker that is interrupted has ten more seconds, and gets a second Ctrl-C in them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    throwaway.destroy_all()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return how many processes run the tests: one more than there are processors, as tests wait a lot; 0 is this one alone."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist reads it.
    if config.option.markexpr in SHORT:
        return 0
    names = [argument.partition("::")[0] for argument in config.args]
    files = [file for name in names for file in (Path(name).rglob("test_*.py") if Path(name).is_dir() else [Path(name)])]
    # Unit tests take milliseconds: those of all files count as one group.
    groups = {"unit" if "unit" in file.parts else _group(os.path.relpath(file, config.rootpath)) for file in files}
    bearable = min((os.cpu_count() or 1) + 1, psutil.virtual_memory().available // MEMORY)
    return 0 if len(groups) == 1 else max(1, min(len(groups), bearable))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let workers end their labs when a session is broken off: by itself, xdist kills them 5 s after it has interrupted them."""
    from xdist.workermanage import NodeManager  # Here and below: where nothing is distributed, xdist may be missing.

    NodeManager.EXIT_TIMEOUT = 20


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Give each process one group of tests after the other, in the order of their collection: what takes minutes comes first."""
    from xdist.scheduler import LoadScopeScheduling

    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = lambda test: _group(test.partition("::")[0])
    return scheduling


def _group(file: str) -> str:
    """Return the name of the group to which the tests of a file belong; each group runs in one process."""
    folder = Path(file).parent
    return str(folder if folder.parent == SHARING else file)


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser without a window; CI has to have one."""
    from airflow_celery_lab.testing import browser as browsers  # Not before pytest has prepared that package.

    if browsers.program() is None and "CI" not in os.environ:
        pytest.skip("there is no Chromium on this machine")
    with browsers.browser() as page:
        yield page


@pytest.fixture(scope="session")
def lab_dags() -> Iterator[Path]:
    """The lab's DAGs and those that only the tests need, in a folder that tests may write to."""
    folder = Path(mkdtemp(prefix="lab-dags-"))
    for source in (CHECKOUT / "dags", CHECKOUT / "tests" / "e2e" / "dags"):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    yield folder
    shutil.rmtree(folder)
