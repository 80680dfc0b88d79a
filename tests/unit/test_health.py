from __future__ import annotations

from http import HTTPStatus

import httpx
import pytest

from airflow_celery_lab.inside_airflow import health
from airflow_celery_lab.inside_airflow.health import Pulse


def test_health_is_the_schedulers_loop_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    alive, stuck = (health.serve(Pulse(threshold), "127.0.0.1", 0) for threshold in (60, 0))
    assert alive
    assert stuck
    url = f"http://127.0.0.1:{alive.server_port}"

    assert httpx.get(f"{url}/health").status_code == HTTPStatus.OK
    assert httpx.get(f"{url}/else").status_code == HTTPStatus.NOT_FOUND
    assert httpx.get(f"http://127.0.0.1:{stuck.server_port}/health").status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert health.serve(Pulse(60), "127.0.0.1", alive.server_port) is None
    assert caplog.messages == [f"Nobody answers at {url}/health: [Errno 98] Address already in use"]
    for server in (alive, stuck):
        server.shutdown()
        server.server_close()
