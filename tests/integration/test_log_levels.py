from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from airflow_celery_lab.configuration.roots import DATA

#: What each process of Airflow does first, and then a line of loggers of both kinds.
PROGRAM = """
import logging
import airflow
import structlog
from airflow import settings

settings.initialize()
structlog.get_logger("airflow.dag_processing.manager.DagFileProcessorManager").info("hidden by Airflow's")
logging.getLogger("alembic.runtime.plugins").info("hidden by the standard library's")
structlog.get_logger("airflow.jobs").info("shown by Airflow's")
logging.getLogger("celery").info("shown by the standard library's")
"""


def test_every_airflow_obeys_the_levels_in_the_committed_configuration(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")} | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONFIG": str(DATA / "config" / "airflow.cfg"),
        "PYTHONPATH": str(DATA / "src"),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True)

    lines = done.stdout + done.stderr
    assert "hidden" not in lines
    assert lines.count("shown") == 2
