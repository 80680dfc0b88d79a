"""Waiting for something, with a deadline and a reason."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_celery_lab.errors import NotReadyError

#: Seconds between two looks; a look at a local server costs a millisecond or two.
INTERVAL = 0.1
#: A pause is so many times as long as the look before it, at least, but no longer than these seconds for that: looks at a busy cluster, of
#: many requests each, are a load themselves, and one that waits for who does not answer is none.
SHARE, LONGEST = 3, 0.5


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
    start = look = time.monotonic()
    while (reason := probe()) is not None:
        took = time.monotonic() - look
        on_wait(reason)
        if time.monotonic() - start > timeout:
            raise NotReadyError(f"{what} is not ready after {timeout:g} s: {reason}{'; ' + advice if advice else ''}.")
        time.sleep(max(interval, min(SHARE * took, LONGEST)))
        look = time.monotonic()
    return time.monotonic() - start
