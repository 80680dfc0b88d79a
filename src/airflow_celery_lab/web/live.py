"""What the page in the navigation shows: the status, as `lab status` judges it, and what goes with it. Plain data."""

from __future__ import annotations

import time
from typing import Any

from airflow_celery_lab.cluster import flower
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.timeline import recent
from airflow_celery_lab.timeline.page import figure, legend

#: Seconds that the timeline reaches back.
WINDOW = 180.0


def look(cluster: Cluster) -> dict[str, Any]:
    """Look at the lab once, and return what the page draws.

    `status` is what `lab status --json` prints, without the memory, which would cost twice as much as all else. Times are seconds since the epoch.
    """
    status = cluster.status(memory=False)
    heartbeats = flower.heartbeats(cluster.lab)
    found = recent.timeline(cluster, WINDOW)
    drawn = {} if isinstance(found, str) else {"figure": figure(found), "legend": list(legend(found)), "bars": len(found.spans)}
    return {
        "now": time.time(),
        "status": status.as_json(),
        "heartbeats": heartbeats,
        "flower": cluster.settings.url("flower"),
        "timeline": {"minutes": WINDOW / 60, "reason": found if isinstance(found, str) else None, **drawn},
    }
