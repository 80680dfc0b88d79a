"""`.env` is what people write for docker compose."""

from __future__ import annotations

import pytest

from airflow_celery_lab.configuration import dotenv
from airflow_celery_lab.errors import SettingsError


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=value", "value"),
        ("NAME=", ""),
        ("NAME=''", ""),
        ("NAME=two words", "two words"),
        ("NAME='two words'", "two words"),
        ('NAME="it\'s"', "it's"),
        ("NAME=it's", "it's"),
        ("  NAME=value  ", "value"),
        ("NAME = value", "value"),
        ("export NAME=value", "value"),
        ("NAME=a=b", "a=b"),
        ("NAME=redis://:p@h:1/0", "redis://:p@h:1/0"),
        ("NAME='#1'", "#1"),
        ("NAME=a#1", "a#1"),
        ("NAME=value # why", "value"),
        ('NAME="value" # why', "value"),
        ('NAME={"conn_type":"http","host":"shop.test"}', '{"conn_type":"http","host":"shop.test"}'),
        ('NAME={"conn_type": "http", "extra": {"a": [1, 2]}}', '{"conn_type": "http", "extra": {"a": [1, 2]}}'),
        ('NAME=\'{"conn_type": "http"}\'', '{"conn_type": "http"}'),
        (r'NAME="one\ntwo"', "one\ntwo"),
        (r"NAME='one\ntwo'", r"one\ntwo"),
        ("NAME='one\ntwo'", "one\ntwo"),
        ("NAME=é", "é"),
        ("NAME=50%", "50%"),
    ],
)
def test_a_value_arrives_as_docker_compose_reads_it(line: str, value: str) -> None:
    assert dotenv.parse(line, {}) == {"NAME": value}


def test_variables_are_those_of_the_environment_else_of_the_lines_above() -> None:
    text = "HOST=db\nURL=http://${HOST}:${PORT:-80}/${USER}\nLITERAL='${HOST}'\nOPEN=$HOST\n"

    assert dotenv.parse(text, {"USER": "ada"}) == {"HOST": "db", "URL": "http://db:80/ada", "LITERAL": "${HOST}", "OPEN": "$HOST"}
    assert dotenv.parse("A=${A}1", {"A": "x"}) == {"A": "x1"}


def test_comments_and_empty_lines_mean_nothing() -> None:
    assert dotenv.parse("# one\n\n   # two\nA=1\n\t\nB=2", {}) == {"A": "1", "B": "2"}


def test_the_last_of_two_lines_with_one_name_counts() -> None:
    assert dotenv.parse("A=1\nA=2\n", {}) == {"A": "2"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("NAME", "is not NAME=value: 'NAME'; write a name"),
        ("=value", "is not NAME=value: '=value'"),
        ("1NAME=value", "is not NAME=value: '1NAME=value'"),
        ("NA-ME=value", "is not NAME=value: 'NA-ME=value'"),
        ("NAME='value", 'has an open quote: "NAME=\'value"; close it.'),
        ('NAME="value', "has an open quote: 'NAME=\"value'; close it."),
        ("NAME='a' b", "is not NAME=value: \"NAME='a' b\""),
    ],
)
@pytest.mark.parametrize("above", ["# first\nGOOD=1\n", "\n\n", "A='two\nlines'\n"])
def test_a_line_that_is_none_is_refused_with_its_number(above: str, line: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        dotenv.parse(f"{above}{line}\n", {})

    assert str(refusal.value).startswith(".env line 3 ")
    assert complaint in str(refusal.value)
