"""Airflow's and Flower's pages in a browser, as a user opens them: for tests, and for pictures of them."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.environment import web_url
from airflow_celery_lab.testing.browser import ANSWER, Browser

#: JavaScript for the document in the frame in which Airflow shows a page of a plugin.
FRAME = "document.querySelector('iframe')?.contentDocument"
#: Opens the menu in which Airflow before 3.3 has the plugins' pages, where there is more than one.
MENU = "[...document.querySelectorAll('[aria-haspopup=menu]')].find(one => one.innerText.trim() === 'Plugins')"


def log_in(browser: Browser, cluster: Cluster) -> None:
    """Log in to Airflow by its form; what the browser noted before that is forgotten: Airflow's start asks who it is talking to."""
    browser.open(f"{web_url(cluster.lab)}/", "!!document.querySelector('input[name=username]')")
    browser.write("input[name=username]", ADMIN)
    browser.write("input[name=password]", cluster.credentials.admin_password)
    browser.click("document.querySelector('button[type=submit]:enabled')")
    browser.wait(f"!!({link('Lab')} ?? {MENU})")
    browser.errors.clear()
    browser.requests.clear()


def data(cluster: Cluster) -> dict[str, Any]:
    """Return what the lab's page gets when it asks."""
    address = cluster.settings.url("webserver") + urlsplit(web_url(cluster.lab)).path
    with httpx.Client(base_url=address, timeout=ANSWER, trust_env=False) as client:
        login = client.post("/auth/token", json={"username": ADMIN, "password": cluster.credentials.admin_password}).raise_for_status()
        token = {"Authorization": f"Bearer {login.json()['access_token']}"}
        return dict(client.get("/lab/live", headers=token).raise_for_status().json())


def link(words: str) -> str:
    """Return JavaScript for the link with these words."""
    return f"[...document.querySelectorAll('a')].find(one => one.innerText.trim() === '{words}')"


def open_lab(browser: Browser, bars: int = 0) -> None:
    """Open the lab's page from Airflow's navigation, and wait for its first look at the lab, and for so many bars at least."""
    if browser.evaluate(f"!{link('Lab')}"):
        browser.click(MENU)
    browser.click(link("Lab"))
    browser.wait(f"Number({FRAME}?.body?.dataset?.looks) > 0 && {FRAME}.querySelectorAll('.bars .point').length >= {bars}")


def open_run(browser: Browser, cluster: Cluster, dag_id: str, run_id: str) -> None:
    """Open a DAG run in Airflow."""
    browser.open(f"{web_url(cluster.lab)}/dags/{dag_id}/runs/{quote(run_id, safe='')}", f"!!{link('Timeline')}")


def open_timeline(browser: Browser, cluster: Cluster, dag_id: str, run_id: str) -> None:
    """Open the tab with the timeline of a DAG run."""
    open_run(browser, cluster, dag_id, run_id)
    browser.click(link("Timeline"))
    browser.wait(f"{FRAME}?.body?.dataset?.drawn === 'yes'")


def show_columns(browser: Browser, *columns: str) -> None:
    """Show columns, by Airflow's names for them, that the table of task instances hides by default."""
    button = "document.querySelector('button[aria-label=\"Filter table columns\"]')"
    browser.click(button)
    for column in columns:
        item = f"document.querySelector('[role=menuitem][data-value={column}]')"
        browser.click(item)
        browser.wait(f"{item}.dataset.state === 'checked'")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    # Else the button, which has the focus again, shows its name over the table.
    browser.evaluate("document.activeElement.blur()")
    browser.wait("![...document.querySelectorAll('[role=tooltip], [role=menuitem][data-value]')].some(one => one.checkVisibility())")


def cell(text: str) -> str:
    """Return JavaScript for whether a table has a cell with this text. Not as it is laid out: Flower cuts a long name in two."""
    return f"[...document.querySelectorAll('td')].some(cell => cell.textContent.includes({json.dumps(text)}))"


def open_flower(browser: Browser, cluster: Cluster, path: str, ready: str) -> None:
    """Open a page of Flower with the lab's password, and wait until the JavaScript expression `ready` holds in it."""
    login = base64.b64encode(f"{ADMIN}:{cluster.credentials.admin_password}".encode()).decode()
    browser.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {login}"})
    browser.open(f"{cluster.settings.url('flower')}{path}", ready)
