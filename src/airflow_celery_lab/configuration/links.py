"""The links between the workers and the servers that they need, and what is wrong with them. Data and rules, but for the file.

Only commands of the lab write the file. Who carries a link (airflow_celery_lab.remote.carrier) reads it, and so does a worker that
starts, to learn where its servers are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.settings import Ports
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.configuration.suggestion import suggest
from airflow_celery_lab.errors import SettingsError, UnknownProcessError

#: The lab's own process that carries the links of the workers on its machine.
PROCESS = "links"
#: What a link leads to, by the names that ports have.
SERVERS = ("redis", "postgres", "webserver")
#: Seconds of each unit of a delay.
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
#: Seconds of a delay, at most: no client waits for longer.
MOST = 60.0
DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(us|ms|s)")
#: What people write who mean a delay: other words for a unit, none, or a space before it.
MEANT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-zµ]*)", re.IGNORECASE)
WORDS = {"": "ms", "µs": "us", "usec": "us", "msec": "ms", "millis": "ms", "sec": "s", "second": "s", "seconds": "s"}


class Condition(NamedTuple):
    """How a link is."""

    delay: float = 0.0  #: seconds that everything takes to get across, each way
    cut: bool = False  #: nothing gets across, and nobody is told

    @property
    def text(self) -> str:
        """The condition as a sentence of a table has it."""
        if self.cut:
            return "cut: nothing gets across"
        return f"slow: an answer takes {delay_text(2 * self.delay)} longer" if self.delay else "clean"


CLEAN = Condition()


class Links(NamedTuple):
    """What is written down of the links."""

    on: bool = False  #: a worker that starts goes through them
    ports: Mapping[str, int] = {}  #: at which they are carried, by server; none before the first fault, nor after the last one
    conditions: Mapping[str, Condition] = {}  #: of those that are not clean

    def condition(self, server: str) -> Condition:
        """Return how the link to a server is."""
        return self.conditions.get(server, CLEAN)

    def having(self, servers: Iterable[str], condition: Condition) -> Links:
        """Return the same with another condition of the links to `servers`."""
        changed = {**self.conditions, **dict.fromkeys(servers, condition)}
        return self._replace(conditions={server: one for server, one in changed.items() if one != CLEAN})

    def towards(self, ports: Ports) -> Ports:
        """Return where a worker that starts finds the lab's servers, which listen on `ports`."""
        return ports._replace(**self.ports) if self.on else ports


def read(state: State) -> Links:
    """Return what is written down; what is damaged counts as nothing."""
    try:
        return parse(state.links.read_text(encoding="utf-8"))
    except OSError:
        return Links()


def parse(text: str) -> Links:
    """Return what `text` of `write` says; what is damaged counts as nothing."""
    with suppress(ValueError, TypeError, AttributeError, LookupError):
        data = json.loads(text)
        conditions = {server: Condition(**one) for server, one in data["conditions"].items()}
        return Links(bool(data["on"]), {server: int(port) for server, port in data["ports"].items()}, conditions)
    return Links()


def text(links: Links) -> str:
    """Return what `parse` reads."""
    conditions = {server: one._asdict() for server, one in links.conditions.items()}
    return json.dumps({"on": links.on, "ports": dict(links.ports), "conditions": conditions})


def write(state: State, links: Links) -> None:
    """Write down how the links are.

    Raises:
        OSError: it cannot be written.

    """
    files.write(state.links, text(links))


def clear(state: State) -> None:
    """Make all links clean."""
    if (found := read(state)).conditions:
        with suppress(OSError):  # The disk may be full; then a worker ends when its time is over.
            write(state, found._replace(conditions={}))


def forget(state: State) -> None:
    """Forget all of it: the lab has ended."""
    with suppress(OSError):
        state.links.unlink(missing_ok=True)
        state.links_held.unlink(missing_ok=True)


def require_servers(names: Iterable[str]) -> None:
    """Do nothing when links lead to all of `names`.

    Raises:
        UnknownProcessError: none leads to one of them.

    """
    for name in names:
        if name not in SERVERS:
            hint = suggest(name, SERVERS, f"the links are those to {', '.join(SERVERS)}.")
            raise UnknownProcessError(f"workers have no link to {name!r}; {hint}", process=name)


def delay(words: str) -> float:
    """Return the seconds of a delay such as 200ms.

    Raises:
        SettingsError: it is none.

    """
    match = DELAY.fullmatch(words)
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if match and 0 < seconds <= MOST:
        return seconds
    if match and not seconds:
        raise SettingsError(f"{words!r} is no delay: a link without one is clean; `{typed()} heal` makes it so.")
    if match:
        raise SettingsError(f"{words!r} is longer than {MOST:g}s, the longest delay; `{typed()} cut` lets nothing get across.")
    meant = MEANT.fullmatch(words.strip())
    unit = meant[2].lower() if meant else None
    known = unit if unit in UNITS else WORDS.get(unit) if unit is not None else None
    hint = f"did you mean {meant[1]}{known}?" if meant and known else "write for example 200ms or 1.5s."
    raise SettingsError(f"{words!r} is no delay; {hint}")


def delay_text(seconds: float) -> str:
    """Return a delay as `delay` reads it."""
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"
