"""A line of the Procfile runs alike in the foreground and in the background."""

from __future__ import annotations

import pytest

from .sandbox import Sandbox, until
from .test_guard import PYTHON

LINES = r"""
set:      OMP_NUM_THREADS=3 MODE='a b' ./lab exec sh -c 'echo "$OMP_NUM_THREADS threads, $MODE"; exec sleep 1000'
comment:  ./lab exec sh -c 'echo "50% ; # kept	;"; exec sleep 1000'  # mine; and "this
folder:   cd "my folder" && ./lab exec sh -c 'basename "$PWD"; exec sleep 1000'
variable: ./lab exec sh -c "echo $GREETING, ${NOBODY:-default}; exec sleep 1000"
plain:    echo "no launcher"; sleep 1000
exec:     exec nice ./lab exec sh -c 'nice; exec sleep 1000' 2>&1
"""
PRINTED = ["no launcher", "3 threads, a b", "50% ; # kept\t;", "my folder", "hello world, default", "10"]


@pytest.fixture
def odd_lines(sandbox: Sandbox) -> Sandbox:
    (sandbox.project / "my folder").mkdir()
    (sandbox.project / "Procfile").write_text(LINES.replace("./lab exec", f"{PYTHON} -m airflow_celery_lab exec"))
    (sandbox.project / ".env").write_text("GREETING=hello world\n")
    return sandbox


def test_lines_with_variables_comments_and_folders_run_in_the_foreground(odd_lines: Sandbox) -> None:
    up = odd_lines.spawn([*PYTHON.split(), "-m", "airflow_celery_lab", "up"])
    up.until(*PRINTED)
    assert up.stop() == 143


def test_lines_with_variables_comments_and_folders_run_in_the_background(odd_lines: Sandbox) -> None:
    done = odd_lines.run("up", "-d")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: len(odd_lines.records) == 5, "five processes")

        printed = odd_lines.run("logs").stdout
        assert [words for words in PRINTED if words not in printed] == []
        assert "nothing to do" in odd_lines.run("apply").stdout

        # supervisord knows the launcher itself, and no shell before it.
        assert odd_lines.run("stop", "folder").returncode == 0
        assert "folder" not in odd_lines.records
        (odd_lines.project / ".env").write_text("GREETING=bye\n")
        assert "~ variable" in odd_lines.run("apply").stdout
        # It runs; a shell has still to print, and supervisord to write that down.
        until(lambda: "bye, default" in odd_lines.run("logs", "variable").stdout, "the new greeting")
    finally:
        assert odd_lines.run("down").returncode == 0
