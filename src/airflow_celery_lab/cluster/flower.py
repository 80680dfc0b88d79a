"""Flower, as far as the lab asks it."""

from __future__ import annotations

import httpx

from airflow_celery_lab.configuration import names
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.lab import Lab

#: Seconds for one answer; it takes milliseconds.
TIMEOUT = 2


def workers(lab: Lab) -> list[str] | str:
    """Return the names of the workers that Flower has heard of and that live, or the reason why it does not say."""
    try:
        response = httpx.get(
            f"{lab.settings.url('flower')}/api/workers",
            params={"status": 1},
            auth=(ADMIN, lab.credentials.admin_password),
            timeout=TIMEOUT,
            trust_env=False,
        )
        response.raise_for_status()
        return [names.worker_name(node) for node, alive in response.json().items() if alive]
    except (httpx.HTTPError, ValueError) as error:
        return f"Flower does not answer: {error}"
