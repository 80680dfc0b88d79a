from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_celery_lab.configuration import settings
from airflow_celery_lab.configuration.settings import SETTINGS, Ports
from airflow_celery_lab.errors import SettingsError


def test_a_lab_without_settings_stays_in_its_folder_and_on_loopback(tmp_path: Path) -> None:
    config = settings.load({}, tmp_path)

    assert config.home == tmp_path / ".lab"
    assert config.dags == tmp_path / "dags"
    assert config.bind == config.client_host == "127.0.0.1"
    assert config.ports == Ports(postgres=15432, redis=16379, webserver=8080, flower=5555, scheduler=8974)
    assert config.postgres_bin is None
    assert config.redis_server is None


def test_dotenv_is_stronger_than_the_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LAB_START_TIMEOUT=20\n")

    config = settings.load({}, tmp_path)

    assert config.start_timeout == 20
    assert config.stop_timeout == 60


def test_the_environment_is_stronger_than_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LAB_START_TIMEOUT=20\nLAB_STOP_TIMEOUT=30\n")

    config = settings.load({"LAB_START_TIMEOUT": "40"}, tmp_path)

    assert config.start_timeout == 40
    assert config.stop_timeout == 30


def test_an_empty_setting_is_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LAB_HOME=/srv/lab\nLAB_PORT_OFFSET=7\nLAB_BIND=0.0.0.0\nLAB_POSTGRES_BIN=/srv/bin\n")
    empty = {"LAB_HOME": "", "LAB_PORT_OFFSET": "", "LAB_BIND": "", "LAB_POSTGRES_BIN": ""}

    config = settings.load(empty, tmp_path)

    (tmp_path / ".env").unlink()
    assert config._replace(dotenv={}) == settings.load({}, tmp_path)


def test_dotenv_keeps_what_is_meant_for_airflow(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AIRFLOW__CORE__PARALLELISM=64\n")

    assert settings.load({}, tmp_path).dotenv == {"AIRFLOW__CORE__PARALLELISM": "64"}


def test_all_ports_shift_together(tmp_path: Path) -> None:
    config = settings.load({"LAB_PORT_OFFSET": "100"}, tmp_path)

    assert config.ports == Ports(postgres=15532, redis=16479, webserver=8180, flower=5655, scheduler=9074)


def test_the_greatest_offset_keeps_every_port_possible(tmp_path: Path) -> None:
    assert max(settings.load({"LAB_PORT_OFFSET": "49156"}, tmp_path).ports) == 65535


@pytest.mark.parametrize("offset", ["many", "-1", "1.5", "49157", "1e3", "٣", "99999999999999999999"])
def test_an_offset_that_is_no_port_number_is_refused(tmp_path: Path, offset: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"^LAB_PORT_OFFSET={re.escape(offset)} is not a whole number from 0 to 49156; correct it in \.env"
    ):
        settings.load({"LAB_PORT_OFFSET": offset}, tmp_path)


@pytest.mark.parametrize("name", ["LAB_START_TIMEOUT", "LAB_STOP_TIMEOUT"])
def test_a_time_of_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}=0 is not a whole number from 1 "):
        settings.load({name: "0"}, tmp_path)


def test_a_mistyped_setting_is_refused_with_the_name_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no setting LAB_PORTOFFSET \(in the environment\); did you mean 'LAB_PORT_OFFSET'\?"):
        settings.load({"LAB_PORTOFFSET": "100"}, tmp_path)


def test_a_mistyped_setting_in_dotenv_is_told_to_be_there(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LAB_HOMES=/srv/lab\n")

    with pytest.raises(SettingsError, match=r"no setting LAB_HOMES \(in \.env\); did you mean 'LAB_HOME'\?"):
        settings.load({}, tmp_path)


def test_a_setting_unlike_any_other_is_refused_with_the_list_of_all(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings.load({"LAB_QQQQQQQQQQQ": "1"}, tmp_path)

    assert all(name in str(refusal.value) for name in SETTINGS)


def test_what_the_lab_sets_for_its_own_processes_is_no_unknown_setting(tmp_path: Path) -> None:
    assert settings.load({"LAB_NAME": "scheduler", "LAB_UP_PID": "1"}, tmp_path) == settings.load({}, tmp_path)


def test_variables_of_others_are_none_of_the_labs_business(tmp_path: Path) -> None:
    assert settings.load({"LABEL": "x", "MY_LAB_HOME": "y"}, tmp_path) == settings.load({}, tmp_path)


@pytest.mark.parametrize(
    ("bind", "client", "url"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "127.0.0.1", "http://127.0.0.1:8080"),
        ("192.168.1.5", "192.168.1.5", "http://192.168.1.5:8080"),
        ("::1", "::1", "http://[::1]:8080"),
        ("::", "::1", "http://[::1]:8080"),
    ],
)
def test_clients_find_the_lab_wherever_it_listens(tmp_path: Path, bind: str, client: str, url: str) -> None:
    config = settings.load({"LAB_BIND": bind}, tmp_path)

    assert (config.bind, config.client_host, config.url("webserver")) == (bind, client, url)


@pytest.mark.parametrize("bind", ["localhost", "127.0.0.1:80", "*"])
def test_an_address_to_listen_on_is_a_number(tmp_path: Path, bind: str) -> None:
    with pytest.raises(SettingsError, match=rf"^LAB_BIND={re.escape(bind)} is not an IP address; use 127\.0\.0\.1 or"):
        settings.load({"LAB_BIND": bind}, tmp_path)


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    assert settings.load({"LAB_HOME": "~/lab"}, tmp_path).home == Path("/home/ada/lab")


@pytest.mark.parametrize("name", ["LAB_HOME", "LAB_DAGS", "LAB_POSTGRES_BIN", "LAB_REDIS_SERVER"])
def test_a_relative_path_counts_from_the_project_wherever_the_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    config = settings.load({name: "sub/../other"}, tmp_path / "project")

    assert getattr(config, name.removeprefix("LAB_").lower()) == tmp_path / "project" / "other"


def test_a_dotenv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"NAME=\xff\xfe")

    with pytest.raises(SettingsError, match=rf"^cannot read {re.escape(str(tmp_path))}/\.env: .*; fix the file or remove it\.$"):
        settings.load({}, tmp_path)


def test_a_dotenv_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    with pytest.raises(SettingsError, match=r"^cannot read .*\.env: .*; fix the file or remove it\.$"):
        settings.load({}, tmp_path)


@pytest.mark.parametrize("name", ["LAB_PROJECT", "LAB_VENV", "LAB_PYTHON", "LAB_AIRFLOW", "LAB_LIBRARIES"])
def test_what_is_needed_before_dotenv_is_read_is_refused_there(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text(f"{name}=/somewhere\n")

    with pytest.raises(SettingsError, match=f"{name} in .env comes too late"):
        settings.load({name: "/elsewhere"}, tmp_path)
