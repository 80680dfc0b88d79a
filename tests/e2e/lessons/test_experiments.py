"""Experiments find what they predict, and leave the lab as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.experiments import catalogue
from airflow_celery_lab.testing import ThrowawayLab
from airflow_celery_lab.testing.background import pids
from airflow_celery_lab.testing.browser import Browser
from airflow_celery_lab.wait import wait_until

#: The longer ones are tried by `.ci/run`, which names them.
APART = (CHECKOUT / ".ci/run").read_text().split()


@pytest.mark.parametrize("name", [experiment.name for experiment in catalogue.EXPERIMENTS if experiment.name not in APART])
def test_an_experiment_is_as_predicted_and_leaves_the_lab_as_it_was(background: ThrowawayLab, name: str, browser: Browser) -> None:
    before, known = pids(background.cluster), set(background.cluster.api.dag_ids())

    (result,) = json.loads(background.command("experiment", name, "--json", timeout=240).stdout)

    assert (result["name"], result["verdict"], result["why"]) == (name, "as predicted", ""), result
    assert (pids(background.cluster), set(background.cluster.api.dag_ids())) == (before, known)
    browser.open((Path(result["folder"]) / "index.html").as_uri(), "document.body?.dataset.drawn === 'yes'")
    assert "as predicted" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.querySelectorAll('.bars .point').length") > 0
    assert browser.errors == []


def test_ctrl_c_in_an_outage_leaves_the_lab_as_it_was(background: ThrowawayLab) -> None:
    cluster = background.cluster
    before, known = pids(cluster), set(cluster.api.dag_ids())
    words = [*background.program, "experiment", "broker-outage"]
    running = subprocess.Popen(words, cwd=background.project, env=background.environ, stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: "redis is there" if "redis" in cluster.records else None, 90, "the outage")

    os.killpg(running.pid, signal.SIGINT)

    assert running.wait(90) == 130
    assert {name for name, pid in pids(cluster).items() if before.get(name) != pid} == {"redis"}
    assert set(cluster.api.dag_ids()) == known
    assert not cluster.lab.state.experiment_dags.exists()
    cluster.wait_until_ready(60)


def test_routing_is_not_as_predicted_with_a_worker_on_a_queue_too_many(background: ThrowawayLab, procfile: Path) -> None:
    procfile.write_text(procfile.read_text().replace("--queues default", "--queues default,high_cpu"))
    background.command("apply")

    done = background.command("experiment", "routing", "--json", check=False, timeout=300)

    (result,) = json.loads(done.stdout)
    assert (done.returncode, result["verdict"]) == (1, "not as predicted")
    assert next(check["claim"] for check in result["checks"] if not check["holds"]) == "light tasks run on other workers"


def test_an_experiment_that_there_is_not_is_refused(background: ThrowawayLab) -> None:
    done = background.command("experiment", "no-such-fault", check=False)

    assert done.returncode == 21
    assert "experiment` lists them" in done.stderr
    assert "kill-worker" in background.command("experiment").stdout
    # This lab fails a task after ten seconds on a queue without a listener.
    unheard = background.command("experiment", "unheard-queue", check=False)
    assert unheard.returncode == 28
    assert "LAB_LISTENER_TIMEOUT=10 lets tasks fail before" in unheard.stdout + unheard.stderr
