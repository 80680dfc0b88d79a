"""Exposing a lab on one address of this machine, and taking that back."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_celery_lab.cluster import evidence, journal, preflight
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.readiness import OnWait, quietly
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import environment, exposure, procfile, services
from airflow_celery_lab.configuration.exposure import SERVERS, Exposure
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.overrides import BASE_URL
from airflow_celery_lab.errors import ExposureError, ModeError, StateFolderError
from airflow_celery_lab.remote import authority
from airflow_celery_lab.remote.authority import Authority
from airflow_celery_lab.remote.invitation import invite
from airflow_celery_lab.remote.token import Token
from airflow_celery_lab.servers import probes, worker_access
from airflow_celery_lab.wait import wait_until

#: Seconds for the gateway to listen, of which it needs less than one.
PATIENCE = 20.0
#: Bytes of a password: 192 bits.
PASSWORD = 24
#: Key of Airflow's that lets everybody in.
ALL_ADMINS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"


class Exposed(NamedTuple):
    """A lab that has just been exposed."""

    exposure: Exposure
    token: Token


def expose(cluster: Cluster, address: str, seconds: float, on_wait: OnWait = quietly) -> Exposed:
    """Listen on `address` for other machines, and return a token that lets them join for so many `seconds`.

    An earlier address is given up, and an earlier token is good no more. Machines that have joined keep their passwords.

    Raises:
        LabError: it cannot be exposed there; nothing has changed, or the gateway does not come to listen.

    """
    cluster.require_running()
    _require_passwords(cluster)
    _require_no_path(cluster)
    with cluster.changing(on_wait):
        before = exposure.read(cluster.lab.state)
        _require_gateway_to_be_possible(cluster)
        _require_free(cluster, address, before)
        certificate = Authority(cluster.lab.state).certificate()
        secret, invitation = invite(seconds, time.time())
        record = Exposure(
            address=address,
            postgres_password=before.postgres_password if before else secrets.token_urlsafe(PASSWORD),
            redis_password=before.redis_password if before else secrets.token_urlsafe(PASSWORD),
            invited=invitation.digest,
            until=invitation.until,
        )
        worker_access.grant(cluster.lab, record)
        _write(cluster.lab, record)
        journal.note(cluster.lab.state, "expose")
        _start_gateway(cluster)
    wait_until(
        lambda: probes.gateway(cluster.lab, record), PATIENCE, "the gateway", advice=f"see `{typed()} logs gateway`", on_wait=on_wait
    )
    return Exposed(record, Token(address, cluster.settings.ports.webserver, authority.fingerprint(certificate), secret))


def hide(cluster: Cluster, on_wait: OnWait = quietly) -> list[str]:
    """Listen on no address but loopback any more, and let no other machine's worker in; return why not all of it is done at once.

    Raises:
        StateFolderError: the record of the exposure cannot be removed.

    """
    with cluster.changing(on_wait):
        try:
            exposure.remove(cluster.lab.state)  # From here on the gateway closes by itself.
        except OSError as error:
            raise _not_writable(cluster.lab, error) from error
        journal.note(cluster.lab.state, "expose --off")
        processes = cluster.supervisor.processes if cluster.supervisor.running else {}
        lines = {line.name for line in cluster.lines()}
        kept = {name: command for name, command in processes.items() if name in lines or not _is_gateway(command)}
        if kept != processes:
            cluster.supervisor.apply(kept, on_wait=on_wait)
    if problems := worker_access.revoke(cluster.lab):
        # Redis is started without that user, and Postgres then sees to its role.
        cluster.lab.state.postgres_worker_role.unlink(missing_ok=True)
    return problems if cluster.records else []


def _require_passwords(cluster: Cluster) -> None:
    """Do nothing when nobody comes in without a password.

    Raises:
        ExposureError: somebody does.

    """
    if missing := [name for name, value in cluster.credentials._asdict().items() if not value]:
        raise ExposureError(
            f"{missing[0]} in {cluster.lab.state.secrets} is empty, and a lab without passwords is not exposed; "
            f"run `{typed()} clean` for new ones.",
            path=cluster.lab.state.secrets,
        )
    if cluster.environment().get(ALL_ADMINS, "").strip().lower() in {"true", "t", "1"}:
        raise ExposureError(
            f"{ALL_ADMINS} lets everybody into Airflow without a password; unset it, and start the lab again.", setting=ALL_ADMINS
        )


def _require_no_path(cluster: Cluster) -> None:
    """Do nothing when the lab's pages are where a token leads to.

    Raises:
        ExposureError: Airflow serves everything below a path.

    """
    if path := urlsplit(environment.web_url(cluster.lab)).path:
        raise ExposureError(
            f"{BASE_URL} in .env has the path {path}, below which other machines do not find the lab; leave the path out, "
            "and start the lab again.",
            setting=BASE_URL,
        )


def _require_gateway_to_be_possible(cluster: Cluster) -> None:
    """Do nothing when a gateway runs, or can be started.

    Raises:
        ModeError: the lab runs in the foreground, without one.
        ProcfileError: another process has its name.

    """
    procfile.with_gateway(cluster.lines(), cluster.settings.project)
    if not cluster.supervisor.running and not evidence.runs(services.GATEWAY, cluster.records):
        home = cluster.settings.home
        raise ModeError(
            f"the lab in {home} runs in the foreground, where no process can come: press Ctrl-C and run `{typed()} up -d`, "
            f"or add `gateway: {typed()} exec gateway` to the Procfile and start it again.",
            path=home,
        )


def _require_free(cluster: Cluster, address: str, before: Exposure | None) -> None:
    """Do nothing when the gateway can listen on `address`.

    Raises:
        ExposureError: the lab's own servers listen there.
        PortTakenError: another program does.

    """
    if cluster.settings.bind in {"0.0.0.0", "::", address}:  # noqa: S104  # nothing is bound here
        raise ExposureError(
            f"LAB_BIND={cluster.settings.bind} lets Redis, Postgres and Airflow listen on {address} already, without TLS; "
            "unset it, and start the lab again.",
            setting="LAB_BIND",
        )
    if before and before.address == address and evidence.runs(services.GATEWAY, cluster.records):
        return
    for name in SERVERS:
        if probes.port_taken(address, getattr(cluster.settings.ports, name)):
            raise preflight.taken(cluster.settings, name, address)


def _write(lab: Lab, record: Exposure) -> None:
    try:
        exposure.write(lab.state, record)
    except OSError as error:
        raise _not_writable(lab, error) from error


def _not_writable(lab: Lab, error: OSError) -> StateFolderError:
    return StateFolderError(
        f"cannot write {lab.state.exposure}: {error.strerror}; free space or fix its permissions.", path=lab.state.exposure
    )


def _start_gateway(cluster: Cluster) -> None:
    """Let the background lab have a gateway, and leave all else alone."""
    if not cluster.supervisor.running:
        return  # One runs in the foreground.
    processes = cluster.supervisor.processes
    names = [name for name, command in processes.items() if _is_gateway(command)]
    if not names:
        line = next(line for line in cluster.lines() if line.service.kind == services.GATEWAY)
        cluster.supervisor.apply({**processes, line.name: line.command})
    cluster.supervisor.launch(names)


def _is_gateway(command: str) -> bool:
    return procfile.service_of(command).kind == services.GATEWAY
