"""A project with files of its own, in a checkout of its own: packages, plugins, connections, a `.env`, a changed lock."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing import ThrowawayLab, pages, throwaway_lab
from airflow_celery_lab.testing.background import DOTENV, background_lab
from airflow_celery_lab.testing.checkouts import copy_checkout
from airflow_celery_lab.wait import wait_until

#: As people write it: JSON without quotes around it.
SHOP = DOTENV + 'AIRFLOW_CONN_SHOP={{"conn_type": "http", "host": "{host}"}}\n'
GREETINGS = {
    "METADATA": "Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "entry_points.txt": "[airflow.plugins]\ngreetings = greetings:Greetings\n",
    "RECORD": "",
}
REQUIREMENTS = "--no-index\n--find-links .\ngreetings==1.0\n"


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A checkout with an environment of its own, whose Procfile tests may edit."""
    folder = Path(mkdtemp(prefix="lab checkout "))
    folder.chmod(0o755)
    copy_checkout(folder)
    for name in ("late.py", "nobody_listens.py", "own_trigger.py"):
        shutil.copy(CHECKOUT / "tests/e2e/dags" / name, folder / "dags")
    shutil.copytree(CHECKOUT / "tests/e2e/dags/helpers", folder / "dags/helpers")
    (folder / ".env").write_text(SHOP.format(host="shop.test"))
    own = CHECKOUT / "tests/e2e/project"
    shutil.copytree(own, folder, dirs_exist_ok=True)
    with zipfile.ZipFile(folder / "greetings-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(own / "package/greetings.py", "greetings.py")
        for name, text in GREETINGS.items():
            wheel.writestr(f"greetings-1.0.dist-info/{name}", text)
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    yield folder
    shutil.rmtree(folder)


def test_plain_supervisord_runs_the_committed_configuration(checkout: Path) -> None:
    with throwaway_lab(checkout / "dags", {"LAB_HOME": str(checkout / ".lab"), "LAB_VENV": str(checkout / ".venv")}, checkout) as lab:
        lab.command("setup")
        lab.up(command=[str(checkout / ".venv/bin/supervisord"), "-n"])

        def supervisorctl(*words: str) -> str:
            command = [str(checkout / ".venv/bin/supervisorctl"), *words]
            return subprocess.run(command, cwd=checkout, env=lab.environ, capture_output=True, text=True, check=False).stdout

        states = supervisorctl("status").split()
        # RUNNING is what has been up for `startsecs`, longer than the lab takes to be ready.
        assert states.count("RUNNING") + states.count("STARTING") == 10
        assert int(supervisorctl("pid", "redis")) == lab.cluster.records["redis"].pid
        assert lab.cluster.run("fan_out", {"tasks": 2, "seconds": 0}).state == "success"
        lab.look()
        supervisorctl("stop", "all")
        supervisorctl("shutdown")
        lab.wait_until_gone()


@pytest.fixture(scope="module")
def background(checkout: Path) -> Iterator[ThrowawayLab]:
    with background_lab(checkout / "dags", checkout, {"LAB_VENV": str(checkout / ".venv")}) as lab:
        yield lab


def test_changed_requirements_leave_a_running_lab_its_environment_and_are_told(background: ThrowawayLab, checkout: Path) -> None:
    lock = checkout / "requirements.lock"
    text = lock.read_text()
    own = (checkout / ".venv").resolve()
    lock.write_text(text + "# As after a git pull.\n")
    try:
        told = background.command("status", check=False).stdout
        background.command("restart", "triggerer")
        commands = background.commands()
    finally:
        lock.write_text(text)

    assert "warning: what the Python environment is made from has changed, and a newer one waits: " in told
    assert commands[background.cluster.record("triggerer").pid][0] == f"{own}/bin/python"
    assert [path for path in checkout.glob(".venv.d/*") if path.is_dir()] == [own]


def returned(cluster: Cluster, dag_id: str, task_id: str) -> object:
    """Run a DAG, and return what its task returns."""
    run = cluster.run(dag_id)
    assert run.succeeded, run
    return cluster.api.request("GET", f"/dags/{dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries/return_value")["value"]


def waited(cluster: Cluster) -> object:
    """Return what the task says that waits with a trigger of the user's own."""
    return returned(cluster, "own_trigger", "wait")


def test_a_trigger_beside_the_dags_and_a_connection_in_dotenv_are_there_and_a_changed_dotenv_is_noticed_and_applied(
    background: ThrowawayLab, checkout: Path
) -> None:
    assert waited(background.cluster) == "tick from shop.test"
    assert not [warning for warning in pages.data(background.cluster)["status"]["warnings"] if ".env" in warning]

    (checkout / ".env").write_text(SHOP.format(host="mall.test"))
    told = background.command("status", check=False).stdout
    assert "warning: .env has changed since the cluster started: `" in told
    on_the_page = pages.data(background.cluster)["status"]["warnings"]
    assert [warning for warning in on_the_page if ".env has changed since the cluster started" in warning]
    assert [warning for warning in on_the_page if f"warning: {warning}" not in told] == []

    assert "~ scheduler" in background.command("apply").stdout
    assert ".env has changed" not in background.command("status").stdout
    assert waited(background.cluster) == "tick from mall.test"


def said(cluster: Cluster) -> object:
    """Return what the task says that uses all that a project may have."""
    return returned(cluster, "uses_all", "tell")


def test_a_projects_packages_plugins_sub_folders_connections_variables_and_pools_are_there(
    background: ThrowawayLab, checkout: Path
) -> None:
    cluster = background.cluster
    told = json.dumps(["beside", "greetings", "warehouse.test", "not so secret", {"sslmode": "require"}, "north"])
    assert said(cluster) == json.loads(told)
    [site] = checkout.glob(".venv/lib/python3*/site-packages")
    wait_until(lambda: None if "tell" in (site / "greetings.heard").read_text() else "silent", 10, "the listener")
    assert {"greetings", "calendars"} <= {plugin["name"] for plugin in cluster.api.pages("/plugins", "plugins")}
    # By the environment that has the packages, which is not that of the tests.
    warnings = json.loads(background.command("status", "--json").stdout)["warnings"]
    assert [one for one in warnings if "draft" in one or "greetings" in one] == []
    assert [one for one in warnings if "plugin" in one and "cannot be imported: the licence has expired" in one]
    assert "airflow_settings.yaml: there is no key 'conn_hots' of connection mistyped; did you mean 'conn_host'?" in warnings


def test_an_edited_settings_file_is_noticed_and_applied_over_what_was_changed_in_airflow(background: ThrowawayLab, checkout: Path) -> None:
    cluster, file = background.cluster, checkout / "airflow_settings.yaml"
    cluster.api.request("DELETE", "/connections/warehouse")
    text = file.read_text()
    file.write_text(text.replace("north", "south"))
    try:
        told = [one for one in cluster.status().warnings if "airflow_settings.yaml has changed" in one]
        assert told[0].startswith("airflow_settings.yaml has changed, and Airflow does not have it yet: variable region: `")

        printed = background.command("apply").stdout

        assert "lab: applied airflow_settings.yaml: connection warehouse, pool narrow, variable region\n" in printed
        assert not [one for one in cluster.status().warnings if "airflow_settings.yaml has changed" in one]
        assert said(cluster) == ["beside", "greetings", "warehouse.test", "not so secret", {"sslmode": "require"}, "south"]
    finally:
        file.write_text(text)
        background.command("apply")
    logs = "".join(path.read_text(errors="replace") for path in cluster.lab.state.home.rglob("*.log"))
    notes = cluster.lab.state.applied_settings
    assert "not so secret" not in logs + notes.read_text()
    assert notes.stat().st_mode & 0o777 == 0o600


def test_changed_packages_wait_for_the_next_start_of_a_running_lab(background: ThrowawayLab, checkout: Path) -> None:
    file = checkout / "requirements.txt"
    file.write_text(f"{REQUIREMENTS}sqlalchemy<2\n")
    try:
        told = background.command("status", check=False).stdout
    finally:
        file.write_text(REQUIREMENTS)

    assert "warning: what the Python environment is made from has changed, and a newer one waits: " in told
    assert "asks for what is not installed: sqlalchemy<2 (there is " in told
