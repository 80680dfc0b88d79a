"""What one process of pytest knows of the session's lab. The controller of pytest-xdist has one of these, and so has each worker.

Every session with pytest-xdist imports this: nothing large is imported before a test wants a lab.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_celery_lab.errors import LabError
from airflow_celery_lab.testing import home as homes
from airflow_celery_lab.testing.home import Home, Keeper

if TYPE_CHECKING:
    from airflow_celery_lab.cluster.handle import Cluster
    from airflow_celery_lab.testing.lab import AirflowLab
    from airflow_celery_lab.testing.options import Options

#: Where a lab lies that is kept for the next session, in pytest's root folder.
REUSED = ".lab-pytest"


class Session:
    """The session's lab, as one process sees it."""

    def __init__(self, config: pytest.Config, shell: dict[str, str], folder: str | None = None) -> None:
        """Take the environment in which pytest was typed, and from the controller of pytest-xdist the lab's folder."""
        self._config = config
        self._shell = shell
        self._folder = folder
        self._keeper: Keeper | None = None
        #: Before the first line that is printed: pytest has not ended its own one yet.
        self._newline = "\n"
        self.lab: AirflowLab | None = None  #: while tests use it
        self.failed = False  #: whether a test has failed
        self.alone = False  #: whether the test that runs wants the lab for itself

    @cached_property
    def options(self) -> Options:
        """The options.

        Raises:
            pytest.UsageError: one cannot be used.

        """
        from airflow_celery_lab.testing import options

        try:
            return options.read(self._config, self._shell)
        except LabError as error:
            raise pytest.UsageError(str(error)) from None

    def check(self, written: Iterable[str], known: Iterable[str]) -> None:
        """Do nothing when the options can be used, and the `written` ones of the configuration file are among those that are `known`.

        Raises:
            pytest.UsageError: one cannot.

        """
        from airflow_celery_lab.testing import options

        options.check_names(self._config, written, list(known))
        _ = self.options

    def as_workerinput(self) -> dict[str, Any]:
        """Return what a worker of pytest-xdist needs to make its own one of these."""
        return {"shell": self._shell, "folder": str(self._home.folder)}

    @contextmanager
    def attached(self) -> Iterator[AirflowLab]:
        """Give the running lab; start it where no process of the session has.

        Raises:
            pytest.fail.Exception: there is none to be had.

        """
        from airflow_celery_lab.testing.lab import AirflowLab

        try:
            cluster = self._attach()
        except (LabError, pytest.UsageError) as error:
            raise pytest.fail.Exception(f"there is no lab for these tests: {error}", pytrace=False) from None
        with cluster:
            self.lab = AirflowLab(cluster, self.options.timeout, lambda: self.alone or not self._shared)
            yield self.lab
            self.lab = None

    def turn(self) -> AbstractContextManager[None]:
        """Return what holds a test until it can have the lab, with others or alone."""
        return homes.turn(self._home, alone=self.alone) if self._shared else nullcontext()

    def sections(self, funcargs: Mapping[str, Any], begun: int) -> list[tuple[str, str]]:
        """Return what a failing test shows: of the runs that it has started, from number `begun` on, and of those in its `funcargs`."""
        if self.lab is None:
            return []
        from airflow_celery_lab.testing import report
        from airflow_celery_lab.testing.run import LabRun

        own = self.lab.runs[begun:]
        given = [value for value in funcargs.values() if isinstance(value, LabRun) and value not in own]
        return list(report.sections(self.lab, [*given, *own], self._output))

    def farewell(self) -> list[str]:
        """Return the lines that say how to reach a lab that goes on after the session."""
        if not self._goes_on:
            return []
        from airflow_celery_lab.command import typed

        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._home.variables().items())
        return ["the lab goes on; to look at it, or with `down` in place of `status` to stop it:", f"  {words} {typed()} status"]

    def close(self) -> None:
        """End the lab, unless it is to go on. A worker of pytest-xdist leaves that to the controller."""
        if self._keeper is None:
            return
        keep = self._goes_on
        if self._keeper.used and not keep:
            self._say("lab: stopping")
        try:
            self._keeper.close(keep=keep)
        except LabError as error:
            self._say(f"lab: {error}")
        except KeyboardInterrupt:
            self._say("lab: it goes on stopping in the background")

    @property
    def _shared(self) -> bool:
        """Whether other processes have tests in this session, too."""
        return self._folder is not None and os.environ.get("PYTEST_XDIST_WORKER_COUNT") != "1"

    @property
    def _goes_on(self) -> bool:
        if "_home" not in self.__dict__ or not self._home.started.exists():  # No test has wanted one.
            return False
        return self.options.reuse or (self.options.keep_failed and self.failed)

    @cached_property
    def _home(self) -> Home:
        """The folder of the session's lab, or for the turns of tests alone, where the lab is the user's."""
        if self._folder is not None:
            return Home(Path(self._folder))
        if "options" in self.__dict__ and self.options.reuse:
            return Home(self._config.rootpath / REUSED)
        self._keeper = Keeper()
        return self._keeper.home

    def _attach(self) -> Cluster:
        from airflow_celery_lab.configuration import requirements
        from airflow_celery_lab.testing import shared

        if self.options.check_requirements and (lacking := requirements.warnings(self.options.project, self._shell)):
            raise pytest.UsageError(f"{lacking[0]} `--no-lab-check-requirements` tests without them.")
        if self.options.home is not None:
            return shared.attach_running(self.options, self._shell, self.options.home)
        attach = shared.attach_reused if self.options.reuse else shared.attach
        return attach(self._home, self.options, self._shell, self._say)

    @cached_property
    def _output(self) -> Path:
        # What the fixture `tmp_path_factory` gives.
        return self.options.output or Path(self._config._tmp_path_factory.mktemp("airflow_lab"))  # type: ignore[attr-defined]  # noqa: SLF001

    def _say(self, text: str) -> None:
        """Print a line to the terminal, past pytest's capture; a worker of pytest-xdist has the controller's stderr."""
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            print(f"{self._newline}{text}", file=sys.stderr, flush=True)
        self._newline = ""
