"""`[logging] namespace_levels` for every logger of an Airflow process.

Airflow obeys it from 3.2 on, and only where structlog makes the logger.
"""

from __future__ import annotations

import re
from typing import Any

from airflow.configuration import conf


def apply(loggers: dict[str, Any]) -> None:
    """Set the levels: in `loggers`, a part of a logging configuration, and in Airflow itself where it does not do so."""
    levels = re.findall(r"([^\s,=]+)\s*=\s*([^\s,=]+)", conf.get("logging", "namespace_levels", fallback=""))
    for name, level in levels:
        loggers.setdefault(name, {})["level"] = level.upper()
    if "namespace_levels" not in conf.configuration_description["logging"]["options"]:
        from airflow._shared.logging.structlog import NAME_TO_LEVEL, PER_LOGGER_LEVELS  # type: ignore[attr-defined]  # 3.1's own

        PER_LOGGER_LEVELS.update({name: NAME_TO_LEVEL[level.lower()] for name, level in levels})
