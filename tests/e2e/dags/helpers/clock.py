"""A trigger beside the DAGs, as users have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class Tick(BaseTrigger):
    """Fires after a tenth of a second."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return ("helpers.clock.Tick", {})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(0.1)
        yield TriggerEvent("tick")  # type: ignore[no-untyped-call]  # Airflow's own is untyped
