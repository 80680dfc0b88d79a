from __future__ import annotations

import json

import pytest

from airflow_celery_lab.configuration import airflow_settings
from airflow_celery_lab.configuration.airflow_settings import Entry


def parse(text: str, **variables: str) -> airflow_settings.AirflowSettings:
    return airflow_settings.parse(text, variables)


def section(name: str, item: str) -> str:
    return f"airflow: {{{name}: [{item}]}}"


def test_a_connection_has_airflows_words_and_its_extra_may_be_a_mapping() -> None:
    [entry] = parse(section("connections", "{conn_id: a, conn_type: http, conn_port: '80', conn_login: 7, conn_extra: {x: [1]}}")).entries

    assert entry == Entry("connection", "a", {"conn_type": "http", "port": 80, "login": "7", "extra": '{"x": [1]}'})


def test_a_variable_that_is_no_text_is_json_and_one_that_is_arrives_as_written() -> None:
    text = section("variables", "{variable_name: a, variable_value: {x: 1}}, {variable_name: b, variable_value: '{\"x\": 1}'}")

    assert [entry.fields["value"] for entry in parse(text).entries] == ['{"x": 1}'] * 2


def test_secrets_come_from_variables_at_any_depth_and_a_doubled_dollar_is_plain() -> None:
    text = section("connections", "{conn_id: a, conn_type: b, conn_password: 'x${A}$${A}${B:-c}', conn_extra: {k: ['${A}']}}")

    [entry] = parse(text, A="1").entries
    assert (entry.fields["password"], json.loads(entry.fields["extra"])) == ("x1${A}c", {"k": ["1"]})


def test_the_empty_entries_of_astros_template_are_left_out() -> None:
    text = "airflow:\n  connections:\n    - conn_id:\n      conn_extra:\n  pools:\n    - pool_name:\n      pool_slot:\n  variables:\n"

    assert parse(text) == airflow_settings.AirflowSettings()
    assert parse("") == airflow_settings.AirflowSettings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "it has no `airflow:` with connections, pools, variables below it; write them there."),
        ("airflow: {conections: []}", "there is no key 'conections' below `airflow:`; did you mean 'connections'?"),
        ("airflow: {pools: {a: 1}}", "`pools:` is not a list; begin each of its entries with `- `."),
        (section("pools", "narrow"), "entry 1 of `pools:` is not made of `key: value`; write it as pool_name: and so on."),
        (section("pools", "{pool_name: a, pool_slots: 1}"), "there is no key 'pool_slots' of pool a; did you mean 'pool_slot'?"),
        (
            section("pools", "{pool_name: a, pool_slot: many}"),
            "pool_slot of pool a is not a whole number from -1 to 999999999; correct it.",
        ),
        (section("pools", "{pool_slot: 1}"), "pool number 1 has no pool_name; add it."),
        (section("connections", "{conn_id: a}"), "connection a has no conn_type; add it."),
        (section("connections", "{conn_id: a b, conn_type: c}"), "conn_id of connection a b has other characters than letters"),
        (section("connections", "{conn_id: a, conn_type: c, conn_extra: '[1]'}"), "conn_extra of connection a is neither a mapping nor"),
        (section("connections", "{conn_id: a, conn_uri: 'c://d', conn_host: e}"), "connection a has a conn_uri and other keys beside it"),
        (
            section("connections", "{conn_id: a, conn_type: c, conn_password: '${NO}'}"),
            "conn_password of connection a names ${NO}, which is",
        ),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(text: str, told: str) -> None:
    found = parse(text)

    assert found.entries == ()
    assert len(found.refused) == 1
    assert found.refused[0].startswith(f"airflow_settings.yaml: {told}")


def test_one_bad_entry_does_not_keep_the_others_away_and_the_second_of_one_name_is_refused() -> None:
    item = "{variable_name: %s, variable_value: %s}"
    found = parse(section("variables", ", ".join((item % ("a", "1"), item % ("a", "2"), "{variable_name: b}", item % ("c", "3")))))

    assert [(entry.name, entry.fields["value"]) for entry in found.entries] == [("a", "1"), ("c", "3")]
    assert [sentence.partition(": ")[2] for sentence in found.refused] == [
        "variable a stands there twice; remove one of them.",
        "variable b has no variable_value; add it.",
    ]


def test_what_is_no_yaml_is_told_with_its_line_and_without_what_stands_there() -> None:
    [told] = parse("airflow:\n  password: hidden\n password: secret: word\n").refused

    assert told.startswith("airflow_settings.yaml line 3 is not YAML: ")
    assert "hidden" not in told
    assert "secret" not in told


def test_a_digest_tells_of_a_change_and_depends_on_the_key() -> None:
    one, other = (Entry("variable", "a", {"value": value}) for value in "12")

    assert len({one.digest("k"), other.digest("k"), one.digest("l")}) == 3
    assert one.digest("k") == Entry("variable", "a", {"value": "1"}).digest("k")
