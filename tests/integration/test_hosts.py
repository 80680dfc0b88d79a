"""The hosts that tests of several machines run on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from airflow_celery_lab.testing import hosts
from airflow_celery_lab.testing.hosts import Host

from .sandbox import until, until_gone

if reason := hosts.missing():
    pytest.skip(reason, allow_module_level=True)

#: Answers each connection with its hostname.
SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 9000))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(socket.gethostname().encode())
    connection.close()
"""
CLIENT = "import socket, sys; print(socket.create_connection((sys.argv[1], 9000), timeout=1).recv(99).decode())"


@pytest.fixture
def pair() -> Iterator[tuple[Host, Host]]:
    with hosts.hosts("home", "atlas") as (home, atlas):
        yield home, atlas


def serve(host: Host) -> None:
    server = host.start([sys.executable, "-c", SERVER, host.address], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"


def ask(host: Host, address: str) -> str:
    answer = host.run([sys.executable, "-c", CLIENT, address])
    return answer.stdout.strip() or answer.stderr.strip().splitlines()[-1]


def test_hosts_have_names_and_reach_each_other_until_the_cable_is_pulled(pair: tuple[Host, Host]) -> None:
    home, atlas = pair
    serve(atlas)

    assert ask(home, atlas.address) == "atlas"
    atlas.cut()
    assert "timed out" in ask(home, atlas.address)
    atlas.heal()
    assert ask(home, atlas.address) == "atlas"


def test_a_host_has_its_own_loopback_and_processes(pair: tuple[Host, Host]) -> None:
    home, atlas = pair
    serve(atlas)

    assert len(atlas.processes()) == 1
    assert home.processes() == []
    assert "refused" in ask(atlas, "127.0.0.1")
    assert psutil.net_if_addrs().keys().isdisjoint({"home", "atlas", "lan"})


def test_a_signal_reaches_the_command_and_its_status_comes_back(pair: tuple[Host, Host]) -> None:
    home, _atlas = pair
    command = home.start(["sh", "-c", "trap 'exit 7' INT; echo ready; while :; do sleep 0.1; done"], stdout=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.readline() == "ready\n"

    home.signal(command, signal.SIGINT)

    assert command.wait(10) == 7


def test_a_killed_host_takes_its_processes_with_it_and_no_other_host(pair: tuple[Host, Host]) -> None:
    home, atlas = pair
    serve(home)
    serve(atlas)
    there = atlas.processes()

    atlas.kill()

    until_gone(one.pid for one in there)
    assert ask(home, home.address) == "home"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_process_with_the_block_is_ended(end: signal.Signals) -> None:
    script = (
        "import time; from airflow_celery_lab.testing.hosts import hosts\n"
        "with hosts('home') as (home,):\n"
        "    home.start(['sleep', '1000']); print(home.pid, flush=True); time.sleep(1000)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout as output:
        first = int(output.readline())
    here = Host("home", "", first, 0)
    until(lambda: any(one.name() == "sleep" for one in here.processes()), "the command")
    there = [first, *(one.pid for one in here.processes())]

    owner.send_signal(end)
    owner.wait(10)

    until_gone(there)


def test_nothing_is_left_after_a_failure_in_the_block() -> None:
    there = []

    def fail() -> None:
        with hosts.hosts("home") as (home,):
            there.extend([home.pid, home.start(["sleep", "1000"]).pid])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    until_gone(there)
