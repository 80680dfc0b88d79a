"""What can go wrong through no fault of the lab. Each kind has an exit status of its own.

The statuses are listed in docs/settings.md; tests/unit/test_readme.py compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

#: The command did its work, and the answer is no: a DAG run failed, an experiment lost a task, a check found a fault.
FAILED = 1
#: The command line cannot be understood; Typer's own.
USAGE = 2
#: 128 and the number of SIGINT, SIGPIPE and SIGTERM, as shells count.
INTERRUPTED, NOBODY_READS, TERMINATED = 130, 141, 143


class LabError(Exception):
    """One sentence for the user: what is wrong, where, and what to do. And the data behind it, where it has some."""

    status: ClassVar[int]

    def __init__(
        self, sentence: str, *, path: Path | None = None, process: str | None = None, port: int | None = None, setting: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.path = path
        self.process = process
        self.port = port
        self.setting = setting


class SettingsError(LabError):
    """A setting in `.env` or the environment cannot be used."""

    status = 10


class ProcfileError(LabError):
    """The Procfile, a line of it, or a count for one cannot be used."""

    status = 11


class PortTakenError(LabError):
    """Another program listens where the lab wants to."""

    status = 12


class MissingProgramError(LabError):
    """A program that the lab needs is not on this machine."""

    status = 13


class StateFolderError(LabError):
    """The state folder, or a file in it, cannot be used."""

    status = 14


class AlreadyRunningError(LabError):
    """The lab, or a process of that name in it, runs already."""

    status = 15


class NotRunningError(LabError):
    """The lab does not run, and what is asked for needs it."""

    status = 16


class UnknownDagError(LabError):
    """There is no DAG of that name."""

    status = 17


class NotReadyError(LabError):
    """Something did not become ready, or did not end, within its time."""

    status = 18


class UnknownProcessError(LabError):
    """The lab has no process of that name."""

    status = 19


class AirflowError(LabError):
    """Airflow refused a request."""

    status = 20


class UnknownExperimentError(LabError):
    """There is no experiment of that name."""

    status = 21


class ModeError(LabError):
    """The lab runs in the foreground, and what is asked for needs one in the background."""

    status = 22


class ProjectError(LabError):
    """There is no project here, or its files cannot be written."""

    status = 23


class UnknownRunError(LabError):
    """There is no such DAG run, or none yet."""

    status = 25


class UnknownTaskError(LabError):
    """A DAG run has no such task, or the task no such try."""

    status = 26


class DagFileError(LabError):
    """A DAG file cannot be read, or does not hold the DAG that is asked for."""

    status = 24


class ReleaseError(LabError):
    """A release of Airflow, or an environment with one, cannot be tried."""

    status = 27


class CannotTellError(LabError):
    """An experiment's data says neither that its prediction holds nor that it does not."""

    status = 28


class ExposureError(LabError):
    """The lab cannot be exposed as was asked: an address, a password or a time is not right."""

    status = 29


class TokenError(LabError):
    """A token for joining is damaged."""

    status = 30
