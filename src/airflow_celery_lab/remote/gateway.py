"""The gateway: listens for other machines on the one address on which the lab is exposed, with TLS, and relays to loopback.

A process of its own for as long as a lab is exposed. It looks at the record of that again and again, so it follows
`expose` without a new start, and at what `slow` and `cut` have done to the links. It never ends by itself, for in the
foreground that would end the lab.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Mapping

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import exposure, links, settings
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import LabError
from airflow_celery_lab.launcher import reaper
from airflow_celery_lab.remote.authority import Authority
from airflow_celery_lab.remote.relay import Address, Relay

#: Seconds between two looks at the record.
INTERVAL = 0.5
#: Files, at most: a connection has two, and a worker's slots and Celery have some connections each. Systems begin with a thousand.
FILES = 16_384

Say = Callable[[str], None]


def main(environ: Mapping[str, str], say: Say) -> int:
    """Listen until a signal comes; return 128 and its number.

    Raises:
        LabError: the settings cannot be used.

    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return 128 + asyncio.run(_Gateway(settings.load(environ), say).run())


class _Gateway:
    def __init__(self, config: Settings, say: Say) -> None:
        self._settings = config
        self._say = say
        self._held: tuple[str, int] | None = None  #: the address on which it listens, and which authority has signed for it
        self._relays: dict[str, Relay] = {}  #: by the server that each leads to
        self._told = ""

    async def run(self) -> int:
        """Follow the record until a signal comes, and return the signal's number."""
        signalled: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        for number in reaper.STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, _note, signalled, number)
        try:
            while not signalled.done():
                await self._look()
                await asyncio.wait([signalled], timeout=INTERVAL)
        finally:
            await self._close()
        return signalled.result()

    async def _look(self) -> None:
        record = exposure.read(self._settings.state)
        if self._held != (self._wanted(record.address) if record else None):
            await self._close()
        if record is None:
            self._tell(f"the lab is not exposed, and nothing listens here; `{typed()} expose ADDRESS` exposes it")
        elif self._held is None:
            try:
                self._open(record.address)
                self._tell(f"listens with TLS: {', '.join(record.urls(self._settings.ports).values())}")
            except LabError as error:  # Such as an address that comes with a network which is not there now.
                await self._close()
                self._tell(f"waiting: {error}")
        found = links.read(self._settings.state)
        for name, relay in self._relays.items():
            relay.condition = found.condition(name)

    def _open(self, address: str) -> None:
        """Listen.

        Raises:
            LabError: it cannot be done now.

        """
        tls = Authority(self._settings.state).server_context(address)
        for name in links.SERVERS:
            port = getattr(self._settings.ports, name)
            relay = Relay(Address(address, port), Address(self._settings.client_host, port), tls=tls, pgsql=name == "postgres")
            relay.start()
            self._relays[name] = relay
        self._held = self._wanted(address)

    def _wanted(self, address: str) -> tuple[str, int]:
        """Return the address, and when the authority was made: a damaged one is removed by its owner, and `expose` makes another."""
        try:
            return address, self._settings.state.authority.stat().st_mtime_ns
        except OSError:
            return address, 0

    async def _close(self) -> None:
        self._held = None
        while self._relays:
            _, relay = self._relays.popitem()
            await relay.close()

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._say(f"lab: {text}")
        self._told = text


def _note(signalled: asyncio.Future[int], number: int) -> None:
    if not signalled.done():
        signalled.set_result(number)
