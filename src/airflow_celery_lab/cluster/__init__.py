"""The handle on one lab, and what it asks and judges."""

from __future__ import annotations

import logging

# Silent unless the user of the package wants to hear it. Here, as launchers do without logging's milliseconds.
logging.getLogger("airflow_celery_lab").addHandler(logging.NullHandler())
