"""What the plugin for `compare` writes down of a real session of pytest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TESTS = """
import warnings
import pytest

def test_passes():
    warnings.warn("old", DeprecationWarning)

def test_fails():
    assert 1 == 2, "not\\nequal"

@pytest.fixture
def broken():
    raise OSError("no disk")

def test_errs(broken): ...

@pytest.mark.skip
def test_skipped(): ...

@pytest.mark.xfail
def test_xfails():
    assert 0

@pytest.mark.xfail
def test_xpasses(): ...
"""


def test_each_test_has_its_outcome_in_pytests_words_and_a_file_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_all.py").write_text(TESTS)
    (tmp_path / "test_import.py").write_text("import no_such_module")
    plugin = ["-p", "airflow_celery_lab.testing.outcomes", "--lab-outcomes=found.json", "--continue-on-collection-errors"]

    done = subprocess.run([sys.executable, "-m", "pytest", *plugin], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: (test["outcome"], test["error"]) for name, test in found["tests"].items()} == {
        "test_all.py::test_passes": ("passed", None),
        "test_all.py::test_fails": ("failed", "AssertionError: not"),
        "test_all.py::test_errs": ("error", "OSError: no disk"),
        "test_all.py::test_skipped": ("skipped", None),
        "test_all.py::test_xfails": ("xfailed", None),
        "test_all.py::test_xpasses": ("xpassed", None),
        "test_import.py": ("error", "ModuleNotFoundError: No module named 'no_such_module'"),
    }
    (warning,) = found["warnings"]
    assert warning == {"file": str(tmp_path / "test_all.py"), "line": 6, "category": "builtins.DeprecationWarning", "message": "old"}
