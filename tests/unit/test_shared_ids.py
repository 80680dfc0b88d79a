from __future__ import annotations

from pathlib import Path

from airflow_celery_lab.configuration import settings
from airflow_celery_lab.inside_airflow import shared_ids
from airflow_celery_lab.inside_airflow.shared_ids import Homes

ONE, TWO = "/dags/one.py", "/dags/two.py"


def test_a_dag_that_is_read_from_two_files_stands_in_both_from_the_first_time_on() -> None:
    homes = Homes({ONE: 5.0, TWO: 5.0}.get)
    for now, path in ((10, ONE), (11, TWO), (40, ONE)):
        homes.note("dag", path, now)

        assert homes.shared() == ({} if now == 10 else {"dag": [ONE, TWO]})


def test_a_dag_that_moved_into_another_file_stands_in_that_one_alone() -> None:
    changed = {ONE: 5.0, TWO: 20.0}
    homes = Homes(changed.get)
    homes.note("dag", ONE, 10)
    changed[ONE] = 20.0
    homes.note("dag", TWO, 21)

    assert homes.shared() == {}


def test_a_dag_whose_file_was_renamed_stands_in_the_new_one_alone() -> None:
    changed = {ONE: 5.0}
    homes = Homes(changed.get)
    homes.note("dag", ONE, 10)
    changed.pop(ONE)
    changed[TWO] = 5.0
    homes.note("dag", TWO, 21)

    assert homes.shared() == {}


def test_a_file_that_makes_its_dags_from_something_else_may_lose_one_without_a_change() -> None:
    homes = Homes({ONE: 5.0, TWO: 5.0}.get)
    homes.note("dag", ONE, 10)
    for round_ in range(shared_ids.MISSES):
        homes.note("dag", TWO, 11 + round_)
        assert homes.shared() == {"dag": [ONE, TWO]}
    homes.note("dag", TWO, 20)

    assert homes.shared() == {}


def test_other_dags_of_the_two_files_are_no_ones_concern() -> None:
    homes = Homes({ONE: 5.0, TWO: 5.0}.get)
    for dag_id, path in (("both", ONE), ("first", ONE), ("both", TWO), ("second", TWO)):
        homes.note(dag_id, path, 10)

    assert homes.shared() == {"both": [ONE, TWO]}


def test_what_was_noticed_is_read_as_if_it_could_be_missing_or_damaged(tmp_path: Path) -> None:
    config = settings.load({"LAB_HOME": str(tmp_path), "LAB_DAGS": "/dags"})
    config.state.airflow.mkdir()
    assert shared_ids.read(config) == {}
    for text, found in (("", {}), ("[]", {}), ('{"d": ["/dags/a', {}), ('{"d": ["/dags/x/a.py", "/b.py"]}', {"d": ["x/a.py", "/b.py"]})):
        config.state.shared_ids.write_text(text)
        assert shared_ids.read(config) == found
