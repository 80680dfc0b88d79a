"""The pages of the lab in Airflow's own web interface, and Flower's, in a real browser after a real login."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.experiments import catalogue, report
from airflow_celery_lab.experiments.experiment import Check, Finding, Result, Step
from airflow_celery_lab.testing import pages
from airflow_celery_lab.testing.browser import Browser
from airflow_celery_lab.testing.pages import FRAME
from airflow_celery_lab.testing.throwaway import ThrowawayLab
from airflow_celery_lab.timeline.spans import Mark, Span, Timeline
from airflow_celery_lab.wait import wait_until

ADDRESSES = ("", "live", "plotly.js", "dags/fan_out/runs/any", "no/such/address")
BARS = f"{FRAME}.querySelectorAll('.bars .point').length"


@pytest.fixture
def client(lab_cluster: Cluster) -> Iterator[httpx.Client]:
    """A client of the lab's addresses, which has not logged in."""
    with httpx.Client(base_url=f"{lab_cluster.settings.url('webserver')}/lab/", timeout=30, trust_env=False) as client:
        yield client


def log_in(client: httpx.Client, cluster: Cluster) -> None:
    address = f"{cluster.settings.url('webserver')}/auth/token"
    answer = client.post(address, json={"username": ADMIN, "password": cluster.credentials.admin_password})
    client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['access_token']}"


def table(browser: Browser, name: str) -> list[list[str]]:
    """Return the cells of a table of the page, without its head."""
    rows = f"[...{FRAME}.querySelectorAll('#{name} tr')].slice(1).map(row => [...row.children].map(cell => cell.innerText))"
    return list(browser.evaluate(rows))


def from_elsewhere(browser: Browser, own: str) -> set[str]:
    """Return the addresses that pages have asked and that do not belong to `own`; a blob is part of the page."""
    return {address for address in browser.requests if not address.removeprefix("blob:").startswith(own)}


@pytest.mark.release
def test_without_a_login_no_address_of_the_lab_tells_anything(client: httpx.Client) -> None:
    refused = {path: client.get(path).status_code for path in ADDRESSES}
    client.headers["Authorization"] = "Bearer no.such.token"
    forged = {path: client.get(path).status_code for path in ADDRESSES}

    assert refused == {**dict.fromkeys(ADDRESSES, 401), "no/such/address": 404}
    assert forged == {**dict.fromkeys(ADDRESSES, 403), "no/such/address": 404}


@pytest.mark.release
def test_after_a_login_the_data_is_what_status_prints_and_an_unknown_dag_is_named(
    lab: ThrowawayLab, lab_cluster: Cluster, client: httpx.Client
) -> None:
    log_in(client, lab_cluster)
    lab_cluster.wait_until_ready()

    def differs() -> str | None:
        shown = pages.data(lab_cluster)["status"]
        printed: dict[str, Any] = json.loads(lab.command("status", "--json").stdout)
        for process in (*shown["processes"], *printed["processes"]):
            process.pop("memory_mb")
        return None if shown == printed else f"the page has {shown}, and the command {printed}"

    wait_until(differs, 30, "a moment at which nothing changed between the two looks")
    unknown = client.get("dags/no_such_dag/runs/any")
    assert unknown.status_code == 404
    assert "there is no DAG &#x27;no_such_dag&#x27;" in unknown.text


@pytest.mark.release
def test_the_page_in_the_navigation_shows_workers_queues_and_what_runs(lab_cluster: Cluster, browser: Browser) -> None:
    cluster = lab_cluster
    pages.log_in(browser, cluster)
    pages.open_lab(browser)
    # On a busy machine seconds go by until the last of eight begins.
    run_id = cluster.trigger("fan_out", {"tasks": 12, "seconds": 8})

    wait_until(lambda: None if table(browser, "workers")[0][4] == "8" else f"{table(browser, 'workers')}", 60, "eight tasks in the slots")
    wait_until(lambda: None if browser.evaluate(BARS) >= 13 else f"{browser.evaluate(BARS)} bars", 60, "a bar for each task")
    default, high_cpu = table(browser, "workers")
    assert default[:4] == ["worker-default", "ready", "default", "8"]
    assert high_cpu[:4] == ["worker-high-cpu", "ready", "high_cpu", "2"]
    assert default[5].endswith(" s ago")
    assert ["default", "worker-default"] in [[row[0], row[2]] for row in table(browser, "queues")]
    assert len(table(browser, "processes")) == 10

    wait_until(lambda: None if cluster.api.run_state("fan_out", run_id) == "success" else "it runs", 60, "the run")
    hovered = f"{FRAME}.querySelector('.hoverlayer').textContent"
    bar = browser.evaluate(f"[...{FRAME}.querySelectorAll('.bars .point')].at(-1).getBoundingClientRect().toJSON()")
    frame = browser.evaluate("document.querySelector('iframe').getBoundingClientRect().toJSON()")
    browser.point(frame["x"] + bar["x"] + bar["width"] / 2, frame["y"] + bar["y"] + bar["height"] / 2)
    wait_until(lambda: None if run_id in browser.evaluate(hovered) else "nothing", 10, "the words at the pointer")
    assert "fan_out.work[" in browser.evaluate(hovered)

    assert browser.errors == []
    assert from_elsewhere(browser, cluster.settings.url("webserver")) == set()
    browser.look(480, 800)
    browser.wait(f"{FRAME}.documentElement.clientWidth < 480 && {FRAME}.documentElement.scrollWidth <= {FRAME}.documentElement.clientWidth")


def test_the_page_tells_a_paused_worker_and_its_waiting_task_as_status_does(lab_cluster: Cluster, browser: Browser) -> None:
    cluster = lab_cluster
    pages.log_in(browser, cluster)
    pages.open_lab(browser)
    cluster.pause("worker-high-cpu")
    try:
        wait_until(lambda: None if "paused" in table(browser, "workers")[1][1] else f"{table(browser, 'workers')}", 20, "the paused worker")
        assert "Not ready: " in browser.evaluate(f"{FRAME}.getElementById('state').innerText")
        assert "resume worker-high-cpu" in table(browser, "workers")[1][1]
    finally:
        cluster.resume("worker-high-cpu")
    cluster.wait_until_ready()
    wait_until(lambda: None if table(browser, "workers")[1][1] == "ready" else f"{table(browser, 'workers')}", 20, "the worker")


def test_a_page_that_nobody_sees_asks_nothing(lab_cluster: Cluster, browser: Browser) -> None:
    pages.log_in(browser, lab_cluster)
    pages.open_lab(browser)
    browser.evaluate(f"Object.defineProperty({FRAME}, 'visibilityState', {{ configurable: true, get: () => 'hidden' }})")
    # It says so between two looks too, but not for long enough that anybody could see it.
    browser.wait(f"{FRAME}.body.dataset.resting === 'yes'")
    looks = browser.evaluate(f"{FRAME}.body.dataset.looks")
    browser.evaluate(f"delete {FRAME}.visibilityState")
    browser.evaluate(f"{FRAME}.dispatchEvent(new Event('visibilitychange'))")
    browser.wait(f"Number({FRAME}.body.dataset.looks) > {looks}")


@pytest.mark.release
def test_a_dag_run_has_its_timeline_as_a_tab(lab: ThrowawayLab, lab_cluster: Cluster, browser: Browser) -> None:
    run = lab_cluster.run("queue_routing")
    spans = json.loads(lab.command("timeline", "queue_routing", run.run_id, "--json").stdout)["spans"]
    pages.log_in(browser, lab_cluster)
    pages.open_timeline(browser, lab_cluster, "queue_routing", run.run_id)

    assert browser.evaluate(BARS) == len(spans) > 0
    assert browser.evaluate(f"{FRAME}.body.innerText").startswith(f"queue_routing\n\n{run.run_id}")
    assert browser.errors == []
    assert from_elsewhere(browser, lab_cluster.settings.url("webserver")) == set()


def test_flowers_pages_show_workers_and_tasks_and_load_nothing_from_elsewhere(lab_cluster: Cluster, browser: Browser) -> None:
    lab_cluster.run("fan_out", {"tasks": 1, "seconds": 0})
    pages.open_flower(browser, lab_cluster, "/workers", pages.cell("celery@worker-high-cpu"))
    # Its tasks are those that it had heard of when the page was asked for, and an event may come later than the run's end.
    # Before the page has made its table, `DataTable()` would make another one, of which the page complains.
    again = "(jQuery.fn.dataTable.isDataTable('#tasks-table') && jQuery('#tasks-table').DataTable().ajax.reload(), false)"
    pages.open_flower(browser, lab_cluster, "/tasks", f"{pages.cell('fan_out.work[0]')} || {again}")

    assert browser.errors == []
    assert from_elsewhere(browser, lab_cluster.settings.url("flower")) == set()


def test_the_page_of_an_experiment_says_what_it_measured_and_draws_its_parts(browser: Browser, tmp_path: Path) -> None:
    """What one of them measured on a cluster is looked at where it is run; the words of all are looked at in the unit tests."""
    ran = Span("running", "work", "work", -1, 1, "default", "worker-default", 1, 0.0, 3.0, "success")
    parts = {part: Timeline("experiment", "run", "success", 0.0, 3.0, [ran], [Mark(1.0, "kill worker-default")]) for part in ("one", "two")}
    finding = Finding(
        [Check("a < b holds", "0.5 s & more", holds=True), Check("c holds", "never", holds=None)], {"seconds": 0.5, "others": None}
    )
    experiment = catalogue.EXPERIMENTS[0]
    result = Result(experiment, "could not tell", [Step(0.5, "started `work`")], finding, parts, "c holds: never")
    (tmp_path / "index.html").write_text(report.page(result))

    browser.open((tmp_path / "index.html").as_uri(), "document.body?.dataset.drawn === 'yes'")

    shown = " ".join(browser.evaluate("document.body.innerText").split())
    assert all(text in shown for text in (experiment.question, "a < b holds", "0.5 s & more", "could not tell"))
    assert browser.evaluate("document.querySelectorAll('.timeline .bars .point').length") == len(parts)
    assert browser.errors == []
