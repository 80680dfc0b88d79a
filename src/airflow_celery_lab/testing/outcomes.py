"""A pytest plugin that writes down how each test ended, for `lab compare`: `-p airflow_celery_lab.testing.outcomes --lab-outcomes FILE`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("airflow-celery-lab").addoption("--lab-outcomes", metavar="FILE", help="Write how each test ended into FILE, as JSON.")


def pytest_configure(config: pytest.Config) -> None:
    """Listen where the option is given; with pytest-xdist the controller hears of all."""
    if (file := config.getoption("lab_outcomes")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(Path(file)))


class Outcomes:
    """How each test ended, and the warnings of the session."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tests: dict[str, dict[str, Any]] = {}
        self._warnings: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one of a test's three phases."""
        test = self._tests.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0, "error": None})
        test["seconds"] += report.duration
        if report.failed:
            test.update(outcome="failed" if report.when == "call" else "error", error=_reason(report))
        elif report.skipped:
            test["outcome"] = "xfailed" if hasattr(report, "wasxfail") else "skipped"
        elif report.when == "call" and hasattr(report, "wasxfail"):
            test["outcome"] = "xpassed"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take in a file that cannot be imported, in place of its tests."""
        if report.failed:
            self._tests[report.nodeid] = {"outcome": "error", "seconds": 0.0, "error": _reason(report)}

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Take in a warning."""
        category = warning_message.category
        self._warnings.append(
            {
                "file": warning_message.filename,
                "line": warning_message.lineno,
                "category": f"{category.__module__}.{category.__qualname__}",
                "message": str(warning_message.message),
            }
        )

    def pytest_sessionfinish(self) -> None:
        """Write all down."""
        self._file.write_text(json.dumps({"tests": self._tests, "warnings": self._warnings}), encoding="utf-8")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the first line of an error, without the traceback; of a file that cannot be imported, the last one."""
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash else report.longreprtext).strip().splitlines() or ["no reason given"]
    return lines[0] if crash else lines[-1].removeprefix("E").strip()
