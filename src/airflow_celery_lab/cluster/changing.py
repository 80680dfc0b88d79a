"""One change at a time of what the background lab runs: commands and autoscalers read it, decide, and write it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.wait import INTERVAL


@contextmanager
def changing(state: State, patience: float, on_wait: Callable[[str], None] = lambda _reason: None) -> Iterator[bool]:
    """Keep others from changing it within the block; give False when another one does after `patience` seconds still.

    The lock ends with the process that holds it, also when that is killed.
    """
    try:
        lock = state.change_lock.open("a")
    except OSError:  # A disk that is full or read-only does not stop `down`; what must write fails by itself.
        yield True
        return
    with lock:
        deadline = time.monotonic() + patience
        while not (held := registry.try_lock(lock, fcntl.LOCK_EX)) and time.monotonic() < deadline:
            on_wait("another command changes the lab's processes")
            time.sleep(INTERVAL)
        yield held
