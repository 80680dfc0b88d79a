"""How Airflow finds the lab's plugin, and what keeps its pages closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from airflow_celery_lab.configuration import roots

#: Loads plugins as each process of Airflow does, and asks for those of the web interface.
PROGRAM = """
import sys
from airflow import plugins_manager, settings
settings.initialize()
{before}
plugins_manager.ensure_plugins_loaded()
for one in plugins_manager.get_plugin_info():
    print("plugin:", one["name"], [app["url_prefix"] for app in one["fastapi_apps"]], [view["href"] for view in one["external_views"]])
"""
WITHOUT_THE_CHECK = "sys.modules['airflow.api_fastapi.core_api.security'] = None"


def plugins(folder: Path, path: str, before: str = "") -> list[str]:
    """Return what Airflow knows of its plugins, with `path` as what the launcher adds."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "LAB_"))} | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "LAB_PROJECT": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(roots.DATA / "src"), path])),
    }
    code = PROGRAM.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith("plugin:")]


def test_airflow_finds_the_plugin_on_the_path_of_the_api_server_and_mounts_nothing_without_its_own_check(tmp_path: Path) -> None:
    views = "['lab/', 'lab/dags/{DAG_ID}/runs/{RUN_ID}', 'http://127.0.0.1:5555']"

    assert plugins(tmp_path, str(roots.PLUGIN)) == [f"plugin: airflow_celery_lab ['/lab'] {views}"]
    assert plugins(tmp_path, str(roots.PLUGIN), WITHOUT_THE_CHECK) == ["plugin: airflow_celery_lab [] []"]


def test_a_process_from_the_forkserver_that_is_not_the_api_server_does_not_find_the_plugin(tmp_path: Path) -> None:
    forget = "from airflow_celery_lab.inside_airflow import forkserver; forkserver._leave_the_plugin_out()"

    assert plugins(tmp_path, str(roots.PLUGIN), forget) == []
