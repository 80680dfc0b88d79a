"""The command that lets other machines join the lab."""

from __future__ import annotations

import re
import time
from typing import Annotated

import typer

from airflow_celery_lab.cli.app import Json, app, print_json, progress, say
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import NAME, typed
from airflow_celery_lab.configuration import exposure
from airflow_celery_lab.errors import ExposureError

#: Seconds of each unit, and the longest time for which a token may be good.
UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST = 24 * 3600
#: What each server is to a user.
TITLES = {"redis": "Redis", "postgres": "Postgres", "webserver": "Airflow"}


@app.command()
def expose(
    address: Annotated[str | None, typer.Argument(help="An IP address of this machine.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Listen on loopback alone again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Also on a public address.")] = False,
    expires: Annotated[str, typer.Option(metavar="TIME", help="How long the token is good: 90s, 15m, 2h.")] = "15m",
    as_json: Json = False,
) -> None:
    """Let workers of other machines join: listen on one address, with TLS, until `--off`; print a token for them."""
    from airflow_celery_lab.remote import addresses, exposing  # Cryptography, which other commands have no use for.

    if off:
        _hide(as_json=as_json, address=address)
        return
    seconds = _seconds(expires)
    if address is None:
        address = _nothing_named(addresses.own())
    chosen = addresses.choose(address, addresses.own(), public=yes)
    with Cluster.open() as cluster:
        done = exposing.expose(cluster, chosen, seconds, progress("waiting"))
        urls = done.exposure.urls(cluster.settings.ports)
    join = f"{typed()} join {done.token.text}"
    if as_json:
        print_json({"address": chosen, "urls": urls, "token": done.token.text, "until": done.exposure.until, "join": join})
        return
    say(f"lab: exposed on {chosen}, with TLS, beside loopback, where nothing has changed:")
    for name, url in urls.items():
        say(f"lab:   {TITLES[name]:10}{url}")
    say(f"lab: until {_clock(done.exposure.until)} this joins another machine, or several (there it may be `{NAME} join`):")
    say("")
    say(join)
    say("")
    say(f"lab: the token is as good as a password until then; `{typed()} expose --off` takes all of it back")


def _hide(*, as_json: bool, address: str | None) -> None:
    from airflow_celery_lab.remote import exposing

    if address is not None:
        raise ExposureError("`--off` needs no address: a lab is exposed on one at most; leave it out.")
    with Cluster.open() as cluster:
        before = exposure.read(cluster.lab.state)
        late = exposing.hide(cluster, progress("waiting"))
    if as_json:
        print_json({"address": None})
        return
    say(f"lab: not exposed on {before.address} any more; machines that have joined cannot get in" if before else "lab: it is not exposed")
    for sentence in late:
        say(f"lab: warning: {sentence} Nobody listens for other machines; their passwords end when it starts again.")


def _nothing_named(existing: list[str]) -> str:
    there_are = f"this machine has {', '.join(existing)}" if existing else "this machine has none but loopback"
    raise ExposureError(f"name the address on which other machines reach this one: `{typed()} expose ADDRESS`; {there_are}.")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", text)
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST:
        raise ExposureError(f"`--expires {text}` is not a time of at most a day; write for example 90s, 15m or 2h.")
    return seconds


def _clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(when))
