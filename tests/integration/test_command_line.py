from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import socket
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress

import pytest
import yaml

from airflow_celery_lab.testing.terminal import terminal

from .sandbox import Sandbox

LIVE = ("sh", "-c", "echo ready; while :; do sleep 1; done")


def sentence(done: subprocess.CompletedProcess[str], status: int) -> str:
    """Return the one line in which a command refused, without `lab: `."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"lab: [^\n]+\n", done.stderr), done.stderr
    return done.stderr.removeprefix("lab: ").rstrip("\n")


@pytest.fixture
def taken_port(sandbox: Sandbox) -> Iterator[int]:
    port = sandbox.settings.ports.redis
    with socket.create_server(("127.0.0.1", port)):
        yield port


def test_a_taken_port_is_told_with_the_program_that_has_it(sandbox: Sandbox, taken_port: int) -> None:
    told = sentence(sandbox.run("up"), 12)

    assert re.match(rf"port {taken_port}, for redis, is taken by .+ \(pid {os.getpid()}\); stop that program, or move", told)


def test_a_line_of_the_procfile_that_makes_no_sense_is_told_with_its_number(sandbox: Sandbox) -> None:
    with (sandbox.project / "Procfile").open("a") as procfile:
        procfile.write("worker gpu: ./lab exec airflow celery worker\n")
    lines = (sandbox.project / "Procfile").read_text().splitlines()

    assert sentence(sandbox.run("up"), 11).startswith(f"Procfile line {len(lines)} is not `name: command`")


def test_scaling_a_line_that_is_not_there_is_refused(sandbox: Sandbox) -> None:
    assert sentence(sandbox.run("up", "--scale", "workers=2"), 11).startswith("there is no process 'workers' to scale; the Procfile has ")


def test_a_dag_folder_that_is_not_there_is_told(sandbox: Sandbox) -> None:
    sandbox.environ["LAB_DAGS"] = str(sandbox.folder / "none")

    told = sentence(sandbox.run("up"), 10)

    assert told == f"the DAG folder {sandbox.folder}/none does not exist; create it, or set LAB_DAGS to another one."


def test_a_line_of_dotenv_that_makes_no_sense_is_told_with_its_number(sandbox: Sandbox) -> None:
    (sandbox.project / ".env").write_text("# mine\nexport LAB_PORT_OFFSET\n")

    assert sentence(sandbox.run("exec", "true"), 10).startswith(".env line 2 is not NAME=value: 'export LAB_PORT_OFFSET'; write a")


def test_a_mistyped_setting_is_told_with_the_one_that_was_meant(sandbox: Sandbox) -> None:
    sandbox.environ["LAB_OFFSET_PORT"] = "1"

    assert sentence(sandbox.run("exec", "true"), 10).startswith("there is no setting LAB_OFFSET_PORT (in the environment); ")


def test_a_state_folder_that_cannot_be_made_is_told(sandbox: Sandbox) -> None:
    (sandbox.folder / "file").touch()
    sandbox.environ["LAB_HOME"] = str(sandbox.folder / "file" / "home")

    told = sentence(sandbox.run("exec", "true"), 14)

    assert told.startswith(f"cannot write to the state folder {sandbox.folder}/file/home: ")
    assert told.endswith("or set LAB_HOME to another folder.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_state_folder_without_permission_is_told(sandbox: Sandbox) -> None:
    sandbox.home.mkdir(mode=0o500)

    assert sentence(sandbox.run("exec", "true"), 14).startswith(f"cannot write to the state folder {sandbox.home}: Permission denied; ")


def test_a_launcher_without_a_command_is_told_what_to_write(sandbox: Sandbox) -> None:
    assert sentence(sandbox.run("exec"), 11).startswith("`./lab exec` needs a command; ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "No such command 'statsu'"),
        (["run", "any", "--conf", "{"], "--conf: it is not JSON"),
        (["run", "any", "--conf", "[1]"], "--conf: it is JSON, but not an object"),
    ],
)
def test_a_mistyped_command_line_is_refused_as_everywhere(sandbox: Sandbox, arguments: list[str], told: str) -> None:
    done = sandbox.run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not sandbox.home.exists()


def test_the_status_of_a_stopped_lab_is_data_of_a_fixed_form(sandbox: Sandbox) -> None:
    done = sandbox.run("status", "--json")

    assert (done.returncode, done.stderr) == (16, "")
    data = json.loads(done.stdout)
    assert set(data) == {"ready", "processes", "workers", "queues", "warnings", "autoscaled", "links", "exposed"}
    assert (data["ready"], data["workers"], data["queues"], data["warnings"]) == (False, [], [], [])
    names = [line.partition(":")[0] for line in (sandbox.project / "Procfile").read_text().splitlines() if line and line[0] != "#"]
    assert [process["name"] for process in data["processes"]] == names
    for process in data["processes"]:
        assert set(process) == {"name", "kind", "state", "pid", "ready", "reason", "memory_mb"}
        assert (process["state"], process["pid"], process["ready"], process["reason"]) == ("stopped", None, False, "not running")


def test_the_status_of_a_lab_that_is_not_ready_tells_so(sandbox: Sandbox) -> None:
    (sandbox.project / "Procfile").write_text(f"one: ./lab exec {shlex.join(LIVE)}\ntwo: ./lab exec {shlex.join(LIVE)}\n")
    launcher = sandbox.start("one", *LIVE)
    launcher.until("ready")

    done = sandbox.run("status", "--json")

    assert done.returncode == 18
    one, two = json.loads(done.stdout)["processes"]
    assert (one["state"], one["ready"], one["pid"]) == ("running", True, sandbox.records["one"].main_pid)
    assert (two["state"], two["ready"]) == ("stopped", False)


@pytest.mark.parametrize(
    "command", [["run", "parallel_tasks"], ["timeline"], ["metrics"], ["wait"], ["airflow", "dags", "list"]], ids=" ".join
)
def test_what_needs_a_running_lab_says_so(sandbox: Sandbox, command: list[str]) -> None:
    assert sentence(sandbox.run(*command), 16) == f"the lab in {sandbox.home} is not running; start it with `./lab up`."


def test_the_tour_asks_nobody_where_nobody_can_answer(sandbox: Sandbox) -> None:
    told = sentence(sandbox.run("tour"), 2)

    assert told == "the tour asks, and nobody can answer here; `./lab tour --yes` goes through it without asking."


def test_the_tour_offers_to_start_a_lab_and_starts_none_unasked(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "airflow_celery_lab", "tour"]
    with terminal(command, sandbox.project, {**sandbox.environ, "LAB_COMMAND": "./lab"}, columns=60) as shown:
        shown.until("Enter runs `./lab up -d` (q leaves):")
        shown.type("q\n")
        assert shown.end() == 0

    assert sandbox.records == {}


def test_the_values_for_helm_are_printed_or_written_where_they_can_be(sandbox: Sandbox) -> None:
    done = sandbox.run("export", "helm")
    written = sandbox.run("export", "helm", "values.yaml")

    assert (done.returncode, done.stderr) == (0, "")
    assert [one["name"] for one in yaml.safe_load(done.stdout)["workers"]["celery"]["sets"]] == ["default", "high-cpu"]
    assert written.stdout == "lab: wrote values.yaml\n"
    assert (sandbox.project / "values.yaml").read_text(encoding="utf-8") == done.stdout
    assert sentence(sandbox.run("export", "helm", "none/values.yaml"), 23).startswith(
        "cannot write none/values.yaml: No such file or directory; "
    )
    refused = sandbox.run("export", "supervisord", "values.yaml")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "supervisord.conf has its place in the project" in refused.stderr


def test_nothing_is_deleted_without_a_yes(sandbox: Sandbox) -> None:
    secrets = sandbox.credentials

    done = sandbox.run("clean", answer="n\n")

    assert done.returncode == 1
    assert f"Delete {sandbox.home} with the database, all logs and secrets?" in done.stdout + done.stderr
    assert sandbox.credentials == secrets


def test_a_yes_in_advance_deletes_the_state(sandbox: Sandbox) -> None:
    assert sandbox.credentials

    done = sandbox.run("clean", "--yes")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"lab: deleted {sandbox.home}\n", "")
    assert not sandbox.home.exists()


def test_a_folder_of_something_else_is_not_deleted(sandbox: Sandbox) -> None:
    sandbox.home.mkdir()
    (sandbox.home / "thesis.txt").touch()

    assert sentence(sandbox.run("clean", "--yes"), 14).startswith(f"{sandbox.home} does not look like the state of a lab; ")
    assert (sandbox.home / "thesis.txt").exists()


def test_the_state_of_a_running_lab_is_not_deleted(sandbox: Sandbox) -> None:
    launcher = sandbox.start("mine", *LIVE)
    launcher.until("ready")

    assert sentence(sandbox.run("clean", "--yes"), 15) == f"the lab in {sandbox.home} is running; stop it first."
    assert set(sandbox.records) == {"mine"}


def test_a_running_lab_is_not_started_again(sandbox: Sandbox) -> None:
    launcher = sandbox.start("mine", *LIVE)
    launcher.until("ready")

    assert sentence(sandbox.run("up"), 15).startswith(f"the lab in {sandbox.home} runs already (1 processes); ")


def test_the_doctor_finds_a_sound_machine_sound(sandbox: Sandbox) -> None:
    done = sandbox.run("doctor", "--json")

    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.stderr == ""
    assert {"Python", "settings", "Procfile", "state folder", "Postgres", "Redis", "memory", "start"} <= set(findings)
    assert all(set(finding) == {"what", "ok", "detail"} and finding["detail"] for finding in findings.values())
    # Its memory is the machine's own affair.
    assert [what for what, finding in findings.items() if not finding["ok"] and what != "memory"] == []
    assert done.returncode == (0 if findings["memory"]["ok"] else 1)


def test_the_doctor_names_all_that_is_wrong_at_once(sandbox: Sandbox, taken_port: int) -> None:
    sandbox.environ["LAB_POSTGRES_BIN"] = str(sandbox.folder)
    sandbox.environ["LAB_DAGS"] = str(sandbox.folder / "none")

    done = sandbox.run("doctor", "--json")

    assert done.returncode == 1
    wrong = "\n".join(finding["detail"] for finding in json.loads(done.stdout) if not finding["ok"])
    assert f"LAB_POSTGRES_BIN={sandbox.folder} holds no `postgres`" in wrong
    assert f"the DAG folder {sandbox.folder}/none does not exist" in wrong
    assert f"port {taken_port}, for redis, is taken" in wrong


def test_the_password_is_that_of_the_secrets_which_only_the_owner_can_read(sandbox: Sandbox) -> None:
    done = sandbox.run("password")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sandbox.credentials.admin_password}\n", "")
    assert stat.S_IMODE((sandbox.home / "secrets.json").stat().st_mode) == 0o600


def in_terminal(sandbox: Sandbox, columns: int, *arguments: str) -> list[str]:
    """Return the lines that a command prints into a terminal of that width, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "airflow_celery_lab", *arguments]
    environ = {**sandbox.environ, "TERM": "xterm"}
    with subprocess.Popen(command, cwd=sandbox.project, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True):
        os.close(theirs)
        printed = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):  # Linux says so at the end.
            while part := terminal.read(65536):
                printed += part
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).splitlines()]


def test_a_narrow_terminal_gets_fewer_columns_and_a_pipe_gets_all(sandbox: Sandbox) -> None:
    name = f"worker-{'x' * 60}"
    with (sandbox.project / "Procfile").open("a") as procfile:
        procfile.write(f"{name}: ./lab exec airflow celery worker\n")

    narrow = in_terminal(sandbox, 80, "status")
    whole = sandbox.run("status").stdout.splitlines()

    assert narrow[0].split() == ["PROCESS", "READY"]
    assert narrow[-1] == f"{name}  not running"
    assert whole[0].split() == ["PROCESS", "STATE", "PID", "MEMORY", "READY"]
    assert whole[-1].split() == [name, "stopped", "-", "-", "not", "running"]
