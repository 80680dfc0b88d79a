"""A worker with `--autoscale` gives up the slots that it needs no more, each of them once.

Celery ends an idle process, and notices its end a moment later, or at its next regular look after 5 s. If it scales down
again before that, it may choose the same process: it counts one less, and one that it needs no more stays until the
next load (Celery 5.6, billiard 4.3: `Pool.shrink` asks only whether a process has a task).
"""

from __future__ import annotations

from typing import Any

from celery.worker import autoscale


class Autoscaler(autoscale.Autoscaler):  # type: ignore[misc]  # Celery has no types
    """Named by Celery's setting `worker_autoscaler`."""

    def scale_down(self, n: int) -> Any:
        """Scale down by `n` processes, or at the next look while one that was told to end is still there."""
        self.pool.maintain_pool()
        processes = self.pool._pool._pool  # noqa: SLF001  # Celery offers no other way.
        if any(process._controlled_termination for process in processes):  # noqa: SLF001  # As above.
            return None
        return super().scale_down(n)
