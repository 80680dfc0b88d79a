"""`[logging] namespace_levels` for every logger of an Airflow process.

Airflow obeys it from 3.2 on, and only where structlog makes the logger.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from airflow.configuration import conf


def apply(loggers: dict[str, Any]) -> None:
    """Set the levels: in `loggers`, a part of a logging configuration, and in Airflow itself where it does not do so."""
    entries = re.findall(r"([^\s,=]+)\s*=\s*([^\s,=]+)", conf.get("logging", "namespace_levels", fallback=""))
    levels = {name: level.upper() for name, level in entries}
    for name, level in levels.items():
        loggers.setdefault(name, {})["level"] = level
    if "namespace_levels" not in conf.configuration_description["logging"]["options"]:
        from airflow._shared.logging.structlog import PER_LOGGER_LEVELS

        PER_LOGGER_LEVELS.update({name: logging.getLevelName(level) for name, level in levels.items()})
