"""How a slot runs a task (`[sdk] coordinators`, since Airflow 3.3): as Airflow does, but it tells the api-server once that the task has begun."""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time.coordinator import BaseCoordinator
from airflow.sdk.execution_time.supervisor import ActivitySubprocess


class Supervisor(ActivitySubprocess):
    """Airflow's supervisor of a task, whose first heartbeat comes `[workers] min_heartbeat_interval` after the start."""

    def _on_child_started(self, **details: Any) -> None:
        super()._on_child_started(**details)
        # The api-server has noted the start as a sign of life. Airflow's sends a heartbeat as soon as the task says its first word: a fourth
        # of all that an empty task asks the api-server.
        self._last_heartbeat_attempt = self._last_successful_heartbeat


class Coordinator(BaseCoordinator):
    """Runs tasks in Python."""

    def execute_task(self, **task: Any) -> BaseCoordinator.ExecutionResult:
        """Run the task until it ends."""
        process = Supervisor.start(**task)
        return self.ExecutionResult(process.wait(), process.final_state)
