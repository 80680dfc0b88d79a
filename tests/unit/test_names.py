from __future__ import annotations

import socket

import pytest

from airflow_celery_lab.configuration import names
from airflow_celery_lab.inside_airflow.hostname import hostname


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("worker-default.1", "worker-default"),
        ("worker-default.2", "worker-default-2"),
        ("worker-default.12", "worker-default-12"),
        ("worker-2.1", "worker-2"),
        ("scheduler", "scheduler"),
    ],
)
def test_honchos_number_is_left_out_for_the_first_of_a_line(given: str, name: str) -> None:
    assert names.process_name({"HONCHO_PROCESS_NAME": given}) == name


def test_supervisords_name_is_taken_as_it_is() -> None:
    assert names.process_name({"SUPERVISOR_PROCESS_NAME": "worker-default-2"}) == "worker-default-2"


def test_the_supervisor_that_is_nearer_gives_the_name() -> None:
    both = {"HONCHO_PROCESS_NAME": "a.1", "SUPERVISOR_PROCESS_NAME": "whole-lab"}

    assert names.process_name(both) == "a"


def test_a_process_outside_of_both_has_no_name() -> None:
    assert names.process_name({"HOSTNAME": "box"}) is None


@pytest.mark.parametrize(("given", "first"), [("w.1", True), ("w.2", False), ("w.11", False), ("w-2.1", True), ("w", True), ("", True)])
def test_a_further_instance_is_known_by_honchos_number(given: str, first: bool) -> None:  # noqa: FBT001  # pytest passes it by name
    assert names.is_first({"HONCHO_PROCESS_NAME": given}) == first


def test_names_are_sorted_as_people_count() -> None:
    assert sorted(["w-10", "w-2", "w", "a-3", "w-1-b"], key=names.in_order) == ["a-3", "w", "w-1-b", "w-2", "w-10"]


def test_a_worker_and_its_celery_node_find_each_other() -> None:
    assert names.node_name("worker-high-cpu") == "celery@worker-high-cpu"
    assert names.worker_name(names.node_name("worker-high-cpu")) == "worker-high-cpu"


def test_airflow_records_the_name_of_the_process_as_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_NAME", "worker-high-cpu")

    assert hostname() == "worker-high-cpu"


@pytest.mark.parametrize("name", [None, ""])
def test_airflow_outside_of_a_process_of_the_lab_is_on_this_machine(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    if name is None:
        monkeypatch.delenv("LAB_NAME", raising=False)
    else:
        monkeypatch.setenv("LAB_NAME", name)

    assert hostname() == socket.gethostname()
