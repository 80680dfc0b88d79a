"""Flower, as far as the lab asks it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_celery_lab.configuration import names
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.lab import Lab

if TYPE_CHECKING:
    from ssl import SSLContext

#: Seconds for one answer; it takes milliseconds.
TIMEOUT = 2
#: Seconds for its answer to a request that nobody waits for.
SENT = 0.1


def workers(lab: Lab) -> list[str] | str:
    """Return the names of the workers that Flower has heard of and that live, or the reason why it does not say."""
    answer = _ask(lab, {"status": 1}, TIMEOUT)
    return answer if isinstance(answer, str) else [names.worker_name(node) for node, alive in answer.items() if alive]


def refresh(lab: Lab) -> None:
    """Let Flower ask all workers for their queues: by itself it asks once, at its own start, when they are not there yet.

    It takes a second to ask them, and does so also when nobody waits for the answer.
    """
    _ask(lab, {"refresh": 1}, SENT)


def heartbeats(lab: Lab) -> dict[str, float]:
    """Return when Flower has heard of each worker last, in seconds since the epoch; nothing where it does not answer."""
    answer = _ask(lab, {"json": 1}, TIMEOUT, "/workers")
    found = [] if isinstance(answer, str) else answer["data"]
    return {names.worker_name(worker["hostname"]): max(worker["heartbeats"]) for worker in found if worker.get("heartbeats")}


def _ask(lab: Lab, question: dict[str, int], timeout: float, path: str = "/api/workers") -> dict[str, Any] | str:
    """Return the answer, or why there is none."""
    import httpx  # Most commands do not ask Flower, and need not wait for this import.

    try:
        response = httpx.get(
            f"{lab.settings.url('flower')}{path}",
            params=question,
            auth=(ADMIN, lab.credentials.admin_password),
            timeout=timeout,
            trust_env=False,
            verify=_no_certificates(),
        )
        response.raise_for_status()
        return dict(response.json())
    except (httpx.HTTPError, ValueError) as error:
        return f"Flower does not answer: {error}"


@cache
def _no_certificates() -> SSLContext:
    """Return what httpx else makes for each question from all certificates of the machine, in 15 ms; Flower has no TLS here."""
    from ssl import PROTOCOL_TLS_CLIENT, SSLContext

    return SSLContext(PROTOCOL_TLS_CLIENT)
