from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable

import psutil
import pytest

from airflow_celery_lab.launcher import forkserver

from .sandbox import Running, Sandbox, until, until_gone

EXEC = shlex.join([sys.executable, "-m", "airflow_celery_lab", "exec"])


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    """Return a lab whose forkserver has imported Airflow."""
    sandbox.start("forkserver", "forkserver")
    until(lambda: forkserver.answers(sandbox.settings.state), "the forkserver")
    return sandbox


def start(sandbox: Sandbox, name: str = "scheduler", *command: str) -> Running:
    """Start a process of Airflow, which waits for Postgres."""
    launcher = sandbox.start(name, *(command or ("airflow", name)))
    launcher.until("lab: waiting: Postgres")
    return launcher


def waiting_program(sandbox: Sandbox, name: str) -> int:
    [program] = psutil.Process(sandbox.records[name].reaper).children()
    return int(program.pid)


def running_program(sandbox: Sandbox, name: str) -> psutil.Process:
    """Return the program of a process that has written its first words."""
    until(lambda: sandbox.records[name].main_pid, "its record")
    return psutil.Process(sandbox.records[name].main_pid)


def is_forked(sandbox: Sandbox, name: str) -> bool:
    record = sandbox.records[name]
    parent = psutil.Process(record.reaper).ppid()
    assert parent in {record.pid, sandbox.records["forkserver"].main_pid}
    return bool(parent != record.pid)


def stop(launcher: Running) -> int:
    return launcher.stop()


def kill(launcher: Running) -> int:
    return 128 - launcher.kill()


@pytest.mark.parametrize(("end", "status"), [(stop, 128 + signal.SIGTERM), (kill, 128 + signal.SIGKILL)])
def test_a_process_of_airflow_is_a_fork_and_ends_with_its_launcher(sandbox: Sandbox, end: Callable[[Running], int], status: int) -> None:
    launcher = start(sandbox)
    family = [sandbox.records["scheduler"].reaper, waiting_program(sandbox, "scheduler")]
    assert is_forked(sandbox, "scheduler")

    assert end(launcher) == status

    until_gone(family)


def test_what_was_forked_outlives_the_forkserver(sandbox: Sandbox) -> None:
    launcher = start(sandbox)
    family = [launcher.pid, sandbox.records["scheduler"].reaper, waiting_program(sandbox, "scheduler")]
    server = sandbox.records["forkserver"]

    os.kill(server.pid, signal.SIGKILL)
    until_gone([server.pid, server.reaper, server.main_pid])

    assert all(map(psutil.pid_exists, family))
    assert launcher.stop() == 128 + signal.SIGTERM
    until_gone(family)


def test_a_fork_whose_parents_are_all_killed_ends_too(sandbox: Sandbox) -> None:
    launcher = start(sandbox)
    program = waiting_program(sandbox, "scheduler")

    for pid in (launcher.pid, sandbox.records["scheduler"].reaper):
        os.kill(pid, signal.SIGKILL)

    until_gone([program])


def test_what_a_line_sets_for_its_process_is_honoured(sandbox: Sandbox) -> None:
    sandbox.environ["LAB_PROJECT"] = str(sandbox.project)
    settings = {
        "ulimit -n 512": "limits",
        "umask 027": "Umask",
        "cd /": "cwd",
        "renice -n 5 -p $$ > /dev/null": "nice value",
        "taskset -p -c 0 $$ > /dev/null": "Cpus_allowed",
    }
    for number, (before, what) in enumerate(settings.items()):
        name = f"triggerer-{number}"
        command = f"{before}; exec {EXEC} airflow triggerer"
        launcher = sandbox.spawn(["sh", "-c", command], SUPERVISOR_PROCESS_NAME=name, SUPERVISOR_ENABLED="1")
        launcher.until(f"lab: imports Airflow by itself: its {what} is not the forkserver's\n", "lab: waiting: Postgres")

        assert not is_forked(sandbox, name)


def test_a_process_without_a_supervisor_is_no_fork(sandbox: Sandbox) -> None:
    launcher = sandbox.spawn(["sh", "-c", f"exec {EXEC} airflow triggerer"])
    launcher.until("lab: waiting: Postgres")

    assert not is_forked(sandbox, "triggerer")


def test_a_forkserver_that_cannot_import_airflow_stops_nobody_and_tries_again_after_a_change(sandbox: Sandbox) -> None:
    folder = sandbox.home / "airflow" / "config"
    folder.mkdir()
    (folder / "airflow_local_settings.py").write_text("raise RuntimeError('broken')\n")
    os.kill(sandbox.records["forkserver"].main_pid, signal.SIGHUP)
    until(lambda: not forkserver.answers(sandbox.settings.state), "its end")
    launcher = start(sandbox)

    assert "lab: imports Airflow by itself: the forkserver cannot import airflow.__main__: RuntimeError\n" in launcher.output
    assert not is_forked(sandbox, "scheduler")

    (folder / "airflow_local_settings.py").write_text("")
    start(sandbox, "triggerer")
    assert is_forked(sandbox, "triggerer")


def test_a_stop_that_comes_while_the_forkserver_imports_is_not_lost(sandbox: Sandbox) -> None:
    os.kill(sandbox.records["forkserver"].main_pid, signal.SIGHUP)
    until(lambda: not forkserver.answers(sandbox.settings.state), "its end")
    os.kill(sandbox.records["forkserver"].main_pid, signal.SIGSTOP)
    launcher = sandbox.start("scheduler", "airflow", "scheduler")
    until(lambda: "scheduler" in sandbox.records and sandbox.records["scheduler"].reason == "the forkserver imports Airflow", "its record")

    assert launcher.stop() == 128 + signal.SIGTERM


def test_airflow_runs_in_the_fork_and_anew_imported_after_a_change(sandbox: Sandbox) -> None:
    sandbox.start("postgres", "postgres")
    sandbox.start("triggerer", "airflow", "triggerer").until("Starting the triggerer")
    server = sandbox.records["forkserver"].main_pid
    assert is_forked(sandbox, "triggerer")
    assert running_program(sandbox, "triggerer").cmdline()[1:4] == ["-m", "airflow", "triggerer"]

    folder = sandbox.home / "airflow" / "config"
    folder.mkdir()
    (folder / "airflow_local_settings.py").write_text("print('the new settings')\n")
    changed = sandbox.start("scheduler", "airflow", "scheduler")
    changed.until("the new settings", "Starting the scheduler")
    assert f"lab: imports Airflow by itself: {folder} has changed since the forkserver did\n" in changed.output

    # The forkserver imports what is new by itself, as the same process.
    until(lambda: forkserver.answers(sandbox.settings.state), "the forkserver")
    third = sandbox.start("dag-processor", "airflow", "dag-processor")
    third.until("Starting the Dag Processor")
    assert is_forked(sandbox, "dag-processor")
    assert "by itself" not in third.output
    assert sandbox.records["forkserver"].main_pid == server


def test_a_variable_of_one_line_is_honoured(sandbox: Sandbox) -> None:
    sandbox.start("postgres", "postgres")
    command = f"AIRFLOW__TRIGGERER__CAPACITY=3 exec {EXEC} airflow triggerer"
    launcher = sandbox.spawn(["sh", "-c", command], SUPERVISOR_PROCESS_NAME="triggerer", SUPERVISOR_ENABLED="1")

    launcher.until(
        "lab: imports Airflow by itself: AIRFLOW__TRIGGERER__CAPACITY is not as in the forkserver's environment\n", "Starting the triggerer"
    )
    assert is_forked(sandbox, "triggerer")  # And has become another program since.
    assert running_program(sandbox, "triggerer").environ()["AIRFLOW__TRIGGERER__CAPACITY"] == "3"
