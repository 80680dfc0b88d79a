"""The lab in the background: scaled, broken and repaired while it runs, in a checkout of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import httpx
import psutil
import psycopg2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from airflow_celery_lab.cluster import journal, trees
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.runs import Task, finish
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.environment import wiring
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.experiments import trials as experiments
from airflow_celery_lab.testing import AirflowLab, ThrowawayLab, leftovers, pages, throwaway_lab
from airflow_celery_lab.testing.browser import Browser
from airflow_celery_lab.testing.checkouts import copy_checkout
from airflow_celery_lab.testing.terminal import CTRL_C, CTRL_D, terminal
from airflow_celery_lab.timeline import recent
from airflow_celery_lab.timeline.spans import Timeline
from airflow_celery_lab.wait import wait_until

#: As people write it: JSON without quotes around it; a second executor; a web interface behind somebody's proxy.
SHOP = """
AIRFLOW_CONN_SHOP={{"conn_type": "http", "host": "{host}"}}
AIRFLOW__CORE__EXECUTOR=CeleryExecutor,LocalExecutor
AIRFLOW__API__BASE_URL=http://proxy.test/team/airflow
"""
GREETINGS = {
    "METADATA": "Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "entry_points.txt": "[airflow.plugins]\ngreetings = greetings:Greetings\n",
    "RECORD": "",
}
REQUIREMENTS = "--no-index\n--find-links .\ngreetings==1.0\n"
EXTRA = "worker-extra: ./lab exec airflow celery worker --queues extra --concurrency 1\n"


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
    temporary = Path(mkdtemp(prefix="lab-tmp-"))
    temporary.chmod(0o711)
    variables = {
        "TMPDIR": str(temporary),
        "LAB_VENV": str(checkout / ".venv"),
        "LAB_STOP_TIMEOUT": "30",
        "LAB_LISTENER_TIMEOUT": "10",
    }
    with throwaway_lab(checkout / "dags", variables, checkout) as lab:
        lab.command("setup")
        before = leftovers.look(temporary, lab.cluster.settings.ports)
        # As in many offices, but that nobody answers there.
        lab.environ |= dict.fromkeys(("HTTP_PROXY", "https_proxy"), "http://127.0.0.1:9")
        assert "lab: ready after" in lab.command("up", "-d").stdout
        yield lab
        memory = leftovers.memory_of(lab.look())
        lab.command("down")
        lab.wait_until_gone()
        assert leftovers.look(temporary, lab.cluster.settings.ports) == before
        assert leftovers.left(memory) == set()
    shutil.rmtree(temporary)


@pytest.fixture
def procfile(checkout: Path, background: ThrowawayLab) -> Iterator[Path]:
    """The Procfile; whatever a test makes of it, it is put back and applied."""
    path = checkout / "Procfile"
    text = path.read_text()
    yield path
    path.write_text(text)
    background.command("apply")
    background.cluster.wait_until_ready()


def pids(cluster: Cluster) -> dict[str, int]:
    return {name: record.main_pid for name, record in cluster.records.items()}


def seconds(moment: str | None) -> float:
    return datetime.fromisoformat((moment or "").replace("Z", "+00:00")).timestamp()


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


def test_applying_an_edited_procfile_touches_only_what_differs(background: ThrowawayLab, procfile: Path) -> None:
    cluster = background.cluster
    before = pids(cluster)
    running = cluster.trigger("fan_out", {"tasks": 6, "seconds": 3})
    wait_until(lambda: None if any(worker.running for worker in cluster.status(details=False).workers) else "idle", 30, "a running task")
    procfile.write_text(procfile.read_text().replace("--queues default --concurrency 8", "--queues default,late --concurrency 3") + EXTRA)
    assert "the Procfile differs from what runs" in background.command("status", check=False).stdout

    printed = background.command("apply").stdout

    assert "+ worker-extra" in printed
    assert "~ worker-default" in printed
    after = pids(cluster)
    assert {name for name, pid in after.items() if before.get(name) != pid} == {"worker-default", "worker-extra"}
    workers = {worker.name: (worker.queues, worker.concurrency) for worker in cluster.status(details=False).workers}
    assert workers["worker-default"] == (["default", "late"], 3)
    assert workers["worker-extra"] == (["extra"], 1)
    # The changed worker has finished its tasks first: none of them was tried twice.
    wait_until(lambda: None if cluster.api.run_state("fan_out", running) == "success" else "running", 60, "the run")
    assert {task.try_number for task in cluster.look("fan_out", running).tasks} == {1}
    assert "lab: nothing to do" in background.command("apply").stdout


def test_workers_come_with_the_load_and_end_warm_and_neither_apply_nor_scale_is_in_their_way(
    background: ThrowawayLab, procfile: Path
) -> None:
    cluster = background.cluster
    procfile.write_text(procfile.read_text() + "autoscaler: ./lab exec autoscale worker-default=1..2\n")
    background.command("apply")
    before = pids(cluster)
    run_id = cluster.trigger("fan_out", {"tasks": 40, "seconds": 4})

    wait_until(lambda: None if "worker-default-2" in names(cluster) else "not there", 60, "one more worker")

    refused, applied = background.command("scale", "worker-default=1", check=False), background.command("apply").stdout
    assert (refused.returncode, "has an autoscaler, which runs 1 to 2 of it" in refused.stderr) == (11, True)
    assert "lab: worker-default stays at 2 workers, as its autoscaler wants\nlab: nothing to do" in applied
    assert "the Procfile differs" not in background.command("status", check=False).stdout
    (line,) = pages.data(cluster)["status"]["autoscaled"]
    expected = {"line": "worker-default", "wanted": 2, "actual": 2, "least": 1, "most": 2, "process": "autoscaler"}
    assert expected.items() <= line.items()
    assert "on 8 slots a worker" in line["why"]
    wait_until(lambda: None if cluster.api.run_state("fan_out", run_id) == "success" else "running", 60, "the run")
    wait_until(lambda: None if pids(cluster) == before else "there still", 90, "the end of the second worker")
    tasks = cluster.look("fan_out", run_id).tasks
    assert ({task.try_number for task in tasks}, {task.worker for task in tasks}) == ({1}, {"worker-default", "worker-default-2"})
    acts = [f"{act.what} {', '.join(act.names)}" for act in journal.read(cluster.lab.state) if act.what.startswith("autoscaler")]
    assert acts == [f"autoscaler {what} worker-default-2" for what in ("added", "drains", "removed")]


def waited(cluster: Cluster) -> object:
    """Run the task that waits with a trigger of the user's own, and return what it says."""
    run = cluster.run("own_trigger")
    assert run.succeeded, run
    return cluster.api.request("GET", f"/dags/own_trigger/dagRuns/{run.run_id}/taskInstances/wait/xcomEntries/return_value")["value"]


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
    """Run the DAG that uses all that a project may have, and return what its task says."""
    run = cluster.run("uses_all")
    assert run.succeeded, run
    return cluster.api.request("GET", f"/dags/uses_all/dagRuns/{run.run_id}/taskInstances/tell/xcomEntries/return_value")["value"]


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


def test_a_killed_worker_is_back_within_30_seconds(background: ThrowawayLab) -> None:
    before = background.cluster.records["worker-default"].pid
    background.command("kill", "worker-default")

    def back() -> str | None:
        record = background.cluster.records.get("worker-default")
        return None if record and record.pid != before and "worker-default" in names(background.cluster) else "away"

    wait_until(back, 30, "the return of worker-default")


def test_a_process_that_is_killed_again_and_again_always_comes_back(background: ThrowawayLab) -> None:
    """Left alone, supervisord gives up after the fourth time within 15 seconds of its start."""
    for _ in range(5):
        wait_until(lambda: None if "flower" in background.cluster.records else "away", 30, "flower")
        background.command("kill", "flower")

    background.cluster.wait_until_ready(30)


def names(cluster: Cluster) -> set[str]:
    return {worker.name for worker in cluster.status(details=False).workers}


def test_a_task_on_a_queue_without_a_listener_fails_and_says_why(background: ThrowawayLab) -> None:
    cluster = background.cluster
    begin = time.monotonic()

    done = background.command("run", "nobody_listens", check=False)

    assert done.returncode == 1
    assert 10 < time.monotonic() - begin < 30
    reason = "No worker has listened to the queue 'nowhere' for 10 s"
    assert reason in done.stdout
    run_id = cluster.api.pages("/dags/nobody_listens/dagRuns", "dag_runs")[-1]["dag_run_id"]
    assert reason in json.dumps(cluster.api.log("nobody_listens", run_id, "wait_for_a_worker", 1))
    assert cluster.broker.waiting("nowhere") == 0


def test_a_paused_process_is_shown_as_such_and_goes_on_when_resumed(background: ThrowawayLab) -> None:
    background.command("pause", "worker-high-cpu")
    paused = next(process for process in background.cluster.status(details=False).processes if process.name == "worker-high-cpu")
    background.command("resume", "worker-high-cpu")

    assert (paused.state, paused.ready) == ("paused", False)
    wait_until(lambda: None if background.cluster.status(details=False).ready else "not ready", 20, "the lab")


def test_a_server_that_hangs_does_not_hang_status_which_names_it(background: ThrowawayLab) -> None:
    for name in ("redis", "postgres", "webserver"):
        background.command("pause", name)
        try:
            status = json.loads(background.command("status", "--json", check=False, timeout=30).stdout)
        finally:
            background.command("resume", name)

        assert {process["name"]: process["state"] for process in status["processes"]}[name] == "paused"
        assert not status["ready"]
    background.cluster.wait_until_ready(60)


def test_a_link_of_the_workers_is_slow_and_cut_until_it_is_healed_and_no_other_process_is_touched(background: ThrowawayLab) -> None:
    cluster, workers = background.cluster, {"worker-default", "worker-high-cpu"}
    before = pids(cluster)

    def changed() -> set[str]:
        return {name for name, pid in pids(cluster).items() if before.get(name) != pid}

    mistyped = background.command("slow", "redis", "200", check=False)
    assert (mistyped.returncode, "did you mean 200ms?" in mistyped.stderr) == (10, True)
    told = background.command("slow", "redis", "200ms").stdout
    assert "worker-default, worker-high-cpu start again for that, after their tasks, 30 s at most" in told
    assert changed() == workers | {"links"}

    (cut,) = [link for link in json.loads(background.command("cut", "redis", "--json").stdout) if link["cut"]]
    background.command("kill", "links")
    run_id = cluster.trigger("fan_out", {"tasks": 2, "seconds": 0})
    wait_until(lambda: None if cluster.broker.waiting("default") else "no message", 30, "messages that no worker hears of")
    status = json.loads(background.command("status", "--json", check=False).stdout)
    assert (cut["server"], status["ready"], status["links"][0]) == ("redis", False, cut)
    assert any("the workers' link to redis is cut: " in warning for warning in status["warnings"])
    background.command("heal")
    (task, other) = [task for task in finish(cluster.api, "fan_out", run_id, 60).tasks if task.task_id == "work"]
    assert {(one.state, one.try_number) for one in (task, other)} == {("success", 1)}

    airflow = AirflowLab(cluster, timeout=60, alone=lambda: True)
    airflow.cut("postgres", "webserver")
    assert [link.cut for link in airflow.status().links] == [False, True, True]
    airflow.heal()
    assert "nothing to do" in background.command("apply").stdout
    assert "workers reach Redis, Postgres and the api-server directly" in background.command("heal", "--off").stdout
    assert changed() == workers
    assert not cluster.status(details=False).links
    cluster.wait_until_ready(30)


def test_a_fault_for_a_process_of_another_lab_is_refused(background: ThrowawayLab) -> None:
    for command in ("kill", "pause", "resume"):
        done = background.command(command, "worker-of-another-lab", check=False)
        assert done.returncode == 19
        assert "worker-of-another-lab" in done.stderr


def test_a_process_that_cannot_start_is_shown_with_its_last_words(background: ThrowawayLab, procfile: Path) -> None:
    procfile.write_text(procfile.read_text() + "broken: ./lab exec sh -c 'echo the reason; exit 3'\n")

    done = background.command("apply", check=False)

    assert done.returncode == 18
    assert "the reason" in done.stdout
    status = json.loads(background.command("status", "--json", check=False).stdout)
    broken = next(process for process in status["processes"] if process["name"] == "broken")
    assert broken["state"] == "failed"
    assert "status 3" in broken["reason"]
    assert "the reason" in broken["reason"]


def test_logs_shows_the_last_lines_of_a_process(background: ThrowawayLab) -> None:
    printed = background.command("logs", "worker-default", "-n", "500").stdout

    assert "celery@worker-default ready." in printed
    assert background.command("logs", "nobody", check=False).returncode == 19


@pytest.fixture
def two_workers(background: ThrowawayLab) -> ThrowawayLab:
    """The lab with the workers that faults want, left so: not each of these tests has to start and stop one."""
    background.command("scale", f"worker-default={experiments.WORKERS}")
    return background


@pytest.fixture
def one_worker(background: ThrowawayLab) -> ThrowawayLab:
    """The lab as its Procfile has it."""
    background.command("apply")
    return background


@pytest.mark.release
def test_a_killed_workers_task_runs_on_another_one_at_once_and_says_why(two_workers: ThrowawayLab) -> None:
    cluster = two_workers.cluster
    run_id = cluster.trigger("worker_loss", {"seconds": 4})

    def task() -> Task:
        return cluster.look("worker_loss", run_id).tasks[0]

    wait_until(lambda: None if task().state == "running" else f"{task().state}", 30, "the task")
    victim = task().worker or ""
    cluster.kill(victim)
    # supervisord brings it back so soon that it might take its own task again: keep it away.
    cluster.supervisor.stop([victim])

    # Airflow alone would need 300 s.
    wait_until(lambda: None if task().try_number == 2 and task().state == "running" else f"{task()}", 15, "the second try")
    assert task().worker in {"worker-default", "worker-default-2"} - {victim}
    cluster.supervisor.launch([victim])
    wait_until(lambda: None if cluster.api.run_state("worker_loss", run_id) == "success" else "running", 60, "the run")
    states = [entry["state"] for entry in cluster.api.tries("worker_loss", run_id, "count")]
    assert states.count("success") == 1
    # Else Redis would deliver the first try's message again, a day later.
    wait_until(lambda: "there are some" if cluster.broker.redis.hlen("unacked") else None, 10, "the end of both messages")
    reason = f"{victim} was lost at "
    assert reason in json.dumps(cluster.api.log("worker_loss", run_id, "count", 1))
    assert any(event["run_id"] == run_id and reason in event["extra"] for event in events(cluster, "worker lost"))


@pytest.mark.release
def test_the_timeline_of_a_run_shows_each_stay_in_a_slot_and_the_fault_between_them(
    two_workers: ThrowawayLab, browser: Browser, tmp_path: Path
) -> None:
    cluster = two_workers.cluster
    run_id = cluster.trigger("worker_loss", {"seconds": 3})
    wait_until(lambda: None if cluster.look("worker_loss", run_id).tasks[0].state == "running" else "not yet", 30, "the task")
    victim = cluster.look("worker_loss", run_id).tasks[0].worker or ""
    two_workers.command("kill", victim)
    wait_until(lambda: None if cluster.api.run_state("worker_loss", run_id) == "success" else "running", 60, "the run")

    (page,) = two_workers.command("timeline", "worker_loss").stdout.splitlines()
    data = json.loads(two_workers.command("timeline", "worker_loss", run_id, "--json", "--trace", str(tmp_path / "trace")).stdout)

    live = recent.timeline(cluster, 300)
    assert isinstance(live, Timeline), live
    of_run = [(span.kind, span.try_number, span.worker, span.state, span.start, span.end) for span in live.spans if span.run_id == run_id]
    fields = ("kind", "try_number", "worker", "state", "start", "end")
    assert of_run == [tuple(span[field] for field in fields) for span in data["spans"]]
    assert [mark.what for mark in live.marks][-2:] == [mark["what"] for mark in data["marks"]]
    assert Path(page).is_relative_to(cluster.settings.home)
    assert Path(page).stat().st_size < 5_000_000
    running = [span for span in data["spans"] if span["kind"] == "running"]
    assert [(span["try_number"], span["state"]) for span in running] == [(1, "lost"), (2, "success")]
    assert running[0]["worker"] == victim
    assert [mark["what"] for mark in data["marks"]] == [f"kill {victim}", "worker lost (1 task)"]
    assert {event["ph"] for event in json.loads((tmp_path / "trace").read_text())["traceEvents"]} == {*"MXsfiC"}
    browser.look(600, 700)
    browser.open(Path(page).as_uri(), "document.body?.dataset.drawn === 'yes'")
    assert browser.evaluate("document.querySelectorAll('.bars .point').length") == len(data["spans"])
    assert browser.evaluate("document.documentElement.scrollWidth") == 600
    bar = browser.evaluate("[...document.querySelectorAll('.bars .point')].at(-1).getBoundingClientRect().toJSON()")
    browser.point(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    told = "document.querySelector('.hoverlayer').textContent"
    wait_until(lambda: None if "try 2" in browser.evaluate(told) else "nothing", 5, "the words at the pointer")
    assert f"worker {running[1]['worker']}" in browser.evaluate(told)
    browser.drag(bar["x"] + 1, bar["y"] + 2, bar["x"] + bar["width"] / 2)
    wide = bar["width"] * 1.5
    wider = f"[...document.querySelectorAll('.bars .point')].at(-1).getBoundingClientRect().width > {wide}"
    wait_until(lambda: None if browser.evaluate(wider) else "as wide as before", 5, "a closer look")
    assert browser.errors == []
    assert browser.requests == [Path(page).as_uri()]


def events(cluster: Cluster, name: str) -> list[dict[str, str]]:
    return cluster.api.pages("/eventLogs", "event_logs", {"event": name})


def counters(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what must never go down, of what Prometheus reads."""
    kept = [family for family in text_string_to_metric_families(text) if family.type in {"counter", "histogram"}]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in kept for sample in family.samples}


def counter(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[f"airflow_lab_{name}", frozenset(labels.items())]


@pytest.mark.release
def test_prometheus_reads_behind_flowers_password_what_metrics_prints_and_no_counter_falls_with_a_worker(
    two_workers: ThrowawayLab,
) -> None:
    cluster = two_workers.cluster
    address, login = f"{cluster.settings.url('flower')}/lab/metrics", (ADMIN, cluster.credentials.admin_password)
    assert httpx.get(address).status_code == 401
    seen = [counters(two_workers.command("metrics").stdout)]
    # Long enough for a look and a kill while it runs.
    run_id = cluster.trigger("worker_loss", {"seconds": 10})
    wait_until(lambda: None if cluster.look("worker_loss", run_id).tasks[0].state == "running" else "not yet", 30, "the task")
    busy = httpx.get(address, auth=login, timeout=10)
    victim = cluster.look("worker_loss", run_id).tasks[0].worker or ""

    cluster.kill(victim)

    def done() -> str | None:
        seen.append(counters(httpx.get(address, auth=login, timeout=10).text))
        return None if cluster.api.run_state("worker_loss", run_id) == "success" else "running"

    wait_until(done, 60, "the run")
    seen.append(counters(two_workers.command("metrics").stdout))
    assert busy.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'airflow_lab_worker_running_tasks{{worker="{victim}"}} 1.0' in busy.text
    assert 'airflow_lab_tasks{queue="default",state="running"}' in busy.text
    assert f'airflow_lab_process_ready{{kind="worker",process="{victim}"}} 1.0' in busy.text
    assert [key for before, after in pairwise(seen) for key in before if after[key] < before[key]] == []
    first, last = seen[0], seen[-1]
    assert counter(last, "workers_lost_total", worker=victim) == counter(first, "workers_lost_total", worker=victim) + 1
    assert counter(last, "tasks_lost_total", event="worker lost") == counter(first, "tasks_lost_total", event="worker lost") + 1
    for name in ("task_latency_seconds_count", "task_run_time_seconds_count"):
        assert counter(last, name, queue="default") >= counter(first, name, queue="default") + 2
    cluster.wait_until_ready(60)


def test_flowers_own_metrics_name_the_tasks(background: ThrowawayLab) -> None:
    assert background.cluster.run("queue_routing").state == "success"

    def named() -> str | None:
        login = (ADMIN, background.cluster.credentials.admin_password)
        text = httpx.get(f"{background.cluster.settings.url('flower')}/metrics", auth=login, timeout=10).text
        return None if 'flower_task_runtime_seconds_count{task="queue_routing.compute",' in text else "not yet"

    wait_until(named, 10, "the names in Flower's metrics")


def test_a_task_whose_reports_are_old_because_the_machine_slept_goes_on(background: ThrowawayLab) -> None:
    cluster = background.cluster
    # Longer than the 10 s between two looks of Airflow's for silent tasks.
    run_id = cluster.trigger("worker_loss", {"seconds": 12})
    wait_until(lambda: None if cluster.look("worker_loss", run_id).tasks[0].state == "running" else "not running", 30, "the task")

    experiments.sleep(cluster)

    wait_until(lambda: None if cluster.api.run_state("worker_loss", run_id) == "success" else "running", 60, "the run")
    assert cluster.look("worker_loss", run_id).tasks[0].try_number == 1


def test_a_queue_that_its_last_listener_left_has_none_whatever_the_procfile_says(background: ThrowawayLab) -> None:
    control = background.cluster.broker.celery.control
    control.cancel_consumer("default")
    try:
        run = background.cluster.run("late")
        wait_until(lambda: None if callbacks(background.cluster)[0][0] == "failed" else "waiting", 30, "the end of the callback")
    finally:
        # `add-queue` would last until Redis is away for a moment: Celery then connects to what it had at first, less what was cancelled.
        background.command("restart", *(name for name in names(background.cluster) if name != "worker-high-cpu"))

    assert run.state == "failed"
    reason = "No worker has listened to the queue 'default'"
    assert reason in run.reasons["nothing"]
    assert [output.startswith(reason) for _, output in callbacks(background.cluster)] == [True]


def callbacks(cluster: Cluster) -> list[tuple[str, str]]:
    """Return the state of each callback of a run that was late, and how it ended."""
    url = wiring(cluster.lab)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT state, output FROM callback")
        return list(cursor.fetchall())


@pytest.mark.parametrize("fault", [fault.name for fault in experiments.FAULTS if not fault.takes_minutes])
def test_no_task_is_lost_and_nothing_stays_broken_under_load_by(fault: str, two_workers: ThrowawayLab) -> None:
    before = two_workers.look()

    (row,) = json.loads(two_workers.command("experiment", fault, "--quick", "--json", timeout=400).stdout)

    assert (row["fault"], row["trials"], row["recovered"], row["tasks"], row["lost"]) == (fault, 1, 1, 60, 0)
    if fault in ("kill-supervisord", "power-loss"):
        assert not before.intersection(process.pid for process in psutil.process_iter() if trees.lives(process))


@pytest.mark.parametrize("name", ["parallelism", "worker-loss", "visibility-timeout"])
def test_an_experiment_is_as_predicted_and_leaves_the_lab_as_it_was(background: ThrowawayLab, name: str, browser: Browser) -> None:
    before, known = pids(background.cluster), set(background.cluster.api.dag_ids())

    (result,) = json.loads(background.command("experiment", name, "--json", timeout=240).stdout)

    assert (result["name"], result["verdict"], result["why"]) == (name, "as predicted", ""), result
    assert (pids(background.cluster), set(background.cluster.api.dag_ids())) == (before, known)
    browser.open((Path(result["folder"]) / "index.html").as_uri(), "document.body?.dataset.drawn === 'yes'")
    assert "as predicted" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelectorAll('.bars .point').length") > 0
    assert browser.errors == []


def test_the_tour_goes_through_all_its_steps_and_leaves_the_lab_as_it_was(one_worker: ThrowawayLab) -> None:
    cluster = one_worker.cluster
    before, known = pids(cluster), set(cluster.api.dag_ids())

    told = one_worker.command("tour", "--restart", "--yes", timeout=240).stdout

    shown = re.findall(r"^Step (\d) of 8: .*$|^That is [abc]: (.*)\.$", told, flags=re.MULTILINE)
    assert [number or answer for number, answer in shown] == [
        *("1", "10, one for each slot"),
        *("2", "all at the same time"),
        *("3", "worker-high-cpu, which listens to high_cpu"),
        *("4", "they wait in the queue"),
        *("5", "some of those that still wait in the queue"),
        *("6", "it starts again from the beginning, as a second try"),
        *("7", "more than there are slots, up to all 12"),
        *("8", "by a bar of waiting before the bar of the task"),
    ], told
    assert f"{cluster.settings.url('flower')}/tasks" in told
    after = pids(cluster)
    assert {name for name in after if after[name] != before.get(name)} == {"worker-default"}, "the sixth step kills it"
    assert set(after) == set(before)
    assert set(cluster.api.dag_ids()) == known
    # This handle's own connections may be to a Redis that an earlier test has killed: its first look may fail.
    cluster.wait_until_ready(60)
    now = cluster.status(details=False)
    assert [queue.name for queue in now.queues if queue.waiting] == []
    assert one_worker.command("tour", "--list").stdout.splitlines()[-1] == "8  done  Who ran what, and when"


def test_the_tour_bears_typing_errors_in_a_narrow_terminal_and_is_left_and_resumed(one_worker: ThrowawayLab, checkout: Path) -> None:
    cluster = one_worker.cluster
    before, known = pids(cluster), set(cluster.api.dag_ids())
    words = [*one_worker.program, "tour"]

    with terminal([*words, "--restart"], checkout, one_worker.environ, columns=40) as shown:
        for prompt, mistake, help_, right in (
            ("Your prediction, a to c (Enter: none):", "six", "Type a, b or c,", "b"),
            ("Enter runs it, or type it (q leaves):", "./lab stats", "other commands", f"{one_worker.program[0]} status"),
            ("Enter: on to step 2 (q leaves):", "yes", "Press Enter to go on", ""),
        ):
            shown.until(prompt)
            shown.type(f"{mistake}\n")
            shown.until(help_)
            shown.until(prompt)
            shown.type(f"{right}\n")
        shown.until("Step 2 of 8")
        shown.until("(Enter: none):")
        shown.type(CTRL_D)
        assert shown.end() == 0
    assert "tour` goes on with step 2" in " ".join(shown.text.split())
    # Addresses and the command's name stay in one piece, and what was typed stands behind its prompt.
    whole = ("http", one_worker.program[0], "): ")
    assert [line for line in shown.text.splitlines() if len(line) > 40 and not any(piece in line for piece in whole)] == []

    with terminal([*words, "--from", "5"], checkout, one_worker.environ, columns=40) as shown:
        shown.until("(Enter: none):")
        shown.type("b\n")
        shown.until("(q leaves):")
        shown.type("\n")
        shown.until("+ worker-default-2")
        shown.type(CTRL_C)
        assert shown.end() == 130
    assert "Traceback" not in shown.text
    assert "goes on with step 5" in " ".join(shown.text.split())
    assert (pids(cluster), set(cluster.api.dag_ids())) == (before, known)

    with terminal(words, checkout, one_worker.environ, columns=40) as shown:
        shown.until("Step 5 of 8")
        shown.until("(Enter: none):")
        shown.type("q\n")
        assert shown.end() == 0
    assert set(cluster.api.dag_ids()) == known


def test_outages_are_as_predicted_and_leave_nothing_stopped(background: ThrowawayLab) -> None:
    outages = ["broker-outage", "database-outage", "api-server-outage"]
    before = set(pids(background.cluster))

    results = json.loads(background.command("experiment", *outages, "--json", timeout=400).stdout)

    found = [(result["name"], result["verdict"], [check for check in result["checks"] if not check["holds"]]) for result in results]
    assert found == [(name, "as predicted", []) for name in outages]
    assert set(pids(background.cluster)) == before
    # This handle's own connections are to the servers that were stopped: its first look may fail.
    background.cluster.wait_until_ready(60)


def test_ctrl_c_in_an_outage_leaves_the_lab_as_it_was(background: ThrowawayLab, checkout: Path) -> None:
    cluster = background.cluster
    before, known = pids(cluster), set(cluster.api.dag_ids())
    words = [*background.program, "experiment", "broker-outage"]
    running = subprocess.Popen(words, cwd=checkout, env=background.environ, stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: "redis is there" if "redis" in cluster.records else None, 90, "the outage")

    os.killpg(running.pid, signal.SIGINT)

    assert running.wait(90) == 130
    assert {name for name, pid in pids(cluster).items() if before.get(name) != pid} == {"redis"}
    assert set(cluster.api.dag_ids()) == known
    assert not cluster.lab.state.experiment_dags.exists()
    cluster.wait_until_ready(60)


def test_routing_is_not_as_predicted_with_a_worker_on_the_wrong_queue(background: ThrowawayLab, procfile: Path) -> None:
    procfile.write_text(procfile.read_text().replace("--queues high_cpu", "--queues default"))
    background.command("apply")

    done = background.command("experiment", "routing", "--json", check=False, timeout=300)

    (result,) = json.loads(done.stdout)
    assert (done.returncode, result["verdict"]) == (1, "not as predicted")
    assert next(check["claim"] for check in result["checks"] if not check["holds"]) == "heavy tasks run on workers of high_cpu alone"


def test_an_experiment_that_there_is_not_is_refused(background: ThrowawayLab) -> None:
    done = background.command("experiment", "no-such-fault", check=False)

    assert done.returncode == 21
    assert "experiment` lists them" in done.stderr
    assert "kill-worker" in background.command("experiment").stdout
    # This lab fails a task after ten seconds on a queue without a listener.
    unheard = background.command("experiment", "unheard-queue", check=False)
    assert unheard.returncode == 28
    assert "LAB_LISTENER_TIMEOUT=10 lets tasks fail before" in unheard.stdout + unheard.stderr
