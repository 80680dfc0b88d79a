"""A lab that is exposed, and another machine that asks it: two hosts in a network of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from airflow_celery_lab.configuration import credentials, exposure
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.configuration.settings import BASE_PORTS
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.remote import token
from airflow_celery_lab.remote.authority import Authority
from airflow_celery_lab.testing import hosts
from airflow_celery_lab.testing.hosts import Host
from airflow_celery_lab.wait import wait_until

if reason := hosts.missing():
    pytest.skip(reason, allow_module_level=True)

#: What other machines reach, and no worker: what runs here is asked, and runs no task.
PROCFILE = "postgres: ./lab exec postgres\nredis: ./lab exec redis\nwebserver: ./lab exec airflow api-server\n"
REACHED = {BASE_PORTS[name] for name in exposure.SERVERS}
#: What a machine does that wants to join, given the address: print the authority's certificate; with it and a request, the answer.
ASK = """
import ssl, sys, urllib.error, urllib.request
address, ca, body = sys.argv[1], sys.argv[2], sys.stdin.read()
context = ssl.create_default_context(cafile=ca) if ca else ssl._create_unverified_context()
request = urllib.request.Request(address, body.encode() or None, {"Content-Type": "application/json"})
try:
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print(0, error)
"""


class Lab:
    """A lab on a host of its own."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.state = State(folder / "home")
        (folder / "Procfile").write_text(PROCFILE)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("LAB_", "AIRFLOW"))}
        self._environ = {**environ, "LAB_HOME": str(self.state.home), "LAB_PROCFILE": str(folder / "Procfile"), "LAB_VENV": sys.prefix}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.host.run([str(CHECKOUT / "lab"), *arguments], cwd=CHECKOUT, environ=self._environ)

    def token(self, *arguments: str) -> str:
        done = self.run("expose", *arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return str(json.loads(done.stdout)["token"])

    def listens(self) -> dict[str, set[int]]:
        """Return the ports on which this host listens, by address."""
        found: dict[str, set[int]] = {}
        for address, port in re.findall(r"^LISTEN +\d+ +\d+ +(\S+):(\d+) ", self.host.run(["ss", "-tln"]).stdout, re.MULTILINE):
            found.setdefault(address, set()).add(int(port))
        return found


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Lab, Host]]:
    folder = Path(mkdtemp(prefix="lab-exposed-", dir="/tmp"))  # Where Postgres's user may enter.
    folder.chmod(0o755)
    with hosts.hosts("home", "atlas") as (home, atlas):
        lab = Lab(home, folder)
        started = lab.run("up", "-d")
        assert started.returncode == 0, started.stdout + started.stderr
        yield lab, atlas
        lab.run("down")
    shutil.rmtree(folder)


def ask(host: Host, url: str, authority: Path | None = None, asked: object = None) -> tuple[int, str]:
    body = "" if asked is None else json.dumps(asked)
    command = ["sh", "-c", 'printf %s "$4" | "$0" -c "$1" "$2" "$3"', sys.executable, ASK, url, str(authority or ""), body]
    status, _, text = host.run(command).stdout.partition(" ")
    return int(status), text.strip()


def request(host: Host, lab: Lab, text: str, machine: str = "atlas") -> tuple[int, Any]:
    """Ask as a machine does that has a token, and trusts nobody before that token has said whom."""
    found = token.parse(text)
    url = f"https://{found.address}:{found.port}/lab"
    status, pem = ask(host, f"{url}/ca")
    assert status == 200
    known = lab.state.home.parent / f"{host.name}.pem"
    known.write_text(pem)
    status, answer = ask(host, f"{url}/join", known, {"secret": found.secret.hex(), "machine": machine, "address": host.address})
    return status, json.loads(answer)


def test_a_lab_listens_on_loopback_until_it_is_exposed_and_then_on_one_address_more(pair: tuple[Lab, Host]) -> None:
    lab, atlas = pair
    before = lab.listens()
    assert set(before) == {"127.0.0.1"}

    secret = lab.token(lab.host.address)

    assert lab.listens() == {**before, lab.host.address: REACHED}
    status, answer = request(atlas, lab, secret)
    assert status == 200
    record = exposure.read(lab.state)
    assert record is not None
    address = lab.host.address
    assert answer["broker_url"] == f"rediss://lab_worker:{record.redis_password}@{address}:16379/0"
    assert answer["result_backend"].endswith(f":{record.postgres_password}@{address}:15432/airflow?sslmode=verify-full")
    assert not {credential for credential in credentials.load(lab.state) if credential in json.dumps(answer)}
    assert lab.run("status", "--json").stdout.count(f"https://{address}:8080") == 1


def test_nobody_gets_anything_from_the_lab_without_a_token_or_a_login(pair: tuple[Lab, Host]) -> None:
    lab, atlas = pair
    first = lab.token(lab.host.address)
    second = lab.token(lab.host.address, "--expires", "1s")
    known = lab.state.authority
    url = f"https://{lab.host.address}:8080"

    assert request(atlas, lab, first)[1]["detail"].startswith("this token is not valid: a newer one has taken its place")
    wait_until(lambda: None if request(atlas, lab, second)[0] == 403 else "the token is good", 10, "the end of the token")
    assert request(atlas, lab, second)[1]["detail"].startswith("this token was valid until")
    assert ask(atlas, f"{url}/lab/join", known, {})[0] == 403
    assert ask(atlas, f"{url}/lab/join", known, {"secret": "x" * 20_000})[0] == 413
    assert [ask(atlas, f"{url}{path}", known)[0] for path in ("/lab/", "/lab/live", "/api/v2/dags", "/execution/variables/x")] == [401] * 4
    other = lab.state.home.parent / "other.pem"
    other.write_text(Authority(State(lab.state.home.parent / "other")).certificate())
    assert "CERTIFICATE_VERIFY_FAILED" in ask(atlas, f"{url}/lab/ca", other)[1]
    assert ask(atlas, f"http://{lab.host.address}:8080/lab/ca")[0] == 0


def test_an_authority_that_was_lost_is_replaced_with_the_next_token(pair: tuple[Lab, Host]) -> None:
    lab, atlas = pair
    old = lab.token(lab.host.address)
    shutil.rmtree(lab.state.tls)

    new = lab.token(lab.host.address)

    assert token.parse(old).fingerprint != token.parse(new).fingerprint
    assert request(atlas, lab, new)[0] == 200


def test_secrets_stand_in_one_file_of_the_state_and_in_no_argument(pair: tuple[Lab, Host]) -> None:
    lab, atlas = pair
    text = lab.token(lab.host.address)
    assert request(atlas, lab, text)[0] == 200
    record = exposure.read(lab.state)
    assert record is not None
    secrets = [text.removeprefix("lab1."), token.parse(text).secret.hex(), record.postgres_password, record.redis_password]

    holders = {
        path.relative_to(lab.state.home)
        for path in lab.state.home.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
    }
    arguments = [" ".join(process.cmdline()) for process in lab.host.processes()]

    assert holders == {Path("exposure.json")}
    assert lab.state.exposure.stat().st_mode & 0o077 == 0
    assert len(arguments) > 3
    assert not [one for one in arguments for secret in secrets if secret in one]
    assert '"join", "names": ["atlas"]' in lab.state.journal.read_text()


def test_a_lab_stays_exposed_over_a_stop_until_that_is_taken_back(pair: tuple[Lab, Host]) -> None:
    lab, atlas = pair
    text = lab.token(lab.host.address)
    loopback = lab.listens()["127.0.0.1"]

    assert lab.run("down").returncode == 0
    assert lab.listens() == {}
    assert lab.run("up", "-d").returncode == 0
    assert lab.listens() == {"127.0.0.1": loopback, lab.host.address: REACHED}
    assert request(atlas, lab, text)[0] == 200

    assert (
        lab.run("expose", "--off").stdout == f"lab: not exposed on {lab.host.address} any more; machines that have joined cannot get in\n"
    )
    assert lab.listens() == {"127.0.0.1": loopback}
    assert not lab.state.exposure.exists()
    assert lab.run("expose", "--off").stdout == "lab: it is not exposed\n"
    assert "gateway" not in lab.run("status").stdout


def test_what_cannot_be_exposed_is_refused_in_a_sentence_and_nothing_changes(pair: tuple[Lab, Host]) -> None:
    lab, _ = pair
    before = lab.listens()
    taken = lab.host.start([sys.executable, "-m", "http.server", "--bind", lab.host.address, "16379"])
    wait_until(lambda: None if lab.host.address in lab.listens() else "not yet", 20, "a program on that port")

    told = [
        lab.run("expose", *arguments) for arguments in ((lab.host.address,), ("10.0.0.1",), (lab.host.address, "--expires", "soon"), ())
    ]
    lab.host.signal(taken, 15)

    assert [done.returncode for done in told] == [12, 29, 29, 29]
    assert re.match(
        rf"lab: port 16379 of {lab.host.address}, for redis, is taken by python\S* \(pid \d+\); stop that program", told[0].stderr
    )
    assert told[1].stderr == f"lab: 10.0.0.1 is not an address of this machine; this machine has {lab.host.address}.\n"
    assert all(len(done.stderr.splitlines()) == 1 for done in told)
    wait_until(lambda: None if lab.listens() == before else "not yet", 20, "the end of that program")
    assert not lab.state.exposure.exists()
