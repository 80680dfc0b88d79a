from __future__ import annotations

from pathlib import Path

import pytest

from airflow_celery_lab.cluster import link_status
from airflow_celery_lab.configuration import environment, links, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.links import CLEAN, Condition, Links
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import SettingsError, UnknownProcessError
from airflow_celery_lab.launcher.registry import Record
from airflow_celery_lab.supervision import wanted

CARRIED = Links(on=True, ports={"redis": 1, "postgres": 2, "webserver": 3}, conditions={"redis": Condition(delay=0.1)})


@pytest.mark.parametrize(("text", "seconds"), [("200ms", 0.2), ("1s", 1.0), ("1.5s", 1.5), ("500us", 0.0005), ("60s", 60.0)])
def test_a_delay_is_written_as_for_tc(text: str, seconds: float) -> None:
    assert links.delay(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("200", "did you mean 200ms?"),
        ("200 ms", "did you mean 200ms?"),
        ("1S", "did you mean 1s?"),
        ("2sec", "did you mean 2s?"),
        ("slow", "write for example 200ms"),
        ("-5ms", "write for example 200ms"),
        ("1h", "write for example 200ms"),
        ("0ms", "heal` makes it so"),
        ("61s", "cut` lets nothing get across"),
    ],
)
def test_what_is_no_delay_is_refused_with_what_was_meant(text: str, advice: str) -> None:
    with pytest.raises(SettingsError) as refused:
        links.delay(text)
    assert advice in str(refused.value)


def test_a_server_without_a_link_is_refused_by_name() -> None:
    links.require_servers(links.SERVERS)
    with pytest.raises(UnknownProcessError, match=r"no link to 'api-server'; did you mean 'webserver'\?"):
        links.require_servers(["redis", "api-server"])
    with pytest.raises(UnknownProcessError, match="no link to 'flower'; the links are those to redis, postgres, webserver"):
        links.require_servers(["flower"])


def test_what_is_written_down_is_read_again_and_what_is_damaged_counts_as_nothing(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert links.read(state) == Links()
    links.write(state, CARRIED)
    assert links.read(state) == CARRIED
    for text in ("", "[]", '{"on": true}', '{"on": true, "ports": {}, "conditions": {"redis": {"colour": 1}}}'):
        state.links.write_text(text)
        assert links.read(state) == Links()


def test_a_clean_link_is_not_among_those_that_are_slow_or_cut() -> None:
    cut = CARRIED.having(["postgres", "webserver"], Condition(cut=True))

    assert [cut.condition(server).text for server in links.SERVERS] == [
        "slow: an answer takes 200ms longer",
        "cut: nothing gets across",
        "cut: nothing gets across",
    ]
    assert cut.having(links.SERVERS, CLEAN).conditions == {}


def test_only_broker_database_and_execution_api_of_a_worker_are_reached_through_links(tmp_path: Path) -> None:
    lab = Lab(settings.load({}, tmp_path), Credentials(*("x" * len(Credentials._fields))))

    direct = environment.wiring(lab, Links(ports=CARRIED.ports).towards(lab.settings.ports))
    linked = environment.wiring(lab, CARRIED.towards(lab.settings.ports))

    assert direct == environment.wiring(lab)
    assert {name: value for name, value in linked.items() if direct[name] != value} == {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://127.0.0.1:3/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://airflow:x@127.0.0.1:2/airflow",
        "AIRFLOW__CELERY__RESULT_BACKEND": "db+postgresql+psycopg2://airflow:x@127.0.0.1:2/airflow",
        "AIRFLOW__CELERY__BROKER_URL": "redis://:x@127.0.0.1:1/0",
        "CELERY_BROKER_URL": "redis://:x@127.0.0.1:1/0",
    }


def test_a_worker_is_astray_if_it_does_not_go_where_others_go() -> None:
    def record(name: str, *, queues: tuple[str, ...], linked: bool) -> Record:
        return Record(name, 1, 2, [], "supervisord", "running", "", 0.0, queues)._replace(linked=linked)

    records = {
        "old": record("old", queues=("a",), linked=False),
        "new": record("new", queues=("a",), linked=True),
        "scheduler": record("scheduler", queues=(), linked=False),
    }

    assert link_status.astray(records, CARRIED) == ["old"]
    assert link_status.astray(records, Links()) == ["new"]


def test_applying_the_procfile_keeps_the_process_that_carries_links() -> None:
    running = {"redis": "lab exec redis", "worker": "old", links.PROCESS: "lab exec links"}

    assert wanted.beside(running, {"redis": "lab exec redis", "worker": "new"}) == {**running, "worker": "new"}
    assert wanted.beside({}, {"redis": "lab exec redis"}) == {"redis": "lab exec redis"}
