"""Celery's configuration for programs that ask workers and take no tasks: Flower, `lab celery`, `lab status`.

While such a program waits for an answer, kombu sends again what no worker acknowledged for an hour, its default: a task
that still runs, or one that was replaced long ago, would run because somebody looked. Airflow's own processes have
`[celery_broker_transport_options] visibility_timeout`.
"""

from __future__ import annotations

from typing import Final

#: Where the `celery` program looks for the name of its configuration, and the name of this one.
VARIABLE: Final = "CELERY_CONFIG_MODULE"
MODULE: Final = __name__

#: Celery's setting; longer in seconds than any lab exists.
broker_transport_options = {"visibility_timeout": 100 * 365 * 24 * 3600}
