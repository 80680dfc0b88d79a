"""Which releases run on this machine."""

from __future__ import annotations

from airflow_celery_lab import __version__
from airflow_celery_lab.configuration import likeness


def versions() -> dict[str, str]:
    """Return the versions that two machines of one lab must have in common: the lab's own, and those of what it runs."""
    return {"lab": __version__, **likeness.versions()}
