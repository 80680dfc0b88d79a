from __future__ import annotations

import signal
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from airflow_celery_lab.cluster.linked import _free_ports
from airflow_celery_lab.configuration import links
from airflow_celery_lab.configuration.links import CLEAN, Condition, Links
from airflow_celery_lab.servers import probes

from .sandbox import Running, Sandbox, until

pytestmark = pytest.mark.integration

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def carrier(sandbox: Sandbox) -> Running:
    return sandbox.start("links", "links")


def answers(sandbox: Sandbox) -> bool:
    host, port = sandbox.settings.client_host, links.read(sandbox.lab.state).ports["redis"]
    password = sandbox.credentials.redis_password
    with Redis(host, port, password=password, socket_timeout=0.3, socket_connect_timeout=0.3) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def test_a_carrier_that_was_killed_carries_the_links_again_as_they_were(sandbox: Sandbox) -> None:
    state = sandbox.lab.state
    sandbox.start("redis", "redis")
    until(lambda: probes.redis(sandbox.lab) is None, "Redis")
    written = Links(on=True, ports=_free_ports("127.0.0.1"))
    links.write(state, written)
    first = carrier(sandbox)
    until(lambda: answers(sandbox), "the link")

    links.write(state, written.having(["redis"], Condition(cut=True)))
    first.until("the link to redis is cut: nothing gets across")
    assert not answers(sandbox)
    first.kill()
    until(lambda: "links" not in sandbox.records, "the end of what it guarded")
    second = carrier(sandbox)
    second.until("the link to redis is cut: nothing gets across")
    assert not answers(sandbox)

    links.write(state, written.having(["redis"], CLEAN))
    until(lambda: answers(sandbox), "the healed link")
    assert second.stop() == 128 + signal.SIGTERM
    assert not state.links_held.exists()


@pytest.mark.skipif(not RANGE.exists(), reason="the system does not say which ports it gives to outgoing connections")
def test_links_have_ports_that_no_outgoing_connection_gets() -> None:
    least = int(RANGE.read_text().split()[0])

    assert sorted(_free_ports("127.0.0.1")) == ["postgres", "redis", "webserver"]
    assert max(_free_ports("127.0.0.1").values()) < least


def test_a_carrier_for_which_nobody_has_asked_says_so(sandbox: Sandbox) -> None:
    asked = carrier(sandbox)

    assert asked.end() == 16
    assert "no link is carried in this lab; `slow` and `cut` start this process when it is needed." in asked.output
