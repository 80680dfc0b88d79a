"""What a running cluster does, seen through the REST API, Redis, Flower, Celery and the process table."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
from celery import Celery

from airflow_celery_lab.cluster import trees
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.runs import Run, Task
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.environment import wiring
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.servers import probes
from airflow_celery_lab.testing.throwaway import ThrowawayLab
from airflow_celery_lab.wait import wait_until

NAMES = [
    "postgres",
    "redis",
    "forkserver",
    "webserver",
    "scheduler",
    "dag-processor",
    "triggerer",
    "flower",
    "worker-default",
    "worker-high-cpu",
]
HEALTH_CHECK = ["celery", "--app", "airflow.providers.celery.executors.celery_executor.app", "inspect", "ping", "-d"]


def tasks_of(run: Run, task_id: str) -> list[Task]:
    return [task for task in run.tasks if task.task_id == task_id]


def test_status_shows_ten_ready_processes_and_both_workers_with_their_queues(lab: ThrowawayLab) -> None:
    lab.cluster.wait_until_ready()
    status = json.loads(lab.command("status", "--json").stdout)

    assert status["ready"] is True
    assert [process["name"] for process in status["processes"]] == NAMES
    assert all(process["state"] == "running" and psutil.pid_exists(process["pid"]) for process in status["processes"])
    assert all(process["memory_mb"] > 5 for process in status["processes"])
    assert [(worker["name"], worker["queues"], worker["concurrency"]) for worker in status["workers"]] == [
        ("worker-default", ["default"], 8),
        ("worker-high-cpu", ["high_cpu"], 2),
    ]
    listeners = {queue["name"]: queue["listeners"] for queue in status["queues"]}
    assert listeners["default"] == ["worker-default"]
    assert listeners["high_cpu"] == ["worker-high-cpu"]


def test_a_task_runs_only_on_a_worker_of_its_queue(lab: ThrowawayLab) -> None:
    run = json.loads(lab.command("run", "queue_routing", "--json").stdout)

    assert run["state"] == "success"
    assert {(task["task_id"], task["queue"], task["worker"]) for task in run["tasks"]} == {
        ("prepare", "default", "worker-default"),
        ("compute", "high_cpu", "worker-high-cpu"),
        ("report", "default", "worker-default"),
    }


def test_fan_out_runs_as_many_tasks_of_the_length_that_was_asked_for(lab: ThrowawayLab) -> None:
    run = json.loads(lab.command("run", "fan_out", "--conf", '{"tasks": 7, "seconds": 0.2}', "--json").stdout)

    work = [task for task in run["tasks"] if task["task_id"] == "work"]
    assert run["state"] == "success"
    assert sorted(task["map_index"] for task in work) == list(range(7))
    assert all(run["start"] <= task["queued"] <= task["start"] <= task["end"] and task["waited"] >= 0 for task in work)


def test_a_slot_that_waits_holds_no_connection_to_the_database(lab: ThrowawayLab) -> None:
    """Else a Procfile with more slots than Postgres has connections ends the scheduler."""
    assert lab.cluster.run("fan_out", {"tasks": 16, "seconds": 0}).succeeded
    port = lab.cluster.settings.ports.postgres

    def holders() -> str | None:
        workers = [psutil.Process(lab.cluster.records[name].main_pid) for name in ("worker-default", "worker-high-cpu")]
        family = [process for worker in workers for process in (worker, *worker.children(recursive=True))]
        found = [one for process in family for one in connections(process.pid) if one.raddr and one.raddr.port == port]
        return f"{len(found)} connections" if found else None

    wait_until(holders, 30, "the end of the workers' connections")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such policy")
def test_a_slot_lets_its_task_end_before_it_runs_again_and_the_task_is_scheduled_as_any_other(lab: ThrowawayLab) -> None:
    run_id = lab.cluster.trigger("worker_loss", {"seconds": 5})
    worker = psutil.Process(lab.cluster.records["worker-default"].main_pid)

    def tasks() -> list[psutil.Process]:
        return [task for slot in worker.children() for task in slot.children() if "".join(task.cmdline()).startswith(trees.TASK)]

    wait_until(lambda: None if tasks() else "no task runs", 30, "the task")
    (task,) = tasks()
    assert os.sched_getscheduler(task.pid) == os.SCHED_OTHER
    assert {os.sched_getscheduler(slot.pid) for slot in worker.children()} == {os.SCHED_BATCH}
    wait_until(lambda: None if lab.cluster.api.run_state("worker_loss", run_id) == "success" else "it goes on", 60, "the run")


def test_the_start_of_a_task_is_reported_once(lab: ThrowawayLab) -> None:
    """Airflow's own supervisor sends a heartbeat with the first word of a task, however soon that comes."""
    run = lab.cluster.run("tells_its_beginning", {})

    reason, found = probes.query(
        lab.cluster.lab,
        "SELECT json_agg(json_build_array(extract(epoch FROM start_date), extract(epoch FROM last_heartbeat_at), value))"  # noqa: S608  # our own id
        f" FROM task_instance JOIN xcom USING (dag_id, run_id, task_id, map_index) WHERE run_id = '{run.run_id}'",
    )
    assert reason is None
    times = [(start, heartbeat, float(word)) for start, heartbeat, word in json.loads(found or "")]
    assert len(times) == 8
    # As `[workers] min_heartbeat_interval` has it.
    assert [one for one in times if one[2] <= one[1] < one[0] + 1] == []


def test_deferred_waits_take_no_worker_slot(lab_cluster: Cluster) -> None:
    run_id = lab_cluster.trigger("deferred_wait", {})

    slots = sum(worker.concurrency for worker in lab_cluster.status(details=False).workers)

    def more_than_slots() -> str | None:
        states = [task.state for task in lab_cluster.look("deferred_wait", run_id).tasks]
        return None if states.count("deferred") > slots else f"the states are {states}"

    wait_until(more_than_slots, 60, "more waiting tasks than slots")

    def ended() -> str | None:
        return None if lab_cluster.api.run_state("deferred_wait", run_id) == "success" else "it goes on"

    wait_until(ended, 60, "deferred_wait")


def test_a_failed_run_is_shown_with_its_tasks_and_exits_with_1(lab: ThrowawayLab) -> None:
    done = lab.command("run", "fails", check=False)

    assert done.returncode == 1
    assert "fail" in done.stdout
    assert "failed" in done.stdout
    assert "worker-default" in done.stdout


def test_a_dag_that_does_not_exist_is_named_with_those_that_do(lab: ThrowawayLab) -> None:
    done = lab.command("run", "paralel_tasks", check=False)

    assert done.returncode == 17
    assert done.stderr.strip().endswith("did you mean 'parallel_tasks'?")
    assert len(done.stderr.splitlines()) == 1


def test_a_parameter_out_of_range_is_refused_in_one_sentence(lab: ThrowawayLab) -> None:
    done = lab.command("run", "fan_out", "--conf", '{"tasks": 0}', check=False)

    assert done.returncode == 20
    assert "tasks: 0 is less than the minimum of 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


class TestIdentity:
    def test_airflow_celery_flower_and_the_process_list_use_one_name(self, lab: ThrowawayLab) -> None:
        cluster = lab.cluster
        run = cluster.run("queue_routing")
        rest = {task.worker for task in run.tasks}
        with Celery(broker=wiring(cluster.lab)["AIRFLOW__CELERY__BROKER_URL"]) as app:
            celery = set(app.control.inspect(timeout=2).ping() or {})
        titles = {" ".join(psutil.Process(cluster.records[name].main_pid).cmdline()) for name in rest if name}
        flower = flower_workers(cluster)

        assert rest == {"worker-default", "worker-high-cpu"}
        assert celery == set(flower) == {f"celery@{name}" for name in rest}
        assert {title.split()[1].split(":")[0] for title in titles} == celery

    def test_airflows_worker_commands_take_these_names(self, lab: ThrowawayLab) -> None:
        workers = json.loads(lab.command("airflow", "celery", "list-workers", "-o", "json").stdout)
        assert {(worker["worker_name"], *worker["queues"]) for worker in workers} == {
            ("celery@worker-default", "default"),
            ("celery@worker-high-cpu", "high_cpu"),
        }

        lab.command("airflow", "celery", "add-queue", "-H", "celery@worker-default", "-q", "extra")
        wait_until(lambda: None if "extra" in queues(lab.cluster) else "no listener", 10, "the queue `extra`")
        lab.command("airflow", "celery", "remove-queue", "-H", "celery@worker-default", "-q", "extra")
        wait_until(lambda: "still a listener" if "extra" in queues(lab.cluster) else None, 10, "the end of `extra`")

    def test_the_health_checks_of_the_official_compose_file_pass(self, lab: ThrowawayLab) -> None:
        checks = [
            ["airflow", "jobs", "check", "--job-type", "SchedulerJob", "--hostname", "scheduler"],
            ["airflow", "jobs", "check", "--job-type", "TriggererJob", "--hostname", socket.gethostname()],
            ["airflow", "jobs", "check", "--job-type", "DagProcessorJob", "--local"],
            [*HEALTH_CHECK, "celery@worker-default"],
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda words: lab.command(*words), checks))
        assert lab.command(*HEALTH_CHECK, "celery@no-such-worker", check=False).returncode != 0
        for address in (f"{lab.cluster.settings.url('scheduler')}/health", f"{lab.cluster.settings.url('webserver')}/api/v2/version"):
            httpx.get(address).raise_for_status()

    @pytest.mark.release
    def test_a_dag_processor_that_stalls_for_some_seconds_is_no_alarm(self, lab_cluster: Cluster) -> None:
        def silence() -> float:
            beat = moment(lab_cluster.api.health()["dag_processor"]["latest_dag_processor_heartbeat"])
            assert beat
            return time.time() - beat

        lab_cluster.pause("dag-processor")
        try:
            # Two seconds are between two heartbeats.
            wait_until(lambda: None if silence() > 6 else "it has sent a heartbeat", 20, "six seconds of silence")
            health = lab_cluster.api.health()
        finally:
            lab_cluster.resume("dag-processor")
        assert health["dag_processor"]["status"] == "healthy"

    @pytest.mark.release
    def test_a_hundred_requests_at_once_are_all_answered(self, lab_cluster: Cluster) -> None:
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(lambda _: lab_cluster.api.request("GET", "/pools"), range(100)))
        assert {tuple(pool["name"] for pool in answer["pools"]) for answer in answers} == {("default_pool",)}


def queues(cluster: Cluster) -> set[str]:
    return {queue for worker in cluster.status(details=False).workers for queue in worker.queues}


class TestLogs:
    def test_the_log_of_a_running_task_is_read_without_an_error_about_its_worker(self, lab_cluster: Cluster) -> None:
        run_id = lab_cluster.trigger("worker_loss", {"seconds": 5})

        def log() -> str:
            return json.dumps(lab_cluster.api.log("worker_loss", run_id, "count", 1))

        def running() -> str | None:
            state = lab_cluster.api.task_instances("worker_loss", run_id)[0]["state"]
            return None if state == "running" else f"the task is {state}"

        wait_until(running, 30, "the task")
        wait_until(lambda: None if "try 1, second 1" in log() else "not yet written", 30, "a line of the running task")
        assert lab_cluster.api.run_state("worker_loss", run_id) == "running"
        assert "Could not read" not in log()
        wait_until(lambda: None if lab_cluster.api.run_state("worker_loss", run_id) == "success" else "running", 30, "the run")
        assert "try 1, second 4" in log()
        assert "Could not read" not in log()


class TestFlower:
    def test_flower_shows_both_workers_online_with_their_queues(self, lab_cluster: Cluster) -> None:
        assert flower_workers(lab_cluster) == {"celery@worker-default": ["default"], "celery@worker-high-cpu": ["high_cpu"]}

    def test_flower_shows_a_task_under_its_dag_and_task_name(self, lab_cluster: Cluster) -> None:
        run = lab_cluster.run("fan_out", {"tasks": 2, "seconds": 0})

        def names() -> set[tuple[str, str]]:
            return {(task["name"], task["worker"]) for task in flower_tasks(lab_cluster) if run.run_id in task["args"]}

        wanted = {(name, "celery@worker-default") for name in ("fan_out.items", "fan_out.work[0]", "fan_out.work[1]")}
        wait_until(lambda: None if names() == wanted else f"it shows {names()}", 10, "Flower's list of tasks")

    def test_no_tasks_token_reaches_flower(self, lab_cluster: Cluster) -> None:
        lab_cluster.run("fan_out", {"tasks": 1, "seconds": 0})
        address = f"{lab_cluster.settings.url('flower')}/api/tasks"
        tasks = httpx.get(address, auth=(ADMIN, lab_cluster.credentials.admin_password)).text

        assert "fan_out.work[0]" in tasks
        assert "token" not in tasks

    def test_flower_knows_all_queues_as_soon_as_the_lab_is_ready(self, lab_cluster: Cluster) -> None:
        address = f"{lab_cluster.settings.url('flower')}/api/queues/length"
        answer = httpx.get(address, auth=(ADMIN, lab_cluster.credentials.admin_password), timeout=10).raise_for_status()

        assert {"default", "high_cpu"} <= {queue["name"] for queue in answer.json()["active_queues"]}


def test_what_a_lab_in_the_foreground_cannot_do_is_refused_with_what_can(lab: ThrowawayLab) -> None:
    for command in (["kill", "worker-default"], ["logs"], ["logs", "scheduler"], ["scale", "worker-default=2"], ["apply"], ["down"]):
        done = lab.command(*command, check=False)

        assert (done.returncode, done.stdout) == (22, ""), command
        assert "foreground" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert lab.cluster.status(details=False).ready


def flower_workers(cluster: Cluster) -> dict[str, list[str]]:
    """Return the queues of each worker that Flower shows as it asks them now."""
    address = f"{cluster.settings.url('flower')}/api/workers"
    answer = httpx.get(address, params={"refresh": 1}, auth=(ADMIN, cluster.credentials.admin_password), timeout=10)
    return {node: [queue["name"] for queue in worker["active_queues"]] for node, worker in answer.raise_for_status().json().items()}


def flower_tasks(cluster: Cluster) -> list[dict[str, str]]:
    """Return the rows of Flower's page of tasks, as its own JavaScript asks for them."""
    query: dict[str, str | int] = {
        "draw": 1,
        "start": 0,
        "length": 500,
        "search[value]": "",
        "order[0][column]": 0,
        "order[0][dir]": "desc",
        "columns[0][data]": "received",
    }
    address = f"{cluster.settings.url('flower')}/tasks/datatable"
    answer = httpx.get(address, params=query, auth=(ADMIN, cluster.credentials.admin_password))
    return list(answer.raise_for_status().json()["data"])


class TestDagFiles:
    def test_a_new_and_a_changed_dag_are_live_within_10_seconds(self, lab_cluster: Cluster, lab_dags: Path) -> None:
        file = lab_dags / "fresh.py"

        def live(description: str) -> str | None:
            found = {dag["dag_id"]: dag["description"] for dag in lab_cluster.api.pages("/dags", "dags")}
            return None if found.get("fresh") == description else f"Airflow knows it as {found.get('fresh')!r}"

        for description in ("first", "second"):
            file.write_text(f"from airflow.sdk import DAG\ndag = DAG('fresh', schedule=None, description={description!r})\n")
            wait_until(lambda d=description: live(d), 10, f"the {description} version")  # type: ignore[misc]  # bound at once
        file.unlink()

    def test_a_broken_dag_file_is_named_and_the_others_go_on(self, lab: ThrowawayLab, lab_dags: Path) -> None:
        file = lab_dags / "broken.py"
        file.write_text("from airflow.sdk import dag\nimport no_such_module\n")

        def named() -> str | None:
            warnings = json.loads(lab.command("status", "--json", check=False).stdout)["warnings"]
            return None if any("broken.py" in line and "no_such_module" in line for line in warnings) else f"{warnings}"

        wait_until(named, 20, "the warning")
        assert lab.cluster.run("fan_out", {"tasks": 1, "seconds": 0}).state == "success"
        file.unlink()
        wait_until(lambda: None if not lab.cluster.api.import_errors() else "still there", 30, "the end of the warning")


def test_two_files_with_one_dag_id_are_warned_of_by_name(lab: ThrowawayLab, lab_dags: Path) -> None:
    files = [lab_dags / f"twice_{number}.py" for number in (1, 2)]
    for file in files:
        file.write_text("from airflow.sdk import DAG\ndag = DAG('twice', schedule=None)\n")

    def warnings() -> str:
        return "\n".join(json.loads(lab.command("status", "--json", check=False).stdout)["warnings"])

    wait_until(lambda: None if "'twice' stands in twice_1.py and in twice_2.py" in warnings() else warnings(), 20, "the warning")
    assert "twice_1.py" in lab.command("run", "twice", check=False).stderr
    files.pop().unlink()
    files[0].touch()
    wait_until(lambda: "still there" if "twice" in warnings() else None, 20, "the end of the warning")
    files[0].unlink()


def test_status_warns_of_tasks_on_a_queue_that_no_worker_listens_to(lab: ThrowawayLab) -> None:
    run_id = lab.cluster.trigger("nobody_listens", {})

    def warned() -> str | None:
        status = json.loads(lab.command("status", "--json", check=False).stdout)
        queue = next((queue for queue in status["queues"] if queue["name"] == "nowhere"), None)
        if queue == {"name": "nowhere", "waiting": 1, "listeners": []} and any("'nowhere'" in line for line in status["warnings"]):
            return None
        return f"{queue} {status['warnings']}"

    wait_until(warned, 20, "the warning")
    # As `airflow celery add-queue` does.
    lab.cluster.broker.return_to("worker-default", ["nowhere"])
    wait_until(lambda: None if lab.cluster.api.run_state("nobody_listens", run_id) == "success" else "waiting", 30, "the run")
    lab.cluster.broker.leave("worker-default", ["nowhere"])
    wait_until(lambda: "still a listener" if "nowhere" in queues(lab.cluster) else None, 10, "the end of `nowhere`")


class TestSecurity:
    def test_every_listener_is_on_loopback(self, lab: ThrowawayLab) -> None:
        listening = {
            (pid, connection.laddr.ip) for pid in lab.look() for connection in connections(pid) if connection.status == psutil.CONN_LISTEN
        }
        assert len(listening) >= 4
        assert {address for _, address in listening} == {"127.0.0.1"}

    def test_servers_refuse_a_client_without_the_password(self, lab_cluster: Cluster) -> None:
        settings = lab_cluster.settings
        wrong = lab_cluster.lab._replace(credentials=lab_cluster.credentials._replace(postgres_password="wrong", redis_password="wrong"))

        with pytest.raises(redis.AuthenticationError):
            redis.Redis(host="127.0.0.1", port=settings.ports.redis).ping()
        assert "WRONGPASS" in (probes.redis(wrong) or "")
        assert "authentication failed" in (probes.postgres(wrong) or "")
        assert httpx.get(f"{settings.url('flower')}/api/workers").status_code == 401
        assert httpx.get(f"{settings.url('flower')}/").status_code == 401
        assert httpx.get(f"{settings.url('flower')}/metrics").status_code == 401
        metrics = httpx.get(f"{settings.url('flower')}/metrics", auth=(ADMIN, lab_cluster.credentials.admin_password))
        assert "flower_worker_online" in metrics.text
        assert httpx.get(f"{settings.url('webserver')}/api/v2/dags").status_code == 401
        assert httpx.post(f"{settings.url('webserver')}/auth/token", json={"username": ADMIN, "password": "wrong"}).status_code == 401

    def test_no_secret_stands_in_an_argument_a_log_or_a_readable_file(self, lab: ThrowawayLab) -> None:
        lab.cluster.run("queue_routing")
        secrets = [value.encode() for value in lab.cluster.credentials]
        arguments = " ".join(word for command in lab.commands().values() for word in command).encode()
        assert not [secret for secret in secrets if secret in arguments]

        logs = [lab.log, *(lab.cluster.settings.home / "logs").rglob("*.log")]
        assert len(logs) > 3
        assert not [(path, secret) for path in logs for secret in secrets if secret in path.read_bytes()]

        holders = [
            path
            for path in lab.cluster.settings.home.rglob("*")
            if path.is_file() and "postgres" not in path.parts and any(secret in path.read_bytes() for secret in secrets)
        ]
        assert {path.name for path in holders} == {"secrets.json", "airflow-passwords.json", "redis.conf"}
        assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}

    def test_git_ignores_all_state(self) -> None:
        if not (CHECKOUT / ".git").exists() or not shutil.which("git"):
            pytest.skip("no git, or not a git checkout")
        ignored = subprocess.run(
            ["git", "check-ignore", ".lab/secrets.json", ".env", ".venv", ".venv.d/x"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ignored.stdout.split() == [".lab/secrets.json", ".env", ".venv", ".venv.d/x"]


def connections(pid: int) -> list[Any]:
    try:
        return list(psutil.Process(pid).net_connections("inet"))
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return []  # Airflow's supervisor of a running task hides itself from other processes of its user.


def test_a_second_up_of_the_same_lab_is_refused_and_the_first_goes_on(lab: ThrowawayLab) -> None:
    done = lab.command("up", check=False)

    assert done.returncode == 15
    assert "runs already" in done.stderr
    assert lab.cluster.status(details=False).ready


def test_a_second_lab_on_the_same_ports_is_told_who_has_them(lab: ThrowawayLab) -> None:
    home = lab.home / "second"
    environ = {**lab.environ, "LAB_HOME": str(home)}
    done = subprocess.run([CHECKOUT / "lab", "up"], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 12
    assert f"port {lab.cluster.settings.ports.postgres}, for postgres, is taken by postgres (pid" in done.stderr
    assert len(done.stderr.splitlines()) == 1
