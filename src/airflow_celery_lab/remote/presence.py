"""What speaks for a machine that has joined another one's lab: it renews the machine's lease, and sends its tasks' logs.

One process of the joined folder, as small as it can be, which ends after the workers.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_celery_lab.configuration import environment, likeness, membership
from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.membership import Membership
from airflow_celery_lab.errors import JoinError
from airflow_celery_lab.launcher import lease, reaper, registry
from airflow_celery_lab.launcher.lease import Lease
from airflow_celery_lab.remote import sent_logs
from airflow_celery_lab.remote.sent_logs import Sender

if TYPE_CHECKING:
    from redis import Redis

#: Seconds for one answer of Redis; a slow link is no silence.
PATIENCE = 5.0
#: Seconds between two looks at the DAG folder, each of which reads it.
DAGS = 10.0

Say = Callable[[str], None]


def main(environ: Mapping[str, str], say: Say) -> int:
    """Speak for this machine until a signal comes; return 128 and its number.

    Raises:
        NotJoinedError: this folder has not joined a lab.
        JoinError: another machine speaks under the same name.

    """
    lab = labs.load(environ)
    stop = _Stop()
    _Presence(lab, membership.require(lab.state), environ, say).speak(stop)
    return 128 + stop.number


class _Stop:
    def __init__(self) -> None:
        self.number = 0
        self.asked = threading.Event()
        for number in reaper.STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.number = number
        self.asked.set()


class _Presence:
    def __init__(self, lab: Lab, member: Membership, environ: Mapping[str, str], say: Say) -> None:
        self._lab = lab
        self._member = member
        self._say = say
        self._redis = client(lab, member)
        self._sizes = environment.sizes(lab, environ)
        # The user may have another folder for them.
        self._logs = Path(environment.of_process(lab, None, environ)[sent_logs.LOG_FOLDER])
        self._silent = False
        self._renewals = 0
        self._known_dags = ""
        self._next_dags = 0.0

    def speak(self, stop: _Stop) -> None:
        sender = Sender(self._lab, self._member, self._logs, self._say)
        # In a thread of its own: a long log on a slow link must not keep the lease from being renewed.
        sending = threading.Thread(target=sender.run, args=(stop.asked,), daemon=True)
        sending.start()
        while not stop.asked.wait(lease.RENEWAL if self._renewals else 0):
            self._attempt(self._renew)
        sending.join(sent_logs.LAST)
        self._attempt(self._end)

    def _renew(self) -> None:
        mine = self._member
        other = lease.parse(self._redis.get(lease.PREFIX + mine.machine), self._redis.pttl(lease.PREFIX + mine.machine))
        if other is not None and other.key != mine.key and other.lives:
            raise JoinError(
                f"another machine has joined {mine.lab} as {mine.machine}; leave, and join with `--name` and a name of your own."
            )
        lease.renew(self._redis, self._lease())

    def _end(self) -> None:
        lease.end(self._redis, self._lease())

    def _lease(self) -> Lease:
        self._renewals += 1
        here = lease.workers(registry.running(self._lab.state).values(), self._sizes)
        return Lease(self._member.machine, self._member.key, self._renewals, here, 0.0, dags=self._dags())

    def _dags(self) -> str:
        if time.monotonic() >= self._next_dags:
            self._next_dags = time.monotonic() + DAGS
            self._known_dags = ""
            with suppress(OSError):
                self._known_dags = likeness.dags(self._lab.settings.dags)
        return self._known_dags

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do something with Redis; say once that it is away, and once that it is back."""
        from redis.exceptions import RedisError

        try:
            action()
        except (RedisError, OSError) as error:
            if not self._silent:
                self._say(f"lab: {self._member.address} does not answer, trying again every {lease.RENEWAL:g} s: {error}")
            self._silent = True
        else:
            if self._silent:
                self._say(f"lab: {self._member.address} answers again")
            self._silent = False


def client(lab: Lab, member: Membership) -> Redis:
    """Return a connection to the Redis of the lab that was joined."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    url = membership.broker_url(member, lab.state.main_authority)
    found: Redis = Redis.from_url(
        url, decode_responses=True, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    )
    return found
