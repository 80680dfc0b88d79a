"""Whatever has become of a file of the state, no command ends in a traceback, and a new start puts it right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_celery_lab.cluster import doctor
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import files
from airflow_celery_lab.errors import LabError

from .sandbox import Sandbox, until
from .test_guard import PYTHON

PROCFILE = f"""
redis: {PYTHON} -m airflow_celery_lab exec redis
live:  {PYTHON} -m airflow_celery_lab exec sh -c 'echo ready; exec sleep 1000'
ends:  {PYTHON} -m airflow_celery_lab exec sh -c 'sleep 1; exit 3'
"""
DAMAGE = [b"", b"\0\0{\xff"]
#: What makes a lab what it is: damaged, it is told, and nothing is guessed.
SECRETS = "secrets.json"


def state_files(home: Path) -> list[Path]:
    skipped = {"processes", "appendonlydir"}
    return [path for path in sorted(home.rglob("*")) if path.is_file() and not skipped.intersection(path.parts)]


def look(sandbox: Sandbox) -> None:
    """Do what `status`, `apply`, `logs` and `doctor` do; an error that is no sentence fails the test."""
    with suppress(LabError), Cluster(sandbox.lab, sandbox.environ) as cluster:
        for glance in (cluster.status, cluster.differs, lambda: cluster.logs("live"), lambda: doctor.examine(sandbox.environ)):
            with suppress(LabError):
                glance()


def test_a_damaged_file_of_a_running_lab_is_no_traceback(sandbox: Sandbox) -> None:
    (sandbox.project / "Procfile").write_text(PROCFILE)
    sandbox.environ["LAB_START_TIMEOUT"] = "1"  # One of its processes never becomes ready.
    sandbox.run("up", "-d")
    try:
        until(lambda: {"redis", "live"} <= set(sandbox.records), "two processes")
        until((sandbox.home / "run" / "ends.end").exists, "the end of the third")
        found = {path.relative_to(sandbox.home).as_posix() for path in state_files(sandbox.home)}
        assert {"secrets.json", "supervisord.conf", "supervisord.pid", "run/live.json", "run/ends.end", "redis/redis.conf"} <= found

        for path in state_files(sandbox.home):
            if not path.exists():
                continue
            before = path.read_bytes()
            for damage in DAMAGE:
                path.write_bytes(damage)
                look(sandbox)
            path.write_bytes(before)
    finally:
        assert sandbox.run("down").returncode == 0


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_lab_starts_whatever_has_become_of_its_files(sandbox: Sandbox, damage: bytes) -> None:
    (sandbox.project / "Procfile").write_text("".join(line for line in PROCFILE.splitlines(keepends=True) if not line.startswith("ends")))
    assert sandbox.run("up", "-d").returncode == 0
    assert sandbox.run("down").returncode == 0
    for path in state_files(sandbox.home):
        if path.name != SECRETS:
            path.write_bytes(damage)

    done = sandbox.run("up", "-d")

    assert done.returncode == 0, done.stdout + done.stderr
    assert sandbox.run("down").returncode == 0


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "note"
    files.write(path, "first\n")
    # As on a full disk: the kernel takes no more than that many bytes.
    code = "import sys; from pathlib import Path; from airflow_celery_lab.configuration import files; files.write(Path(sys.argv[1]), 'x' * 9999)"
    limited = f'ulimit -f 1; trap \'\' XFSZ; exec {PYTHON} -c "$0" "$1"'

    done = subprocess.run(["/bin/sh", "-c", limited, code, str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "OSError: [Errno 27]" in done.stderr
    assert path.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


#: What happens to a disk, what puts it right, and what the user is told meanwhile.
DISKS = {
    "full": ('dd if=/dev/zero of="$LAB_HOME/filler" bs=1M 2>/dev/null', 'rm "$LAB_HOME/filler"', "No space left on device; free space"),
    "no inodes": (
        'mkdir "$LAB_HOME/fill" && (n=0; while : >"$LAB_HOME/fill/$n"; do n=$((n + 1)); done) 2>/dev/null',
        'rm -r "$LAB_HOME/fill"',
        "it has no inodes left for more files (`df -i`); delete files",
    ),
    "read-only": (
        'mount --bind "$LAB_HOME" "$LAB_HOME" && mount -o remount,bind,ro "$LAB_HOME"',
        'umount "$LAB_HOME"',
        "Read-only file system; mount it writable",
    ),
}


@pytest.mark.e2e  # Takes as long: a disk is filled.
@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux" or shutil.which("unshare") is None, reason="only root may mount a disk")
@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_that_takes_nothing_more_is_told_and_a_lab_comes_back_when_it_does(sandbox: Sandbox, disk: str) -> None:
    """On a disk of its own, in a mount namespace of its own: nothing else on this machine sees it."""
    (sandbox.project / "Procfile").write_text(f"live: {PYTHON} -m airflow_celery_lab exec sh -c 'echo ready; exec sleep 1000'\n")
    sandbox.home.mkdir()
    lab = f"{PYTHON} -m airflow_celery_lab"
    damage, repair, told = DISKS[disk]
    # The doctor of a start wants 300 MB and 2000 files.
    script = f"""
        mount -t tmpfs -o size=310m,nr_inodes=2100 none "$LAB_HOME" || exit 77
        {lab} up -d || exit 1
        {damage}
        {lab} status; echo "status $?"
        {lab} up -d; echo "status $?"
        {lab} restart live; echo "status $?"
        {lab} doctor | grep BAD >&2
        {lab} down; echo "status $?"
        {repair}
        {lab} up -d && {lab} status && {lab} down && ls -A "$LAB_HOME"
    """
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(command, cwd=sandbox.project, env=sandbox.environ, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        pytest.skip("this machine does not let us mount a disk")

    assert done.returncode == 0, done.stdout + done.stderr
    sentence = f"cannot write to the state folder {sandbox.home}: {told}, or set LAB_HOME to another folder."
    assert set(done.stderr.splitlines()) == {f"lab: {sentence}", f"BAD  state folder: {sentence}"}
    # It was stopped all the same, which may make space enough for the end of `down`.
    assert done.stdout.count("status 14\n") in {3, 4}
    assert done.stdout.count("lab: stopped") == 2
    assert ".probe" not in done.stdout
