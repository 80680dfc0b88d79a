from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.supervision import supervisord_configuration


def test_commands_with_quotes_and_percent_signs_survive_the_configuration(tmp_path: Path) -> None:
    processes = {
        "odd": """./lab exec sh -c 'echo "50%" $HOME'""",
        "plain": "./lab exec redis",
        "set": "A='x y' B=2 cd /tmp && C=3 ./lab exec redis",
        "comments": "./lab exec sh -c 'a ;b\t;c #d'",
    }
    text = supervisord_configuration.for_lab(processes, tmp_path / "my 50% project", State(tmp_path / "state"), tmp_path / "socket")

    assert supervisord_configuration.parse(text) == processes


def test_the_committed_configuration_is_what_honcho_export_makes_of_the_procfile(tmp_path: Path) -> None:
    command = ["export", "-a", "supervisord", "-t", "config/supervisord", "-l", "%(here)s/.lab", "supervisord", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "honcho", "-f", "Procfile", *command], cwd=CHECKOUT, capture_output=True, check=True)

    assert (tmp_path / "supervisord.conf").read_text() == (CHECKOUT / "supervisord.conf").read_text(), "run `./lab export`"


def test_export_writes_what_honcho_exports() -> None:
    text = supervisord_configuration.for_project(procfile.instances(procfile.read(CHECKOUT)))

    assert text == (CHECKOUT / "supervisord.conf").read_text()
    assert supervisord_configuration.is_ours(text)


def test_the_configuration_names_the_files_of_the_state(tmp_path: Path) -> None:
    state = State(tmp_path)

    text = supervisord_configuration.for_lab({"redis": "./lab exec redis"}, tmp_path / "project", state, state.supervisord_socket)

    for path in (state.supervisord_log, state.supervisord_pid, state.process_logs, state.supervisord_socket):
        assert f"={path}\n" in text or f"//{path}\n" in text
