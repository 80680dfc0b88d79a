from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from airflow_celery_lab.cluster.broker import Queue, Worker
from airflow_celery_lab.cluster.judgement import ProcessStatus
from airflow_celery_lab.metrics import families
from airflow_celery_lab.metrics.families import RUNS, WAITS, Group, Loss, Seen, Spread


def spread(bounds: Sequence[float], *times: float) -> Spread:
    """Return times as the database counts them."""
    return Spread([sum(time <= bound for time in times) for bound in bounds], len(times), sum(times))


SEEN = Seen(
    processes=[
        ProcessStatus("scheduler", "scheduler", "running", 10, ready=True, reason="", memory_mb=None),
        ProcessStatus("worker-a", "worker", "paused", 11, ready=False, reason="paused", memory_mb=None),
    ],
    workers=[Worker("worker-a", ["a", "b"], 4, 3)],
    queues=[Queue("a", 7, ["worker-a"]), Queue("b", 0, ["worker-a"]), Queue("typo", 1, [])],
    reserved={"worker-a": 2},
    groups=[
        Group("a", "failed", 0, 0.0, spread(WAITS, 0.1), spread(RUNS, 3.0)),
        Group("a", "queued", 9, 12.5, spread(WAITS), spread(RUNS)),
        Group("a", "success", 2, 0.0, spread(WAITS, 0.25, 400.0), spread(RUNS, 1.0, 2.0)),
    ],
)


def samples(seen: Seen) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what Prometheus would read: each sample's value, by its name and labels."""
    found = [sample for family in text_string_to_metric_families(families.text(seen)) for sample in family.samples]
    return {(sample.name.removeprefix("airflow_lab_"), frozenset(sample.labels.items())): sample.value for sample in found}


def value(seen: Seen, name: str, **labels: str) -> float:
    return samples(seen)[name, frozenset(labels.items())]


def names(seen: Seen) -> set[str]:
    return {name for name, _ in samples(seen)}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("process_ready", {"process": "scheduler", "kind": "scheduler"}, 1),
        ("process_ready", {"process": "worker-a", "kind": "worker"}, 0),
        ("worker_slots", {"worker": "worker-a"}, 4),
        ("worker_running_tasks", {"worker": "worker-a"}, 3),
        ("worker_reserved_tasks", {"worker": "worker-a"}, 2),
        ("queue_messages", {"queue": "a"}, 7),
        ("queue_listeners", {"queue": "a"}, 1),
        ("queue_listeners", {"queue": "typo"}, 0),
        ("tasks", {"queue": "a", "state": "queued"}, 9),
        ("tasks", {"queue": "a", "state": "success"}, 2),
        ("oldest_queued_task_seconds", {"queue": "a"}, 12.5),
        ("oldest_queued_task_seconds", {"queue": "b"}, 0),
    ],
)
def test_levels_are_gauges_of_what_was_seen(name: str, labels: Mapping[str, str], expected: float) -> None:
    assert value(SEEN, name, **labels) == expected


def test_each_metric_has_a_type_a_help_text_and_the_labs_prefix() -> None:
    found = {family.name: family for family in text_string_to_metric_families(families.text(SEEN))}

    assert all(name.startswith("airflow_lab_") and family.documentation.endswith(".") for name, family in found.items())
    kinds = {name.removeprefix("airflow_lab_"): family.type for name, family in found.items() if family.type != "gauge"}
    assert kinds == {
        "task_latency_seconds": "histogram",
        "task_run_time_seconds": "histogram",
        "workers_lost": "counter",
        "tasks_lost": "counter",
        "messages_sent_again": "counter",
    }


def test_the_times_of_a_queue_are_one_histogram_over_all_states_in_which_tries_ended() -> None:
    buckets = {bound: value(SEEN, "task_latency_seconds_bucket", queue="a", le=bound) for bound in ("0.1", "0.25", "300.0", "+Inf")}

    assert buckets == {"0.1": 1, "0.25": 2, "300.0": 2, "+Inf": 3}
    assert value(SEEN, "task_latency_seconds_count", queue="a") == 3
    assert value(SEEN, "task_latency_seconds_sum", queue="a") == pytest.approx(400.35)
    assert value(SEEN, "task_run_time_seconds_sum", queue="a") == 6


def test_what_counts_is_there_as_zero_before_it_first_happens() -> None:
    assert value(SEEN, "task_latency_seconds_count", queue="b") == 0
    assert value(SEEN, "workers_lost_total", worker="worker-a") == 0
    assert value(SEEN, "tasks_lost_total", event="worker lost") == 0
    assert value(SEEN, "messages_sent_again_total") == 0


def test_a_lost_worker_counts_once_however_many_tasks_it_had() -> None:
    losses = [Loss("worker lost", "worker-a", 3, 1), Loss("worker lost", "gone", 4, 2), Loss("message lost", "", 5, 1)]

    seen = replace(SEEN, losses=losses)

    assert value(seen, "workers_lost_total", worker="worker-a") == 1
    assert value(seen, "workers_lost_total", worker="gone") == 2
    assert value(seen, "tasks_lost_total", event="worker lost") == 7
    assert value(seen, "tasks_lost_total", event="heartbeat timeout") == 0
    assert value(seen, "messages_sent_again_total") == 5


def test_what_a_server_knows_is_left_out_while_it_does_not_answer_and_no_counter_falls_to_zero() -> None:
    without_redis = replace(SEEN, redis="Redis does not answer", workers=[], queues=[], reserved={})
    without_postgres = replace(SEEN, postgres="Postgres does not answer", groups=[], losses=[])

    assert names(SEEN) - names(without_redis) == {
        "worker_slots",
        "worker_running_tasks",
        "worker_reserved_tasks",
        "queue_messages",
        "queue_listeners",
    }
    assert names(replace(without_postgres, redis="nor does this")) == {"process_ready", "scrape_error"}
    assert names(without_postgres) == {"process_ready", "scrape_error"} | (names(SEEN) - names(without_redis))
    assert value(without_redis, "scrape_error", source="redis") == 1
    assert value(without_redis, "scrape_error", source="postgres") == 0
    assert value(without_postgres, "scrape_error", source="postgres") == 1


@pytest.mark.parametrize("name", ['a "b"', "a\\b", "a\nb", "é{}=,"])
def test_a_queue_may_have_any_name(name: str) -> None:
    assert value(replace(SEEN, queues=[Queue(name, 1, [])]), "queue_messages", queue=name) == 1


def test_scrapes_leave_nothing_in_the_librarys_own_registry() -> None:
    assert families.text(SEEN) == families.text(SEEN)
    assert "airflow_lab" not in generate_latest().decode()
