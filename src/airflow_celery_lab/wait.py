"""Waiting for something, with a deadline and a reason."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_celery_lab.errors import NotReadyError

#: Seconds between two looks; a look at a local server costs a millisecond or two.
INTERVAL = 0.1


def wait_until(
    probe: Callable[[], str | None],
    timeout: float,
    what: str,
    *,
    advice: str = "",
    interval: float = INTERVAL,
    on_wait: Callable[[str], None] = lambda _reason: None,
) -> float:
    """Wait until `probe` returns None and return the seconds that took.

    Until then `probe` returns the reason why not, which goes to `on_wait` at each look. Both may raise a
    LabError to say that waiting longer is of no use.

    Raises:
        NotReadyError: `timeout` seconds have passed; it names `what` and the last reason.

    """
    start = time.monotonic()
    while (reason := probe()) is not None:
        on_wait(reason)
        if time.monotonic() - start > timeout:
            raise NotReadyError(f"{what} is not ready after {timeout:g} s: {reason}{'; ' + advice if advice else ''}.")
        time.sleep(interval)
    return time.monotonic() - start
