"""Copies of a checkout, whose Procfile a test may edit."""

from __future__ import annotations

import shutil
from pathlib import Path

from airflow_celery_lab.configuration import roots

#: What a checkout needs to run, without its environment.
PARTS = ("lab", "Procfile", ".env.example", "supervisord.conf", "config", "dags", "src", "requirements.lock", "requirements")


def copy_checkout(folder: Path) -> Path:
    """Copy what the checkout that this package runs from needs to run into `folder`, and return that."""
    for part in PARTS:
        source = roots.DATA / part
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / part)
    return folder
