"""Which of the lab's differences from Airflow's defaults make sense in Kubernetes, and why the others do not.

`config/airflow.cfg` has the differences and their reasons; a test fails when one of its keys is in neither list.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from typing import NamedTuple

#: Section and key, as Airflow writes them.
Key = tuple[str, str]
#: `AIRFLOW__SECTION__KEY`, in a user's `.env`.
VARIABLE = re.compile(r"AIRFLOW__([A-Z0-9_]+?)__([A-Z0-9_]+)")
#: A number or a switch: what is no text holds no secret.
PLAIN = re.compile(r"-?\d{1,9}(\.\d{1,9})?|true|false|True|False")
#: Ways to set a key that lead to a secret.
SECRET = ("_CMD", "_SECRET")

#: What holds on any machine.
KEPT: frozenset[Key] = frozenset(
    {
        ("core", "load_examples"),
        ("core", "max_active_tasks_per_dag"),
        ("core", "default_pool_task_slot_count"),
        ("workers", "min_heartbeat_interval"),
        ("workers", "execution_api_retries"),
        ("workers", "execution_api_retry_wait_max"),
        ("celery", "worker_concurrency"),
        ("celery", "task_track_started"),
        ("celery_broker_transport_options", "visibility_timeout"),
    }
)
#: What does not, and why.
LEFT_OUT: Mapping[Key, str] = {
    ("core", "hostname_callable"): "a pod has a name of its own",
    ("core", "dags_are_paused_at_creation"): "a DAG that was deployed should not begin by itself",
    ("core", "min_serialized_dag_update_interval"): "for DAGs that are edited every few seconds",
    ("logging", "logging_config_class"): "a module of the lab's, for logs on one disk; set up remote logs instead",
    ("logging", "namespace_levels"): "keeps a terminal readable; a collector of logs filters by itself",
    ("dag_processor", "dag_bundle_config_list"): "classes of the lab's; DAGs come from the image or from git, see `dags` in the chart",
    ("dag_processor", "bundle_refresh_check_interval"): "for DAGs that are edited every few seconds",
    ("dag_processor", "refresh_interval"): "for DAGs that are edited every few seconds",
    ("dag_processor", "min_file_process_interval"): "the lab parses at once what was saved; elsewhere a module beside a DAG waits for this",
    ("dag_processor", "print_stats_interval"): "keeps a terminal readable",
    ("dag_processor", "stale_bundle_cleanup_interval"): "versions of DAGs from git have to be removed",
    ("scheduler", "task_queued_timeout"): "the lab's executor finds lost messages; Airflow alone sends such a task again after 600 s",
    ("scheduler", "scheduler_heartbeat_sec"): "the lab waits for a heartbeat at each start; probes of the chart do not",
    ("scheduler", "job_heartbeat_sec"): "the lab waits for a heartbeat at each start; probes of the chart do not",
    ("scheduler", "scheduler_idle_sleep_time"): "the lab's executor makes it longer while nothing runs; alone it costs CPU at rest",
    ("triggerer", "job_heartbeat_sec"): "the lab waits for a heartbeat at each start; probes of the chart do not",
    ("execution_api", "jwt_expiration_time"): "goes with task_queued_timeout; Airflow's 600 s go with its own",
    (
        "database",
        "sql_alchemy_max_overflow",
    ): "the lab's Postgres gives what the slots may ask for; yours, or its PgBouncer, has a bound of its own",
    ("celery", "sync_parallelism"): "for small batches on few cores",
    ("celery", "celery_config_options"): "a module of the lab's; what Flower needs of it stands in extra_celery_config",
}


class Carried(NamedTuple):
    """What the chart's `config` gets, and what it does not."""

    config: dict[str, dict[str, str]]
    left_out: Mapping[Key, str]  #: of the lab's
    named: list[str]  #: variables of the user's `.env` that are not written down


def read(text: str) -> dict[Key, str]:
    """Return the keys of a configuration file of Airflow's."""
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return {(section, key): value for section in parser.sections() for key, value in parser[section].items()}


def carried(lab: Mapping[Key, str], variables: Mapping[str, str], *, flower: bool) -> Carried:
    """Return what of the lab's file and of the user's `.env` goes along.

    A user's number or switch is stronger than the lab's. Other values of theirs may be secrets, and are named alone.
    """
    wanted = {key: value for key, value in lab.items() if key in KEPT}
    if flower:
        # Flower shows tasks to those whose workers and schedulers tell of them.
        wanted["celery", "extra_celery_config"] = '{"worker_send_task_events": true, "task_send_sent_event": true}'
    named = []
    for name, value in variables.items():
        match = VARIABLE.fullmatch(name)
        if match and PLAIN.fullmatch(value.strip()) and not name.endswith(SECRET):
            wanted[match[1].lower(), match[2].lower()] = value.strip()
        else:
            named.append(name)
    config: dict[str, dict[str, str]] = {}
    for (section, key), value in wanted.items():
        config.setdefault(section, {})[key] = value
    return Carried(config, {key: why for key, why in LEFT_OUT.items() if key in lab}, named)
