"""A timetable in the project's folder of plugins."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.simple import NullTimetable


class Never(NullTimetable):
    """Runs when it is asked to."""


class Calendars(AirflowPlugin):
    """Registers it."""

    name = "calendars"
    timetables = [Never]  # noqa: RUF012  # Airflow's own shape
