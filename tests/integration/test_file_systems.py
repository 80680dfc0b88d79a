"""What a file system cannot do is named before any file of the lab is on it. Tried on exFAT, as on the disks of others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from airflow_celery_lab.cli.main import main
from airflow_celery_lab.configuration import credentials, files
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import StateFolderError

from .sandbox import Sandbox
from .test_guard import PYTHON

TOOLS = ("unshare", "losetup", "mkfs.exfat", "mount.exfat-fuse")
CANNOT_MOUNT = 77
LACKING = "has no file modes, hard links, Unix sockets or names with a colon, which the lab needs; set LAB_HOME to a folder on another one."


def on_exfat(script: str, sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
    """Run a shell script with an exFAT file system in $DISK, which nothing else on this machine sees."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"there is no {missing[0]} on this machine (Debian: exfat-fuse, exfatprogs)")
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    disk = sandbox.folder / "disk"
    disk.mkdir()
    mounted = f"""
        truncate -s 64M image && mkfs.exfat image >/dev/null && loop=$(losetup -f --show image) || exit {CANNOT_MOUNT}
        trap 'umount "$DISK"; losetup -d "$loop"' EXIT
        mount.exfat-fuse "$loop" "$DISK" >/dev/null 2>&1 || exit {CANNOT_MOUNT}
        {script}
        ls -A "$DISK"
    """
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounted]
    variables = {**sandbox.environ, "DISK": str(disk), "LAB_COMMAND": "./lab"}
    done = subprocess.run(command, cwd=sandbox.folder, env=variables, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == CANNOT_MOUNT:
        pytest.skip("this machine does not let us mount a file system")
    return done


def test_a_state_folder_on_a_file_system_that_cannot_hold_it_is_named_and_nothing_is_made_there(sandbox: Sandbox) -> None:
    lab = f"{PYTHON} -m airflow_celery_lab"
    script = f"""
        export LAB_HOME="$DISK/state" LAB_PROJECT="{sandbox.project}"
        {lab} doctor | grep BAD >&2
        {lab} up -d; echo $?
        {lab} up; echo $?
        {lab} status; echo $?
    """

    done = on_exfat(script, sandbox)

    sentence = f"the file system of the state folder {sandbox.folder}/disk/state {LACKING}"
    assert done.stderr.splitlines() == [f"BAD  state folder: {sentence}", *[f"lab: {sentence}"] * 3]
    assert done.stdout == "14\n14\n14\n"


def test_a_state_that_was_copied_to_such_a_file_system_is_not_started_there(sandbox: Sandbox) -> None:
    credentials.load_or_create(State(sandbox.home))
    script = f"""
        cp -r "$LAB_HOME" "$DISK/state"
        export LAB_HOME="$DISK/state" LAB_PROJECT="{sandbox.project}"
        {PYTHON} -m airflow_celery_lab up -d
    """

    done = on_exfat(script, sandbox)

    assert done.stderr == f"lab: the file system of the state folder {sandbox.folder}/disk/state {LACKING}\n"


def test_an_environments_folder_on_such_a_file_system_is_named_and_nothing_is_made_there(sandbox: Sandbox) -> None:
    done = on_exfat(f'LAB_VENV="$DISK/venv" {CHECKOUT}/lab up', sandbox)

    told = f"lab: the file system of {sandbox.folder}/disk/venv.d has no symbolic links, which a Python environment needs; set LAB_VENV to a folder on another one.\n"
    assert (done.stderr, done.stdout) == (told, "")


def test_dags_may_lie_on_such_a_file_system(sandbox: Sandbox) -> None:
    script = f"""
        cp "{sandbox.project}/dags/fan_out.py" "$DISK"
        LAB_DAGS="$DISK" LAB_PROJECT="{sandbox.project}" {PYTHON} -m airflow_celery_lab doctor | grep -e BAD -e nothing
    """

    assert re.fullmatch(r"ok   start: nothing is in the way; .*\nfan_out\.py\n", on_exfat(script, sandbox).stdout)


def test_a_usual_file_system_lacks_nothing_and_keeps_nothing_of_the_question(tmp_path: Path) -> None:
    assert files.lacking(tmp_path / "not" / "there" / "yet") == []
    assert files.lacking(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_for_a_socket_is_no_lack(tmp_path: Path) -> None:
    far = tmp_path / ("x" * 120)
    far.mkdir()

    assert files.lacking(far) == []


def test_only_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(StateFolderError, match="has no hard links, which the lab needs; "):
        credentials.load_or_create(State(tmp_path / "state"))
    assert list(tmp_path.iterdir()) == []


def test_a_lab_that_was_never_started_is_not_made_by_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "state"))

    assert main(["down"]) == 0
    assert list(tmp_path.iterdir()) == []
