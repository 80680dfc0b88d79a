"""A task that waits with a trigger of the user's own, on the executor that it names; and what of `.env` arrives in it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseHook, BaseOperator, Context, dag
from helpers.clock import Tick


class Wait(BaseOperator):
    """Waits for the trigger, and looks at a connection."""

    def execute(self, context: Context) -> None:  # noqa: ARG002  # Airflow's own signature
        self.defer(trigger=Tick(), method_name="finish")  # type: ignore[no-untyped-call]  # Airflow's own is untyped

    def finish(self, context: Context, event: Any = None) -> str:  # noqa: ARG002  # as above
        return f"{event} from {BaseHook.get_connection('shop').host}"


@dag(schedule=None)
def own_trigger() -> None:
    """Wait once."""
    Wait(task_id="wait", executor="CeleryExecutor")


own_trigger()
