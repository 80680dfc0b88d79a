"""What a machine that wants to join asks the main machine, and whether the two go together."""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_celery_lab.configuration.membership import Membership
from airflow_celery_lab.errors import JoinError
from airflow_celery_lab.remote.token import Token

if TYPE_CHECKING:
    from httpx import Client

#: Seconds for one answer.
PATIENCE = 15.0
#: `[api_auth] jwt_leeway`: seconds by which clocks may differ; then the main machine takes this machine's tasks for too
#: late, or too early. Airflow's own default.
LEEWAY = 10.0
#: What each version is called.
CALLED = {
    "lab": "the lab",
    "airflow": "Airflow",
    "apache-airflow-providers-celery": "the Celery provider",
    "celery": "Celery",
    "python": "Python",
}
#: What an answer has.
WANTED = ("lab", "address", "ca", "broker_url", "result_backend", "execution_api_server_url", "versions", "dags", "time", "settings")


class Answer(NamedTuple):
    """What the main machine has answered."""

    data: Mapping[str, Any]
    asked: float  #: seconds since the epoch by this machine's clock, when the question was sent
    answered: float  #: and when the answer was there

    @property
    def clock(self) -> float:
        """Seconds by which the main machine's clock is ahead, as far as that can be known; 0 where the way explains it."""
        theirs = float(self.data["time"])
        return max(0.0, theirs - self.answered) or min(0.0, theirs - self.asked)


def ask(token: Token, machine: str, versions: Mapping[str, str], dags: str) -> Answer:
    """Ask the main machine for what this one needs to join.

    Raises:
        JoinError: it does not answer, is another one than the token's, or refuses.

    """
    import httpx

    where = f"[{token.address}]:{token.port}" if ":" in token.address else f"{token.address}:{token.port}"
    try:
        authority = _authority(f"https://{where}", token)
        context = ssl.create_default_context(cadata=authority)
        with httpx.Client(base_url=f"https://{where}", verify=context, timeout=PATIENCE, trust_env=False) as client:
            return _ask(client, token, machine, versions, dags)
    except httpx.HTTPError as error:
        raise JoinError(
            f"the lab on {where} cannot be reached: {error}; see that it runs and is exposed, and that no firewall is between."
        ) from error


def _authority(url: str, token: Token) -> str:
    """Return the PEM of the lab's authority, which the token knows by its fingerprint; no secret goes this way."""
    import httpx

    answer = httpx.get(f"{url}/lab/ca", verify=False, timeout=PATIENCE, trust_env=False)  # noqa: S501  # the fingerprint is what verifies
    with suppress(ValueError):
        if answer.is_success and hashlib.sha256(ssl.PEM_cert_to_DER_cert(answer.text)).digest() == token.fingerprint:
            return answer.text
    raise JoinError(
        f"{url} is not the lab that the token is for: its certificate is another one's; run `expose` on the main machine for a new token."
    )


def _ask(client: Client, token: Token, machine: str, versions: Mapping[str, str], dags: str) -> Answer:
    question = {
        "secret": token.secret.hex(),
        "machine": machine,
        "address": own_address(token.address, token.port),
        "versions": dict(versions),
        "dags": dags,
        "time": time.time(),
    }
    asked = time.time()
    answer = client.post("/lab/join", json=question)
    answered = time.time()
    try:
        data = answer.json()
    except ValueError:
        data = None
    if not isinstance(data, dict) or not (answer.is_success or "detail" in data):
        raise JoinError(f"{client.base_url} does not answer as a lab does (status {answer.status_code}); install the same release on both.")
    if not answer.is_success:
        raise JoinError(str(data["detail"]))
    if lacking := [name for name in WANTED if name not in data]:
        raise JoinError(f"the main machine does not say its {lacking[0]}; install the same release of the lab on both.")
    return Answer(data, asked, answered)


def own_address(address: str, port: int) -> str:
    """Return the address by which this machine reaches another one; no packet is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, port))
        except OSError as error:
            raise JoinError(f"there is no way from this machine to {address}: {error.strerror}.") from error
        return str(probe.getsockname()[0])


def obstacles(answer: Answer, versions: Mapping[str, str]) -> list[str]:
    """Return why this machine cannot run the lab's tasks, a sentence each."""
    theirs: Mapping[str, str] = answer.data["versions"]
    found = [
        f"{called} is {versions[name]} here and {theirs.get(name, 'unknown')} on the main machine; install the same on both."
        for name, called in CALLED.items()
        if theirs.get(name) != versions[name]
    ]
    if abs(answer.clock) > LEEWAY:
        behind = "behind" if answer.clock > 0 else "ahead of"
        found.append(
            f"this machine's clock is {abs(answer.clock):.0f} s {behind} the main machine's, and Airflow bears {LEEWAY:g}; set the clocks, by NTP for example."
        )
    return found


def warnings(answer: Answer, dags: str) -> list[str]:
    """Return what may go wrong later, a sentence each."""
    if answer.data["dags"] == dags:
        return []
    return [
        "the DAG folder is not the main machine's: tasks of DAGs that differ fail, or do something else; copy the folder, or use the same commit."
    ]


def membership(token: Token, machine: str, answer: Answer, queues: str, concurrency: int) -> Membership:
    """Return what this folder keeps of the lab."""
    data = answer.data
    return Membership(
        lab=str(data["lab"]),
        machine=machine,
        key=secrets.token_hex(8),
        address=str(data["address"]),
        port=token.port,
        broker_url=data["broker_url"],
        result_backend=data["result_backend"],
        execution_api_server_url=data["execution_api_server_url"],
        settings=data["settings"],
        queues=queues,
        concurrency=concurrency,
    )
