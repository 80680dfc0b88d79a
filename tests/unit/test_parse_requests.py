from __future__ import annotations

from airflow_celery_lab.inside_airflow.parse_requests import ParseRequests


def test_a_file_is_asked_for_until_a_parsing_of_it_has_begun_after_its_change() -> None:
    requests = ParseRequests()
    requests.add({"a.py", "b.py"}, set(), now=10.0)

    assert requests.take({}, 10.0) == {"a.py", "b.py"}
    assert not requests.is_due(10.5)
    # What was parsed when it was saved is no proof.
    assert requests.take({"a.py": 9.9, "b.py": 10.1}, 11.0) == {"a.py"}
    assert requests.names == {"a.py"}
    assert requests.take({"a.py": 11.1}, 13.0) == set()
    assert requests.names == set()


def test_a_file_of_which_nobody_knows_when_it_was_parsed_is_asked_for_less_and_less_often_and_then_no_more() -> None:
    requests = ParseRequests()
    requests.add({"broken.py"}, set(), now=100.0)

    assert [now - 100 for now in range(100, 300) if requests.take({}, now)] == [0, 1, 3, 7, 15, 31, 63]
    assert not requests.is_due(1000.0)


def test_a_change_while_a_request_is_open_begins_it_again() -> None:
    requests = ParseRequests()
    requests.add({"a.py"}, set(), now=1.0)
    requests.take({}, 1.0)
    requests.add({"a.py"}, set(), now=5.0)

    assert requests.take({"a.py": 4.0}, 5.0) == {"a.py"}


def test_a_new_file_is_asked_for_if_airflow_has_not_found_it_within_a_second_or_has_parsed_it_too_early() -> None:
    requests = ParseRequests()
    requests.add({"found.py", "early.py"}, {"found.py", "early.py"}, now=10.0)

    assert requests.take({}, 10.0) == set()
    assert requests.take({"found.py": 10.2, "early.py": 9.9}, 11.0) == {"early.py"}
