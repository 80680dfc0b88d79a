from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from airflow_celery_lab.configuration import requirements


def test_what_is_missing_or_too_old_is_named_and_all_else_is_left_alone() -> None:
    lines = [
        "# a comment",
        "-r other.txt",
        "./a/path",
        "",
        "Celery",
        "celery>=999  # newest",
        "no-such-thing[x]>1",
        'gone; python_version < "3"',
    ]

    assert list(requirements.unmet(lines)) == [f"celery>=999 (there is {version('celery')})", "no-such-thing[x]>1"]


def test_files_that_requirements_name_count_as_well(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text("-r more/one.txt  # a comment\n-c limits.txt\n--requirement=https://host/x.txt\n")
    (tmp_path / "more" / "one.txt").write_text("no-such-one\n-r two.txt\n")
    (tmp_path / "more" / "two.txt").write_text("no-such-two\n-r one.txt\n")
    (tmp_path / "limits.txt").write_text("no-such-three<1\n")
    named = [path.name for path in requirements.files(tmp_path / "requirements.txt", constraints=True)]

    told = requirements.warnings(tmp_path, {})

    assert named == ["requirements.txt", "one.txt", "two.txt", "limits.txt"]
    assert [one.split(";")[0] for one in told] == [f"{tmp_path}/requirements.txt asks for what is not installed: no-such-one, no-such-two"]
    (tmp_path / "more" / "two.txt").unlink()
    assert requirements.warnings(tmp_path, {}) == [
        f"{tmp_path}/requirements.txt names {tmp_path}/more/two.txt, which is not there; correct its line `-r`."
    ]


def test_a_project_without_requirements_is_told_nothing_and_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert requirements.warnings(tmp_path, {}) == []
    assert requirements.warnings(tmp_path, {"LAB_REQUIREMENTS": "my.txt"}) == [
        "LAB_REQUIREMENTS=my.txt is not a file; name one or unset it."
    ]
