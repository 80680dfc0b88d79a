from __future__ import annotations

import subprocess
import sys

import pytest

from .sandbox import Sandbox

#: Waits until all are ready, so that none is first by its start alone.
MAKE = """
import sys
from pathlib import Path
from airflow_celery_lab.configuration import credentials
from airflow_celery_lab.configuration.state import State
print("ready", flush=True)
sys.stdin.readline()
print(repr(credentials.load_or_create(State(Path(sys.argv[1])))))
"""


def test_processes_that_start_together_agree_on_the_secrets(sandbox: Sandbox) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(sandbox.home)], env=sandbox.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    answers = {process.communicate()[0] for process in processes}
    assert len(answers) == 1
    assert answers == {f"{sandbox.credentials!r}\n"}


def test_only_the_owner_can_read_the_secrets(sandbox: Sandbox) -> None:
    assert sandbox.credentials == sandbox.credentials

    assert sandbox.home.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in sandbox.home.iterdir()) == ["processes", "secrets.json"]
    assert (sandbox.home / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_no_two_labs_and_no_two_uses_share_a_secret(sandbox: Sandbox) -> None:
    first = sandbox.credentials
    (sandbox.home / "secrets.json").unlink()
    second = sandbox.credentials

    assert len({*first, *second}) == 2 * len(first)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fernet_key": "x"}', '{"unknown": "x"}'])
def test_a_file_of_something_else_is_not_overwritten(sandbox: Sandbox, content: str) -> None:
    sandbox.home.mkdir()
    path = sandbox.home / "secrets.json"
    path.write_text(content)

    done = sandbox.run("exec", "true")

    assert done.returncode == 14
    assert done.stderr.startswith(f"lab: cannot use the secrets in {path}: ")
    assert done.stderr.endswith("; fix the file, or run `./lab clean` to start with a new lab.\n")
    assert path.read_text() == content
