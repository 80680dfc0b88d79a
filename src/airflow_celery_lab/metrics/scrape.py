"""One look at a running lab for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_celery_lab.cluster.broker import Worker
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.metrics import database
from airflow_celery_lab.metrics.families import Seen
from airflow_celery_lab.servers import probes


def look(cluster: Cluster) -> Seen:
    """Ask everybody who knows something; who does not answer is named in what is returned.

    Raises:
        NotRunningError: the lab does not run.

    """
    cluster.require_running()
    status = cluster.status(details=False)
    reserved = probes.redis(cluster.lab) or _reserved(cluster, status.workers)
    known = database.ask(cluster.lab)
    groups, losses = ([], []) if isinstance(known, str) else known
    return Seen(
        processes=status.processes,
        workers=status.workers,
        queues=status.queues,
        reserved={} if isinstance(reserved, str) else reserved,
        groups=groups,
        losses=losses,
        redis=reserved if isinstance(reserved, str) else None,
        postgres=known if isinstance(known, str) else None,
    )


def _reserved(cluster: Cluster, workers: Sequence[Worker]) -> dict[str, int] | str:
    try:
        return cluster.broker.reserved(len(workers)) if workers else {}
    except Exception as error:  # noqa: BLE001  # As where workers are asked for `status`: kombu and redis raise many kinds.
        return f"Redis on port {cluster.settings.ports.redis}: {error}"
