"""Commands that make the links between workers and servers slow, cut them, and heal them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Annotated

import typer

from airflow_celery_lab.cli.app import Json, app, print_json, progress, say
from airflow_celery_lab.cluster import link_status
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import links
from airflow_celery_lab.configuration.links import CLEAN, Condition

#: Is told what is done, in sentences.
Tell = Callable[[str], None]
Server = Annotated[str, typer.Argument(metavar="SERVER", help=f"One of {', '.join(links.SERVERS)}.")]
Servers = Annotated[list[str], typer.Argument(metavar="SERVER...", help=f"Of {', '.join(links.SERVERS)}.")]


@app.command()
def slow(
    server: Server,
    delay: Annotated[str, typer.Argument(metavar="DELAY", help="By which each answer comes later, such as 200ms or 1.5s.")],
    as_json: Json = False,
) -> None:
    """Make the workers' link to Redis, Postgres or the api-server slow, as a network can be."""
    links.require_servers([server])
    condition = Condition(delay=links.delay(delay) / 2)
    with Cluster.open() as cluster:
        _set(cluster, [server], condition, as_json=as_json)


@app.command()
def cut(servers: Servers, as_json: Json = False) -> None:
    """Cut the workers' link to Redis, Postgres or the api-server: nothing gets across, as without a cable."""
    links.require_servers(servers)
    with Cluster.open() as cluster:
        _set(cluster, servers, Condition(cut=True), as_json=as_json)


@app.command()
def heal(
    servers: Annotated[list[str] | None, typer.Argument(metavar="SERVER...", help="Of those (default: all).")] = None,
    off: Annotated[bool, typer.Option("--off", help="Let workers start again without the lab's links, too.")] = False,
    as_json: Json = False,
) -> None:
    """Make the workers' links clean again."""
    links.require_servers(servers or [])
    if off and servers:
        raise typer.BadParameter("it concerns all links; name none", param_hint="--off")
    with Cluster.open() as cluster:
        cluster.require_background()
        found = cluster.links()
        ill = [server for server in servers or links.SERVERS if found.condition(server) != CLEAN]
        tell = _say(as_json=as_json)
        if off:
            _drop(cluster, tell)
        elif ill:
            cluster.set_links(ill, CLEAN, progress("waiting", tell))
            tell(f"lab: {', '.join(ill)} {'is' if len(ill) == 1 else 'are'} reached as before; `{typed()} heal --off` ends `links`, too")
        else:
            tell(f"lab: no link{' to ' + ', '.join(servers) if servers else ''} is slow or cut")
        if as_json:
            _print(cluster)


def _set(cluster: Cluster, servers: Collection[str], condition: Condition, *, as_json: bool) -> None:
    cluster.require_main()
    cluster.require_background()
    tell = _say(as_json=as_json)
    if not cluster.links().on:
        tell("lab: starts `links`, through which workers reach Redis, Postgres and the api-server from now on")
    try:
        cluster.carry_links(progress("waiting", tell))
        if astray := cluster.astray():
            tell(f"lab: {_restarting(astray, cluster)}")
            cluster.renew(astray, progress("waiting", tell))
    except KeyboardInterrupt:
        print(f"\nlab: no link was changed; `{typed()} heal --off` puts the rest back", file=sys.stderr)
        raise
    cluster.set_links(servers, condition, progress("waiting", tell))
    for server in servers:
        tell(f"lab: the workers' link to {server} is {condition.text}; `{typed()} heal {server}` makes it clean")
    if as_json:
        _print(cluster)


def _drop(cluster: Cluster, tell: Tell) -> None:
    found = cluster.links()
    if not found.ports and not found.conditions and links.PROCESS not in cluster.supervisor.processes:
        tell("lab: no worker goes through links")
        return
    if linked := [name for name, record in cluster.records.items() if record.linked]:
        tell(f"lab: all links are clean; {_restarting(linked, cluster)}")
    try:
        cluster.drop_links(progress("waiting", tell))
    except KeyboardInterrupt:
        print(f"\nlab: all links are clean; `{typed()} heal --off` goes on where this stopped", file=sys.stderr)
        raise
    tell("lab: workers reach Redis, Postgres and the api-server directly; `links` has ended")


def _print(cluster: Cluster) -> None:
    print_json([link._asdict() for link in link_status.look(cluster.links())])


def _restarting(names: Collection[str], cluster: Cluster) -> str:
    return (
        f"{', '.join(names)} start{'s' if len(names) == 1 else ''} again for that, after {'its' if len(names) == 1 else 'their'} tasks, "
        f"{cluster.settings.stop_timeout:.0f} s at most"
    )


def _say(*, as_json: bool) -> Tell:
    return (lambda text: print(text, file=sys.stderr, flush=True)) if as_json else say
