"""A lab on one host, and workers that join it from another one: real hosts, but for the kernel that they share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from airflow_celery_lab.configuration import names, settings
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing import hosts, throwaway
from airflow_celery_lab.testing.hosts import Host
from airflow_celery_lab.wait import wait_until

if reason := hosts.missing():
    pytest.skip(reason, allow_module_level=True)

#: What a user's shell may have that would reach into a lab.
AMBIENT = ("LAB_", "AIRFLOW_", "HONCHO_", "SUPERVISOR_")
#: More tasks than either machine has slots, each as long as a run's configuration says. They sign the book of the one who asked for them:
#: hosts share a file system, and a look at a busy lab takes as long as a task.
DAG = """
import time
from contextlib import suppress
from pathlib import Path
from airflow.sdk import dag, task

@dag(schedule=None, default_args={"retries": 3, "retry_delay": 1})
def spread():
    @task
    def work(number, dag_run=None, ti=None):
        print("work begins", flush=True)
        with suppress(KeyError, FileNotFoundError):  # Nobody asks for that, or reads it any more.
            Path(dag_run.conf["book"], ti.hostname).touch()
        time.sleep(dag_run.conf["seconds"])

    work.expand(number=list(range(12)))

spread()
"""
#: What Airflow tells a task of which it has another try.
LATE = "Server indicated the task shouldn't be running anymore"


class Machine:
    """A host, and a state folder of its own."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.state = folder / host.name / "state"
        ambient = {name: value for name, value in os.environ.items() if not name.startswith(AMBIENT) or name in settings.MACHINE}
        own = {
            "LAB_HOME": str(self.state),
            "LAB_DAGS": str(folder / "dags"),
            "LAB_VENV": throwaway._environment(),
            "LAB_STOP_TIMEOUT": "30",
        }
        self.environ = {**ambient, **own}

    def lab(self, *words: str, status: int = 0, timeout: float = 120) -> str:
        """Run a command of the lab, and return what it prints."""
        done = self.host.run(["./lab", *words], cwd=CHECKOUT, environ=self.environ, timeout=timeout)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def start(self, *words: str) -> subprocess.Popen[str]:
        return self.host.start(["./lab", *words], cwd=CHECKOUT, environ=self.environ, stdout=subprocess.PIPE)

    def tasks(self, command: subprocess.Popen[str]) -> list[dict[str, Any]]:
        """Return the tasks of a run that `start` has started, when it has ended."""
        output, _ = command.communicate(timeout=180)
        run = json.loads(output)
        assert run["state"] == "success", run
        return list(run["tasks"])

    def running(self) -> dict[str, int]:
        """Return how many tasks each worker runs."""
        done = self.host.run(["./lab", "status", "--json"], cwd=CHECKOUT, environ=self.environ)
        return {worker["name"]: worker["running"] for worker in json.loads(done.stdout)["workers"]}


@pytest.fixture(scope="module")
def running() -> Iterator[list[Machine]]:
    """Run a lab on the first of three machines."""
    # Directly below the system's temporary folder: Postgres, which is not root, must get there.
    with TemporaryDirectory(prefix="lab-") as name, hosts.hosts("home", "atlas", "doomed") as all_hosts:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "dags").mkdir()
        (folder / "dags" / "spread.py").write_text(DAG)
        for host in all_hosts:
            (folder / host.name).mkdir(mode=0o711)
        found = [Machine(host, folder) for host in all_hosts]
        found[0].lab("up", "-d", "--scale", "worker-high-cpu=0", "--scale", "flower=0", timeout=180)
        yield found


@pytest.fixture(scope="module")
def machines(running: list[Machine]) -> tuple[Machine, Machine]:
    return running[0], running[1]


@pytest.fixture
def token(machines: tuple[Machine, Machine]) -> str:
    home, _atlas = machines
    return str(json.loads(home.lab("expose", home.host.address, "--json"))["token"])


@pytest.fixture
def joined(machines: tuple[Machine, Machine], token: str) -> Iterator[tuple[Machine, Machine]]:
    home, atlas = machines
    atlas.lab("join", token, "-d", "--queues", "default", "--concurrency", "8")
    yield home, atlas
    atlas.host.heal()
    atlas.lab("leave", "--timeout", "5")


def start_on_both(home: Machine, seconds: int, other: str = "atlas") -> subprocess.Popen[str]:
    """Start a run, and return its command as soon as tasks have begun on both machines."""
    with TemporaryDirectory(dir=home.state.parent) as book:
        run = home.start("run", "spread", "--json", "--conf", json.dumps({"seconds": seconds, "book": book}))

        def probe() -> str | None:
            working = {names.machine_of(worker.name) for worker in Path(book).iterdir()}
            return None if working == {None, other} else f"{working} work"

        wait_until(probe, 60, "tasks on both machines", interval=0.05)
    return run


def test_a_run_is_spread_over_both_machines_and_its_logs_are_read_on_the_main_one(joined: tuple[Machine, Machine]) -> None:
    home, atlas = joined

    tasks = home.tasks(home.start("run", "spread", "--json", "--conf", '{"seconds": 3}'))

    assert {task["worker"] for task in tasks} == {"worker-default", "worker@atlas"}
    assert json.loads(home.lab("timeline", "spread", "--json"))["slots"] == {"worker-default": 8, "worker@atlas": 8}
    away = next(task for task in tasks if task["worker"] == "worker@atlas")
    there = [path.relative_to(atlas.state / "logs") for path in (atlas.state / "logs").glob(f"**/map_index={away['map_index']}/*.log")]
    here = home.state / "logs"
    wait_until(
        lambda: None if (here / there[0]).read_bytes() == (atlas.state / "logs" / there[0]).read_bytes() else "it is shorter", 20, "the log"
    )
    assert "work begins" in home.lab("task-log", "spread", "work", "--map-index", str(away["map_index"]))
    secret = json.loads((atlas.state / "membership.json").read_text())["broker_url"].split(":")[2].split("@")[0]
    assert not [path for path in (atlas.state / "processes").iterdir() if secret in path.read_text(errors="replace")]


def test_ctrl_c_lets_the_workers_finish_their_tasks(machines: tuple[Machine, Machine], token: str) -> None:
    home, atlas = machines
    workers = atlas.start("join", token, "-q", "default")
    assert workers.stdout is not None
    while "lab: ready" not in workers.stdout.readline():
        assert workers.poll() is None
    run = start_on_both(home, 8)

    Host.signal(workers, signal.SIGINT)

    output, _ = workers.communicate(timeout=60)
    assert "the workers finish their tasks" in output
    assert workers.returncode == 128 + signal.SIGINT
    assert {(task["try_number"], task["state"]) for task in home.tasks(run)} == {(1, "success")}
    assert atlas.host.processes() == []
    atlas.lab("leave")
    assert not (atlas.state / "membership.json").exists()


def test_a_machine_that_cannot_join_is_told_why(joined: tuple[Machine, Machine], token: str) -> None:
    _home, atlas = joined
    other = {**atlas.environ, "LAB_HOME": str(atlas.state.with_name("other"))}

    def refusal(*words: str, environ: dict[str, str] = other) -> str:
        done = atlas.host.run(["./lab", "join", *words], cwd=CHECKOUT, environ=environ)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "a machine called atlas has joined already" in refusal(token)
    assert "runs; stop it" in refusal(token, environ=atlas.environ)
    assert "cut or mistyped" in refusal(token[:-3])
    assert not Path(other["LAB_HOME"], "membership.json").exists()


def test_a_slow_link_is_no_loss(joined: tuple[Machine, Machine]) -> None:
    home, _atlas = joined
    home.lab("slow", "redis", "600ms")
    try:
        tasks = home.tasks(home.start("run", "spread", "--json", "--conf", '{"seconds": 8}'))
        assert {task["worker"] for task in tasks} == {"worker-default", "worker@atlas"}
        assert {task["try_number"] for task in tasks} == {1}
    finally:
        home.lab("heal")


def test_the_tasks_of_a_machine_whose_cable_is_pulled_run_elsewhere_within_30_seconds_and_are_told_when_they_are_late(
    joined: tuple[Machine, Machine],
) -> None:
    home, atlas = joined
    log = atlas.state / "processes" / "worker@atlas.log"
    run = start_on_both(home, 5)

    atlas.host.cut()
    begin = time.time()

    tasks = home.tasks(run)
    lost = [task for task in tasks if task["try_number"] > 1]
    assert lost
    assert {task["worker"] for task in tasks} <= {"worker-default", "worker@atlas"}
    assert all(task["worker"] == "worker-default" for task in lost)
    assert max(_seconds(task["start"]) for task in lost) - begin < 30
    assert f"nothing was heard of {atlas.host.name}" in home.lab(
        "task-log", "spread", "work", "--map-index", str(lost[0]["map_index"]), "--try", "1"
    )
    atlas.host.heal()
    wait_until(lambda: None if LATE in log.read_text() else "not yet", 60, "the late tasks' end", interval=0.5)
    wait_until(lambda: None if "worker@atlas" in home.running() else "not yet", 60, "the worker of atlas", interval=0.5)


def test_the_tasks_of_a_machine_that_is_switched_off_run_elsewhere_within_30_seconds(running: list[Machine], token: str) -> None:
    home, _atlas, doomed = running
    doomed.lab("join", token, "-d", "--queues", "default", "--concurrency", "8")
    run = start_on_both(home, 5, "doomed")

    doomed.host.kill()
    begin = time.time()

    tasks = home.tasks(run)
    lost = [task for task in tasks if task["try_number"] > 1]
    assert lost
    assert {task["worker"] for task in lost} == {"worker-default"}
    assert max(_seconds(task["start"]) for task in lost) - begin < 30
    warnings = json.loads(home.lab("status", "--json"))["warnings"]
    assert any(warning.startswith("the machine doomed has not been heard of for ") for warning in warnings)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
