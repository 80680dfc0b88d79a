from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_celery_lab.cluster import dag_files, task_logs
from airflow_celery_lab.errors import UnknownTaskError
from airflow_celery_lab.inside_airflow import dag_sources
from airflow_celery_lab.inside_airflow.dag_sources import Listing

WORDS = {
    "etl.py": {"from", "helpers", "import", "load"},
    "helpers/__init__.py": set[str](),
    "helpers/load.py": {"import", "units"},
    "units.py": {"KILO"},
    "other.py": {"dag"},
}
FOLDER = Path("/dags")


def test_what_uses_a_module_by_another_one_is_found() -> None:
    assert dag_sources.users({"units.py"}, WORDS) == {"units.py", "helpers/load.py", "etl.py"}
    assert dag_sources.users({"gone.py"}, WORDS) == set()
    assert dag_sources.used("etl.py", WORDS) == {"etl.py", "helpers/__init__.py", "helpers/load.py", "units.py"}


def test_a_file_of_data_concerns_the_files_with_its_whole_name_in_them_and_those_that_use_these() -> None:
    words = {"etl.py": {"read", "tables", "yaml"}, "shop.py": {"etl"}, "other.py": {"yaml", "orders"}}

    assert dag_sources.users({"data/tables.yaml"}, words) == {"etl.py", "shop.py"}
    assert dag_sources.used("shop.py", words, {"data/tables.yaml", "orders.json"}) == {"shop.py", "etl.py", "data/tables.yaml"}


def test_a_file_that_was_saved_made_or_removed_has_changed() -> None:
    assert dag_sources.changed({"a.py": 1.0, "b.py": 1.0, "c.py": 1.0}, {"a.py": 1.0, "b.py": 2.0, "d.py": 1.0}) == {"b.py", "c.py", "d.py"}


def test_hidden_folders_and_bytecode_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.py", ".git/c.py", "__pycache__/d.py", "e.txt", "f.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert set(dag_sources.saved(tmp_path)) == {"a.py", "sub/b.py", "f.yaml"}


def dag(name: str, parsed: str, seconds: float = 0.5) -> dict[str, Any]:
    return {
        "dag_id": name,
        "is_paused": False,
        "relative_fileloc": f"{name}.py",
        "last_parsed_time": parsed,
        "last_parse_duration": seconds,
    }


@pytest.mark.parametrize(("saved", "state"), [(99.0, "live"), (99.8, "changed"), (101.0, "changed")])
def test_a_file_is_live_when_its_parsing_began_after_it_was_saved(saved: float, state: str) -> None:
    found = dag_files.judge([dag("etl", "1970-01-01T00:01:40Z")], [], {"etl.py": saved}, Listing(["etl.py"], [], []), FOLDER)

    assert [(file.name, file.state) for file in found] == [("etl.py", state)]


def test_a_file_without_a_dag_an_ignored_and_a_new_one_are_told_apart() -> None:
    changes = {"helper.py": 1.0, "old.py": 1.0, "new.py": 1.0, "empty.py": 1.0}
    found = dag_files.judge([], [], changes, Listing(["empty.py"], ["helper.py"], ["old.py"]), FOLDER)

    assert {file.name: file.state for file in found} == {
        "helper.py": "no DAG",
        "old.py": "ignored",
        "new.py": "unread",
        "empty.py": "no DAG",
    }


@pytest.mark.parametrize(
    ("trace", "told"),
    [
        (
            'Traceback:\n  File "/dags/a.py", line 3, in <module>\n  File "/lib/x.py", line 9, in f\nValueError: no\n',
            "a.py, line 3: ValueError: no",
        ),
        ('  File "/lib/x.py", line 9\nSyntaxError: bad\n', "/lib/x.py, line 9: SyntaxError: bad"),
        ("Duplicate ids", "Duplicate ids"),
        ("", "no reason given"),
    ],
)
def test_an_error_is_told_with_its_last_place_in_the_users_files(trace: str, told: str) -> None:
    assert dag_files.error_in(trace, FOLDER) == told


def instance(task: str, index: int = -1) -> dict[str, Any]:
    return {"task_id": task, "map_index": index, "start_date": None}


def test_a_task_is_chosen_by_its_name_with_or_without_an_index() -> None:
    instances = [instance("load"), instance("work", 1), instance("work", 0), instance("work", 3)]

    assert len(task_logs.chosen(instances, None, None)) == 4
    assert [found["map_index"] for found in task_logs.chosen(instances, "work[1]", None)] == [1]
    assert [found["map_index"] for found in task_logs.chosen(instances, "work", 3)] == [3]
    with pytest.raises(UnknownTaskError, match=r"name one of 0-1, 3, such as 'work\[0\]'"):
        task_logs.chosen(instances, "work", None)
    with pytest.raises(UnknownTaskError, match="did you mean 'load'"):
        task_logs.chosen(instances, "laod", None)


def test_a_file_that_is_removed_while_the_folder_is_looked_through_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stays.py", "goes.py"):
        (tmp_path / name).touch()
    entries = list(dag_sources._files(str(tmp_path)))
    monkeypatch.setattr(dag_sources, "_files", lambda _: iter(entries))
    (tmp_path / "goes.py").unlink()

    assert list(dag_sources.saved(tmp_path)) == ["stays.py"]
