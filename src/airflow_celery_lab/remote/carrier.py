"""The process `links`: carries the links of the workers on the lab's own machine, as the commands have written down."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from airflow_celery_lab.configuration import files, links, settings
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import NotRunningError, PortTakenError
from airflow_celery_lab.launcher import reaper
from airflow_celery_lab.remote.relay import Address, Relay

#: Seconds between two looks at what is written down, each of which is one `stat`.
INTERVAL = 0.1
#: Seconds until the next try to get a port that another program has just now.
PAUSE = 1.0


def main(environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Carry the links until a signal comes; return 128 and its number.

    Raises:
        NotRunningError: nobody has asked for links.

    """
    config = settings.load(environ)
    if not links.read(config.state).ports:
        raise NotRunningError("no link is carried in this lab; `slow` and `cut` start this process when it is needed.")
    try:
        return 128 + asyncio.run(_carry(config, say))
    finally:
        with suppress(OSError):
            config.state.links_held.unlink(missing_ok=True)


async def follow(state: State, relays: Mapping[str, Relay], on_change: Callable[[links.Links], None]) -> None:
    """Let each relay, by the server that it leads to, have the condition of its link, from now on."""
    seen: object = ()
    while True:
        if (mark := _mark(state)) != seen:
            seen = mark
            now = links.read(state)
            for server, relay in relays.items():
                relay.condition = now.condition(server)
            on_change(now)
        await asyncio.sleep(INTERVAL)


async def _carry(config: Settings, say: Callable[[str], None]) -> int:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(number: int) -> None:
        if not stopped.done():
            stopped.set_result(number)

    for number in reaper.STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    work = asyncio.create_task(_relay(config, say))
    both: list[asyncio.Future[Any]] = [stopped, work]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not stopped.done():
        work.result()  # It ends by an error alone.
    work.cancel()
    await asyncio.wait([work])
    return stopped.result()


async def _relay(config: Settings, say: Callable[[str], None]) -> None:
    found = links.read(config.state)
    relays = {
        server: Relay(Address(config.client_host, port), Address(config.client_host, getattr(config.ports, server)))
        for server, port in found.ports.items()
    }
    try:
        for server, relay in relays.items():
            relay.condition = found.condition(server)  # From the first connection on.
            await _start(relay, say)
            say(f"lab: carries the link to {server}, from {relay.listen} to {relay.target}")

        told = ""

        def hold(now: links.Links) -> None:
            nonlocal told
            files.write(config.state.links_held, json.dumps({"pid": os.getpid(), "links": links.text(now)}))
            if (text := "; ".join(f"the link to {server} is {now.condition(server).text}" for server in relays)) != told:
                say(f"lab: {text}")
            told = text

        await follow(config.state, relays, hold)
    finally:
        for relay in relays.values():
            await relay.close()


async def _start(relay: Relay, say: Callable[[str], None]) -> None:
    """Let a relay listen; where another program has the port just now, wait for its end."""
    told = ""
    while reason := _taken(relay):
        if reason != told:
            say(f"lab: waiting: {reason}")
        told = reason
        await asyncio.sleep(PAUSE)


def _taken(relay: Relay) -> str:
    """Let a relay listen; return why it cannot, "" when it does."""
    try:
        relay.start()
    except PortTakenError as error:
        return str(error)
    return ""


def _mark(state: State) -> object:
    """Return what is another one when the file is."""
    try:
        found = state.links.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)
