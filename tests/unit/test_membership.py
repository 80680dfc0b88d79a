"""What a machine that joins makes of the main machine's answer, and what becomes of its folder."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_celery_lab.configuration import credentials, environment, membership, names, procfile, settings
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.membership import Membership
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import NotJoinedError, ProcfileError, StateFolderError
from airflow_celery_lab.launcher import lease
from airflow_celery_lab.launcher.lease import MEMORY, Lease, RemoteWorker
from airflow_celery_lab.remote import joining
from airflow_celery_lab.remote.joining import Answer
from airflow_celery_lab.supervision import wanted

VERSIONS = {"lab": "0.2.0", "airflow": "3.3.2", "apache-airflow-providers-celery": "3.26.0", "celery": "5.6.3", "python": "3.11"}
MEMBER = Membership(
    lab="lab",
    machine="atlas",
    key="k",
    address="10.99.0.1",
    port=8080,
    broker_url="rediss://lab_worker:secret@10.99.0.1:16379/0",
    result_backend="db+postgresql+psycopg2://lab_worker:hidden@10.99.0.1:15432/airflow?sslmode=verify-full",
    execution_api_server_url="https://10.99.0.1:8080/execution/",
    settings={"AIRFLOW__OPERATORS__DEFAULT_QUEUE": "theirs"},
)
PROCFILE = """\
redis: ./lab exec redis
worker-default: ./lab exec airflow celery worker --queues default --concurrency 8
autoscaler: ./lab exec autoscale worker-default=1..3
worker-high-cpu: ./lab exec airflow celery worker --queues high_cpu
"""


def answer(*, time: float = 1000.0, asked: float = 1000.0, answered: float = 1000.1, **data: Any) -> Answer:
    return Answer({"versions": VERSIONS, "dags": "d", "time": time, **data}, asked, answered)


@pytest.mark.parametrize("name", VERSIONS)
def test_a_machine_with_another_version_is_told_which_one_in_a_sentence(name: str) -> None:
    (told,) = joining.obstacles(answer(), {**VERSIONS, name: "1.0"})

    assert f"is 1.0 here and {VERSIONS[name]} on the main machine" in told


@pytest.mark.parametrize(("time", "words"), [(1030.0, "30 s behind"), (970.0, "30 s ahead of")])
def test_a_clock_that_is_off_by_more_than_airflow_bears_is_an_obstacle(time: float, words: str) -> None:
    (told,) = joining.obstacles(answer(time=time), VERSIONS)

    assert words in told


def test_a_slow_answer_does_not_make_a_clock_wrong() -> None:
    assert joining.obstacles(answer(time=1013.0, asked=1000.0, answered=1014.0), VERSIONS) == []
    assert joining.obstacles(answer(time=1009.0), VERSIONS) == []


def test_other_dags_are_warned_of() -> None:
    assert joining.warnings(answer(dags="d"), "d") == []
    assert "the DAG folder is not the main machine's" in joining.warnings(answer(dags="d"), "e")[0]


def test_a_membership_is_its_owners_alone_and_is_forgotten_whole(tmp_path: Path) -> None:
    state = State(tmp_path)
    membership.write(state, MEMBER, "PEM")

    assert membership.require(state) == MEMBER
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600, 0o600]
    membership.forget(state)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotJoinedError):
        membership.require(state)


def test_a_damaged_membership_is_named(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.membership.write_text("{}")

    with pytest.raises(StateFolderError, match="join again"):
        membership.read(state)


def test_servers_are_known_by_the_labs_authority_and_nobody_elses() -> None:
    authority = Path("/state/main-ca.pem")
    broker = parse_qs(urlsplit(membership.broker_url(MEMBER, authority)).query)
    backend = parse_qs(urlsplit(membership.result_backend(MEMBER, authority)).query)

    assert broker == {"ssl_cert_reqs": ["required"], "ssl_check_hostname": ["true"], "ssl_ca_certs": [str(authority)]}
    assert backend == {"sslmode": ["verify-full"], "sslrootcert": [str(authority)]}


def test_the_processes_of_a_joined_folder_find_the_other_machine(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    config = settings.load({"LAB_HOME": str(tmp_path / "state"), "PATH": ""}, tmp_path)
    lab = Lab(config, credentials.load_or_create(config.state))
    membership.write(config.state, MEMBER, "PEM")

    variables = environment.of_process(lab, "worker-default@atlas", {})

    assert variables["AIRFLOW__CELERY__BROKER_URL"].startswith(MEMBER.broker_url)
    assert variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == MEMBER.execution_api_server_url
    assert variables["AIRFLOW__API__SSL_CA_FILE"] == str(config.state.main_authority)
    assert variables["AIRFLOW__OPERATORS__DEFAULT_QUEUE"] == "theirs"
    assert "postgresql" not in variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert MEMBER.address in variables["NO_PROXY"].split(",")
    (told,) = environment.conflicts(config._replace(dotenv={"AIRFLOW__OPERATORS__DEFAULT_QUEUE": "mine"}), {})
    assert told.setting == "AIRFLOW__OPERATORS__DEFAULT_QUEUE"


def test_a_joined_folder_runs_its_workers_and_what_speaks_for_the_machine() -> None:
    lines = procfile.of_member(procfile.parse(PROCFILE), MEMBER, Path("/nowhere"))

    assert [line.name for line in lines] == ["worker-default@atlas", "worker-high-cpu@atlas", "presence@atlas"]
    assert procfile.require_line(lines, "worker-default").name == "worker-default@atlas"
    twice = procfile.instances(lines, {"worker-default": 2})
    assert list(twice)[:2] == ["worker-default@atlas", "worker-default-2@atlas"]
    assert list(wanted.scaled(twice, lines, {"worker-default": 1})) == [line.name for line in lines]


def test_queues_that_are_named_take_the_place_of_the_procfiles_workers() -> None:
    lines = procfile.of_member(procfile.parse(PROCFILE), MEMBER._replace(queues="a,b", concurrency=3), Path("/nowhere"))

    assert [line.name for line in lines] == ["worker@atlas", "presence@atlas"]
    assert lines[0].service.queues == ("a", "b")
    assert lines[0].service.concurrency == 3


def test_a_folder_without_workers_cannot_join() -> None:
    with pytest.raises(ProcfileError, match="--queues"):
        procfile.of_member(procfile.parse("redis: ./lab exec redis\n"), MEMBER, Path("/nowhere"))


def test_a_name_with_a_machine_is_the_celery_node() -> None:
    assert names.node_name("worker-default@atlas") == "worker-default@atlas"
    assert names.node_name("worker-default") == "celery@worker-default"
    assert names.worker_name("worker-default@atlas") == "worker-default@atlas"
    assert names.machine_of("worker-default") is None


class Redis:
    """As much of a Redis as keeps leases, with its clock."""

    def __init__(self) -> None:
        self.text = ""

    def set(self, _key: str, text: str, ex: int) -> None:
        assert ex == MEMORY
        self.text = text


def test_a_lease_that_was_written_is_read_with_the_age_that_redis_tells() -> None:
    redis = Redis()
    written = Lease("atlas", "k", 7, {"w@atlas": RemoteWorker(1, 2.0, ("default",), leaves=True, slots=8)}, 0.0)
    lease.renew(redis, written)

    read = lease.parse(redis.text, (MEMORY - 5) * 1000)

    assert read is not None
    assert read.age == 5.0
    assert read.lives
    assert read.workers["w@atlas"]._replace(queues=("default",)) == written.workers["w@atlas"]
    assert lease.parse(None, -2) is None
    assert lease.parse("[]", 1) is None


def test_a_machine_speaks_for_its_own_workers_alone() -> None:
    redis = Redis()
    theirs = {"worker-default": RemoteWorker(1, 2.0, ()), "w@other": RemoteWorker(1, 2.0, ())}
    lease.renew(redis, Lease("atlas", "k", 7, theirs, 0.0))

    read = lease.parse(redis.text, MEMORY * 1000)

    assert read is not None
    assert read.workers == {}


def test_a_machine_that_has_left_has_no_workers_and_its_name_is_free() -> None:
    redis = Redis()
    lease.end(redis, Lease("atlas", "k", 8, {"w@atlas": RemoteWorker(1, 2.0, ())}, 0.0))

    read = lease.parse(redis.text, MEMORY * 1000)

    assert read is not None
    assert read.workers == {}
    assert not read.lives
