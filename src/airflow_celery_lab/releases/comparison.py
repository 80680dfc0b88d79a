"""What became of a project's DAG files and tests on each of two releases, and what differs. Data to data: no process, no file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

#: Outcomes of a test, in pytest's words, after which what passed before counts as broken. One that is missing counts too.
BROKEN = {"failed", "error"}
PASSED = "passed"


@dataclass(frozen=True)
class ImportedFile:
    """A DAG file as one release reads it."""

    dags: Sequence[str] = ()  #: ids
    error: str | None = None  #: why it cannot be read


@dataclass(frozen=True)
class Result:
    """A test as it ended with one release."""

    outcome: str  #: passed, failed, error, skipped, xfailed or xpassed
    seconds: float  #: set-up and teardown included
    error: str | None = None  #: why it has not passed, in one line


class Warned(NamedTuple):
    """A warning about a line of the project's, or one of Airflow's own categories."""

    file: str  #: relative to the project; elsewhere as the interpreter names it below its packages
    line: int | None  #: None outside of the project, where it is another one in each release
    category: str
    message: str


@dataclass(frozen=True)
class Side:
    """All that was seen with one release."""

    name: str  #: as it was typed
    airflow: str  #: its exact version
    files: Mapping[str, ImportedFile] = field(default_factory=dict)
    tests: Mapping[str, Result] | None = None  #: None: no tests were run
    warnings: Sequence[Warned] = ()


T = TypeVar("T", ImportedFile, Result)


@dataclass(frozen=True)
class Pair(Generic[T]):
    """A DAG file or a test on both sides, None where it is missing."""

    name: str
    before: T | None
    after: T | None
    broken: bool  #: it was right before, and is not after
    differs: bool


@dataclass(frozen=True)
class WarnedPair:
    """A warning, and on which sides it was seen."""

    warned: Warned
    before: bool
    after: bool


@dataclass(frozen=True)
class Comparison:
    """Two sides, item by item, each in the order of its name."""

    before: Side
    after: Side

    @property
    def names(self) -> tuple[str, str]:
        """What the columns are called: the exact versions, or what was typed where both are one version."""
        if self.before.airflow != self.after.airflow:
            return self.before.airflow, self.after.airflow
        return self.before.name, self.after.name

    @property
    def files(self) -> list[Pair[ImportedFile]]:
        """Each DAG file."""
        return _pairs(self.before.files, self.after.files, _file_broken, lambda file: (file.dags, file.error is None))

    @property
    def tests(self) -> list[Pair[Result]]:
        """Each test, none where no tests were run."""
        return _pairs(self.before.tests or {}, self.after.tests or {}, _test_broken, lambda test: test.outcome)

    @property
    def warnings(self) -> list[WarnedPair]:
        """Each warning: those of the second side alone first, then those of the first alone."""
        before, after = set(self.before.warnings), set(self.after.warnings)
        every = [WarnedPair(warned, warned in before, warned in after) for warned in before | after]
        return sorted(every, key=lambda one: (one.before, one.after, one.warned.file, one.warned.line or 0, one.warned[2:]))

    @property
    def broken(self) -> list[str]:
        """The DAG files and tests that are right on the first side and not on the second."""
        return [pair.name for pair in self.files if pair.broken] + [pair.name for pair in self.tests if pair.broken]

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a script, what is equal included."""
        return {
            **{key: {"name": side.name, "airflow": side.airflow} for key, side in (("before", self.before), ("after", self.after))},
            "broken": self.broken,
            "dag_files": [_as_json("file", pair) for pair in self.files],
            "tests": None if self.before.tests is None else [_as_json("test", pair) for pair in self.tests],
            "warnings": [{**one.warned._asdict(), "before": one.before, "after": one.after} for one in self.warnings],
        }


def _pairs(
    before: Mapping[str, T], after: Mapping[str, T], broken: Callable[[T, T | None], bool], essence: Callable[[T], object]
) -> list[Pair[T]]:
    pairs = []
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        differs = one is None or other is None or essence(one) != essence(other)
        pairs.append(Pair(name, one, other, one is not None and broken(one, other), differs))
    return pairs


def _file_broken(before: ImportedFile, after: ImportedFile | None) -> bool:
    return before.error is None and (after is None or after.error is not None or not set(before.dags) <= set(after.dags))


def _test_broken(before: Result, after: Result | None) -> bool:
    return before.outcome == PASSED and (after is None or after.outcome in BROKEN)


def _as_json(kind: str, pair: Pair[T]) -> dict[str, Any]:
    sides = {"before": pair.before, "after": pair.after}
    return {
        kind: pair.name,
        **{key: None if value is None else asdict(value) for key, value in sides.items()},
        "broken": pair.broken,
        "differs": pair.differs,
    }
