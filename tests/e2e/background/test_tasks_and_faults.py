"""What becomes of tasks whose worker is killed, or whose queue nobody listens to, and where that is shown."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.runs import Task
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.environment import wiring
from airflow_celery_lab.experiments import trials
from airflow_celery_lab.testing import ThrowawayLab
from airflow_celery_lab.testing.background import workers
from airflow_celery_lab.testing.browser import Browser
from airflow_celery_lab.timeline import recent
from airflow_celery_lab.timeline.spans import Timeline
from airflow_celery_lab.wait import wait_until


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


def unacknowledged(cluster: Cluster) -> set[Any]:
    """Return the tags of the messages that workers have taken and not acknowledged."""
    return set(cluster.broker.redis.hkeys("unacked"))


@pytest.mark.release
def test_a_killed_workers_task_runs_on_another_one_at_once_and_says_why(two_workers: ThrowawayLab) -> None:
    cluster = two_workers.cluster
    before = unacknowledged(cluster)  # As after a fault that let Redis forget that a task had ended.
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
    wait_until(lambda: "there are some" if unacknowledged(cluster) - before else None, 10, "the end of both messages")
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


def sleeps(pid: int) -> bool:
    """Return whether a process waits for nothing but time."""
    return Path(f"/proc/{pid}/wchan").read_text() == "hrtimer_nanosleep"


@contextmanager
def stopped_in_its_pause(pid: int) -> Iterator[None]:
    """Stop the scheduler, as a machine that sleeps does, where it spends most of its time."""
    while True:
        if sleeps(pid):
            time.sleep(0.06)  # Airflow's own pause, before the next round, takes 0.05 s.
            if sleeps(pid):
                break
        time.sleep(0.005)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says where a process stands")
def test_a_task_whose_reports_are_old_because_the_machine_slept_goes_on(background: ThrowawayLab) -> None:
    cluster = background.cluster
    run_id = cluster.trigger("worker_loss", {"seconds": 14})
    wait_until(lambda: None if cluster.look("worker_loss", run_id).tasks[0].state == "running" else "not running", 30, "the task")

    with stopped_in_its_pause(cluster.records["scheduler"].main_pid):
        time.sleep(10.5)  # Longer than the 10 s between two looks of Airflow's for silent tasks: the next thing it does is to look.
        trials.sleep(cluster)

    wait_until(lambda: None if cluster.api.run_state("worker_loss", run_id) == "success" else "running", 60, "the run")
    assert cluster.look("worker_loss", run_id).tasks[0].try_number == 1


def test_a_queue_that_its_last_listener_left_has_none_whatever_the_procfile_says(background: ThrowawayLab) -> None:
    for worker in workers(background.cluster):
        background.cluster.broker.leave(worker, ["default"])
    try:
        run = background.cluster.run("late")
        wait_until(lambda: None if callbacks(background.cluster)[0][0] == "failed" else "waiting", 30, "the end of the callback")
    finally:
        # `add-queue` would last until Redis is away for a moment: Celery then connects to what it had at first, less what was cancelled.
        background.command("restart", *(name for name in workers(background.cluster) if name != "worker-high-cpu"))

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
