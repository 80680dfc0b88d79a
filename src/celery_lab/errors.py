"""What can go wrong through no fault of the lab, each with an exit status of its own."""

from __future__ import annotations


class LabError(Exception):
    """One sentence for the user: what is wrong, where, and what to do."""

    status = 1


class SettingsError(LabError):
    """A setting in `.env` or the environment cannot be used."""

    status = 10


class ProcfileError(LabError):
    """A line of the Procfile cannot be used."""

    status = 11


class PortTakenError(LabError):
    """Another program listens where the lab wants to."""

    status = 12


class MissingProgramError(LabError):
    """A program that the lab needs is not on this machine."""

    status = 13


class StateFolderError(LabError):
    """The state folder cannot be used."""

    status = 14


class AlreadyRunningError(LabError):
    """The lab, or a process of that name in it, runs already."""

    status = 15


class NotRunningError(LabError):
    """What is asked for needs a running cluster."""

    status = 16


class UnknownDagError(LabError):
    """There is no DAG of that name."""

    status = 17


class NotReadyError(LabError):
    """Something did not become ready within its time."""

    status = 18
