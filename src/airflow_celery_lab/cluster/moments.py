"""Airflow's moments, as its REST API writes them."""

from __future__ import annotations

from datetime import datetime


def moment(timestamp: str | None) -> float | None:
    """Return an ISO 8601 timestamp in seconds since the epoch, None for none."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() if timestamp else None
