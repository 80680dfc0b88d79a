"""What the writer of a DAG does: save, see what Airflow made of it, read a task's log, stop at a breakpoint in a task."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_celery_lab.configuration import debugger
from airflow_celery_lab.testing import debug_adapter
from airflow_celery_lab.testing.throwaway import ThrowawayLab
from airflow_celery_lab.wait import wait_until

DAG = """
from pathlib import Path
import wares
from airflow.sdk import DAG, task
ASIDE = Path(__file__).with_name("prices.yaml")
with DAG("shop", schedule=None, description=wares.NAME + {suffix!r} + (ASIDE.read_text() if ASIDE.exists() else "")):
    @task
    def sell():
        print(wares.NAME)
    sell()
"""


@pytest.fixture
def shop(lab: ThrowawayLab, lab_dags: Path) -> Iterator[Path]:
    """The file of a DAG that uses a module beside it; both are live."""
    file, module, data = lab_dags / "shop.py", lab_dags / "wares.py", lab_dags / "prices.yaml"
    module.write_text("NAME = 'apples'\n")
    file.write_text(DAG.format(suffix=""))
    wait_until(lambda: described(lab, "apples"), 15, "the new DAG")
    yield file
    file.unlink()
    module.unlink()
    data.unlink(missing_ok=True)
    wait_until(lambda: "it is there" if "shop" in lab.cluster.api.dag_ids() else None, 30, "the end of the DAG")


def described(lab: ThrowawayLab, text: str) -> str | None:
    if "shop" not in lab.cluster.api.dag_ids():
        return "there is no DAG"
    found = lab.cluster.api.dag("shop")["description"]
    return None if found == text else f"it is {found!r}"


def listed(lab: ThrowawayLab, name: str) -> dict[str, Any]:
    files: list[dict[str, Any]] = json.loads(lab.command("dags", "--json", check=False).stdout)
    return next(file for file in files if file["name"] == name)


def test_what_is_saved_is_live_soon_a_module_or_data_beside_the_dags_too(lab: ThrowawayLab, shop: Path) -> None:
    shop.write_text(DAG.format(suffix=" and pears"))
    # By itself Airflow would parse it again after a minute.
    wait_until(lambda: described(lab, "apples and pears"), 10, "the DAG")

    (shop.parent / "wares.py").write_text("NAME = 'plums'\n")
    wait_until(lambda: described(lab, "plums and pears"), 10, "the module")

    (shop.parent / "prices.yaml").write_text(": cheap")
    wait_until(lambda: described(lab, "plums and pears: cheap"), 10, "the data")


def test_a_run_waits_until_what_was_saved_is_live(lab: ThrowawayLab, shop: Path) -> None:
    # Else it may be live before the command has begun.
    lab.cluster.pause("dag-processor")
    try:
        (shop.parent / "wares.py").write_text("NAME = 'cherries'\n")
        running = subprocess.Popen([*lab.program, "run", "shop"], cwd=lab.project, env=lab.environ, stderr=subprocess.PIPE, text=True)
        assert running.stderr is not None
        first = running.stderr.readline()
    finally:
        lab.cluster.resume("dag-processor")
    with running:
        second = running.stderr.readline()

    assert running.returncode == 0
    assert first == "lab: shop.py was saved, and has not been parsed since; waiting\n"
    assert second.startswith("lab: the new version of shop is live after")
    assert described(lab, "cherries") is None
    assert "cherries" in lab.command("task-log", "shop", "sell").stdout


def test_dags_shows_which_files_were_read_and_where_one_is_broken(lab: ThrowawayLab, shop: Path) -> None:
    assert (listed(lab, "shop.py")["state"], listed(lab, "wares.py")["state"]) == ("live", "no DAG")
    assert [dag["dag_id"] for dag in listed(lab, "shop.py")["dags"]] == ["shop"]
    assert listed(lab, "shop.py")["seconds"] > 0

    shop.write_text(DAG.format(suffix="") + "1 / 0\n")
    wait_until(lambda: None if listed(lab, "shop.py")["error"] else "no error", 15, "the error")
    table = lab.command("dags", check=False)
    refused = lab.command("run", "shop", check=False)

    assert table.returncode == 1
    assert "shop.py cannot be read: shop.py, line 11: ZeroDivisionError: division by zero" in table.stdout
    assert refused.returncode == 24
    assert "line 11: ZeroDivisionError" in refused.stderr
    shop.write_text(DAG.format(suffix=""))
    wait_until(lambda: None if lab.command("dags", check=False).returncode == 0 else "an error", 15, "the correction")


def test_a_task_log_is_found_by_the_names_that_run_shows(lab: ThrowawayLab) -> None:
    lab.command("run", "stops")

    assert "3 doubled is 6" in lab.command("task-log", "stops", "double[0]").stdout
    assert "4 doubled is 8" in lab.command("task-log", "stops", "double", "--map-index", "1", "--try", "1").stdout
    every = json.loads(lab.command("task-log", "stops", "--json").stdout)
    assert {line["task"] for line in every} == {"double[0]", "double[1]", "add"}
    for words, sentence in (
        (["stops", "double"], "the task 'double' is mapped: name one of 0-1, such as 'double[0]'."),
        (["stops", "doubel"], "did you mean 'double'?"),
        (["stops", "double[7]"], "its indices are 0-1."),
        (["stops", "add", "--try", "3"], "add has no try 3; its newest one is 1."),
    ):
        done = lab.command("task-log", *words, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (26, 1)
        assert sentence in done.stderr


def test_a_followed_task_log_shows_all_tries_of_a_task_and_ends_with_it(lab: ThrowawayLab) -> None:
    run_id = lab.cluster.trigger("stops")

    done = lab.command("task-log", "stops", "add", "--follow")

    assert "Returned value was: 14" in done.stdout
    assert {task.state for task in lab.cluster.look("stops", run_id).tasks if task.task_id == "add"} == {"success"}


def test_a_breakpoint_in_a_task_on_a_worker_stops_it_and_shows_its_variables(lab: ThrowawayLab, lab_dags: Path, tmp_path: Path) -> None:
    file = lab_dags / "stops.py"
    line = next(number for number, text in enumerate(file.read_text().splitlines(), start=1) if "return total" in text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "said").open("w+") as said:
        debugging = subprocess.Popen(
            [*lab.program, "debug", "stops", "add", "--port", str(port)], cwd=lab.project, env=lab.environ, stdout=said, stderr=said
        )
        try:
            wait_until(lambda: waits(debugging, tmp_path / "said", port), 120, "the task")
            refused = lab.command("debug", "stops", check=False)
            with (
                socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
                connection.makefile("rb") as answers,
                connection.makefile("wb") as requests,
            ):
                client = debug_adapter.Client(requests, answers)
                client.ask("initialize", adapterID="debugpy", pathFormat="path")
                client.request("attach", justMyCode=False)
                client.until("initialized")
                client.ask("setBreakpoints", source={"path": str(file)}, breakpoints=[{"line": line}])
                client.request("configurationDone")
                thread = client.until("stopped")["body"]["threadId"]
                frame = client.ask("stackTrace", threadId=thread)["stackFrames"][0]
                scope = client.ask("scopes", frameId=frame["id"])["scopes"][0]
                variables = client.ask("variables", variablesReference=scope["variablesReference"])["variables"]
                client.request("continue", threadId=thread)
                client.until("terminated")
            status = debugging.wait(timeout=60)
        finally:
            debugging.send_signal(signal.SIGINT)
            debugging.wait(timeout=60)
    output = (tmp_path / "said").read_text()

    assert status == 0, output
    assert (frame["name"], frame["line"]) == ("add", line)
    assert {variable["name"]: variable["value"] for variable in variables}["total"] == "14"
    assert refused.returncode == 15
    newest = lab.cluster.api.newest_run("stops")
    assert newest is not None
    assert {(task.task_id, task.worker) for task in lab.cluster.look("stops", newest["dag_run_id"]).tasks} == {
        ("double", "worker-high-cpu"),
        ("add", debugger.NAME),
    }
    assert debugger.NAME not in lab.cluster.records


def waits(debugging: subprocess.Popen[bytes], said: Path, port: int) -> str | None:
    output = said.read_text()
    assert debugging.poll() is None, output
    return None if f"attach your editor to 127.0.0.1:{port}" in output else output or "it is silent"


def test_what_cannot_be_debugged_is_refused_in_one_sentence(lab: ThrowawayLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for words, status, sentence in (
            (["stop"], 17, "did you mean 'stops'?"),
            (["stops", "ad"], 26, "did you mean 'add'?"),
            (["stops", "--port", str(taken.getsockname()[1])], 12, "name another one with --port"),
        ):
            done = lab.command("debug", *words, check=False)
            assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
            assert sentence in done.stderr
