from __future__ import annotations

import os

from airflow_celery_lab.launcher import process_table
from airflow_celery_lab.launcher.process_table import Process, descendants


def row(pid: int, parent: int, session: int = 1) -> Process:
    return Process(pid, parent, session, zombie=False)


def test_descendants_are_found_at_any_depth_and_in_any_order() -> None:
    rows = [row(13, 12), row(12, 11), row(11, 10), row(10, 1), row(14, 11)]

    assert descendants({10}, rows) == {11, 12, 13, 14}


def test_a_process_without_children_has_no_descendants() -> None:
    assert descendants({10}, [row(10, 1), row(11, 1)]) == set()


def test_siblings_and_parents_are_no_descendants() -> None:
    rows = [row(1, 0), row(10, 1), row(20, 1), row(11, 10), row(21, 20)]

    assert descendants({10}, rows) == {11}


def test_an_orphan_is_found_by_its_session() -> None:
    rows = [row(10, 1, session=10), row(11, 10, session=10), row(12, 1, session=10), row(20, 1, session=20)]

    assert descendants({10}, rows, session=10) == {11, 12}


def test_children_of_an_orphan_are_found_whatever_their_session() -> None:
    rows = [row(12, 1, session=10), row(13, 12, session=13), row(14, 13, session=13), row(20, 1, session=20)]

    assert descendants({10}, rows, session=10) == {12, 13, 14}


def test_a_session_can_be_looked_for_below_another_root() -> None:
    rows = [row(5, 1, session=5), row(10, 5, session=10), row(11, 10, session=11), row(12, 1, session=10)]

    assert descendants({5}, rows, session=10) == {10, 11, 12}


def test_a_table_that_goes_round_in_circles_comes_to_an_end() -> None:
    """Rows are read one by one: a pid that is used again meanwhile may turn up as its own ancestor."""
    assert descendants({10}, [row(10, 11), row(11, 10)]) == {11}


def test_the_table_knows_this_process() -> None:
    (mine,) = (process for process in process_table.table() if process.pid == os.getpid())

    assert mine == Process(os.getpid(), os.getppid(), os.getsid(0), zombie=False)
    assert process_table.parent_of(os.getpid()) == os.getppid()


def test_a_process_that_does_not_exist_has_no_parent() -> None:
    assert process_table.parent_of(2**22 + 1) is None
