"""Flower, as far as the lab asks it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx

from airflow_celery_lab.configuration import names
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.lab import Lab

#: Seconds for one answer; it takes milliseconds.
TIMEOUT = 2
#: Seconds in which Flower asks all workers; it gives each a second.
REFRESH = 5


def workers(lab: Lab) -> list[str] | str:
    """Return the names of the workers that Flower has heard of and that live, or the reason why it does not say."""
    try:
        return [names.worker_name(node) for node, alive in _ask(lab, {"status": 1}, TIMEOUT).items() if alive]
    except (httpx.HTTPError, ValueError) as error:
        return f"Flower does not answer: {error}"


def refresh(lab: Lab) -> None:
    """Let Flower ask all workers for their queues: by itself it asks once, at its own start, when they are not there yet."""
    with suppress(httpx.HTTPError, ValueError):
        _ask(lab, {"refresh": 1}, REFRESH)


def _ask(lab: Lab, question: dict[str, int], timeout: float) -> dict[str, Any]:
    response = httpx.get(
        f"{lab.settings.url('flower')}/api/workers",
        params=question,
        auth=(ADMIN, lab.credentials.admin_password),
        timeout=timeout,
        trust_env=False,
    )
    response.raise_for_status()
    return dict(response.json())
