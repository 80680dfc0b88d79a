from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import psutil
import pytest

from airflow_celery_lab.launcher import registry

from .sandbox import Sandbox, until

LIVE = ("sh", "-c", "echo ready; while :; do sleep 1; done")


def test_a_running_process_says_who_it_is(sandbox: Sandbox) -> None:
    launcher = sandbox.start("mine", *LIVE)
    launcher.until("ready")
    until(lambda: sandbox.records["mine"].state == "running", "the record")

    record = sandbox.records["mine"]

    assert (record.name, record.pid, record.command, record.supervisor) == ("mine", launcher.pid, list(LIVE), "supervisord")
    assert os.getsid(record.main_pid) == record.main_pid != launcher.pid


def test_a_process_that_waits_says_for_what_and_gives_up_with_a_sentence(sandbox: Sandbox) -> None:
    sandbox.environ["LAB_START_TIMEOUT"] = "1"
    reason = f"Redis on port {sandbox.settings.ports.redis}: Connection refused"
    launcher = sandbox.start("flower", "celery", "flower")
    launcher.until(f"lab: waiting: {reason}\n")
    until(lambda: sandbox.records["flower"].reason, "the reason")

    record = sandbox.records["flower"]

    assert (record.state, record.main_pid, record.reason) == ("waiting", 0, reason)
    assert launcher.end() == 18
    assert f"lab: redis is not ready after 1 s: {reason}; see its log, or `./lab status`.\n" in launcher.output


def test_a_process_that_waits_stops_at_once(sandbox: Sandbox) -> None:
    launcher = sandbox.start("flower", "celery", "flower")
    launcher.until("lab: waiting: Redis on port")

    assert launcher.stop() == 128 + signal.SIGTERM


def test_a_name_is_taken_while_its_process_lives_and_free_afterwards(sandbox: Sandbox) -> None:
    first = sandbox.start("mine", *LIVE)
    first.until("ready")

    second = sandbox.start("mine", *LIVE)

    assert second.end() == 15
    assert re.fullmatch(rf"lab: mine runs already in {sandbox.home} \(pid {first.pid}\); stop it first, or .*\n", second.output)
    first.stop()
    assert sandbox.start("mine", "true").end() == 0


def test_only_living_processes_are_counted_as_running(sandbox: Sandbox) -> None:
    killed, stopped, kept = (sandbox.start(name, *LIVE) for name in ("killed", "stopped", "kept"))
    for launcher in (killed, stopped, kept):
        launcher.until("ready")
    assert set(sandbox.records) == {"killed", "stopped", "kept"}

    killed.kill()
    stopped.stop()

    until(lambda: set(sandbox.records) == {"kept"}, "the end of the other two")


def test_a_program_is_told_its_name_and_its_lab(sandbox: Sandbox) -> None:
    launcher = sandbox.start("mine", "sh", "-c", 'echo "$LAB_NAME $LAB_HOME $AIRFLOW_HOME"')

    assert launcher.end() == 0
    assert launcher.said == f"mine {sandbox.home} {sandbox.home}/airflow\n"


def test_processes_that_end_by_themselves_are_written_down_until_they_run_again(sandbox: Sandbox) -> None:
    stopped = sandbox.start("stopped", *LIVE)
    stopped.until("ready")
    stopped.stop()
    sandbox.start("first", "sh", "-c", "exit 3").end()
    sandbox.start("second", "sh", "-c", "exit 4").end()

    assert list(registry.ends(sandbox.settings.state).items()) == [("first", 3), ("second", 4)]
    again = sandbox.start("first", *LIVE)
    again.until("ready")
    assert registry.ends(sandbox.settings.state) == {"second": 4}
    again.stop()


def test_a_program_has_no_secret_on_its_command_line(sandbox: Sandbox) -> None:
    launcher = sandbox.start("redis", "redis")
    until(lambda: sandbox.records.get("redis") and sandbox.records["redis"].state == "running", "Redis")

    def command_lines() -> str:
        return "\n".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))

    until(lambda: f":{sandbox.settings.ports.redis}" in command_lines(), "the title that Redis gives itself")
    assert [secret for secret in sandbox.credentials if secret in command_lines()] == []
    assert launcher.stop() == 0


def test_the_launcher_imports_neither_airflow_nor_anything_as_large(sandbox: Sandbox) -> None:
    """Nine of them run beside the cluster: each must cost milliseconds and a few megabytes."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "airflow_celery_lab", "exec", "true"],
        env=sandbox.environ,
        capture_output=True,
        text=True,
        check=True,
    )

    packages = set(re.findall(r"^import time:.*\| +(\w+)[.\w]*$", done.stderr, re.MULTILINE))
    assert "airflow_celery_lab" in packages
    assert not packages & {"airflow", "celery", "kombu", "typer", "click", "rich", "httpx", "redis", "sqlalchemy", "psycopg2", "psutil"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resources of ended children as Linux counts them")
def test_a_launcher_costs_a_fraction_of_a_second(sandbox: Sandbox) -> None:
    """Of processor time, which does not depend on what else the machine does; usual is 0.07 s."""
    launcher = subprocess.Popen([sys.executable, "-m", "airflow_celery_lab", "exec", "true"], env=sandbox.environ)
    _, status, used = os.wait4(launcher.pid, 0)
    launcher.returncode = os.waitstatus_to_exitcode(status)

    assert launcher.returncode == 0
    assert used.ru_utime + used.ru_stime < 0.5
