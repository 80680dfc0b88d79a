"""What is needed to talk to one lab."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from airflow_celery_lab.configuration import credentials, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.configuration.state import State


class Lab(NamedTuple):
    """One lab, running or not: where it is, how it is set, and its secrets."""

    settings: Settings
    credentials: Credentials

    @property
    def state(self) -> State:
        """Every name in its state folder."""
        return self.settings.state


def load(environ: Mapping[str, str] = os.environ, *, writing: bool = True) -> Lab:
    """Return the lab that `environ`, the project around the current folder and its `.env` describe.

    Without `writing` its state folder is only read, and must hold a lab.

    Raises:
        LabError: they cannot be used, or the state folder cannot.

    """
    config = settings.load(environ)
    return Lab(config, credentials.load_or_create(config.state) if writing else credentials.load(config.state))
