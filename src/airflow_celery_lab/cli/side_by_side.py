"""The tables of `lab compare`: what differs between two releases, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from airflow_celery_lab.cli.columns import Column, Fitted, visible
from airflow_celery_lab.releases.comparison import BROKEN, Comparison, ImportedFile, Pair, Result, T, WarnedPair

WARNINGS = (Column("WARNING"), Column("CATEGORY", leaves=2), Column("WITH", names=True), Column("MESSAGE", leaves=1, sentence=True))


def comparison(found: Comparison) -> Group:
    """Return what differs, why something is broken, all warnings, and a summary."""
    return Group(
        *_pairs("DAG FILE", found.files, found.names),
        *_pairs("TEST", found.tests, found.names),
        *_warnings(found.warnings, found.names),
        *_summary(found),
    )


def _pairs(title: str, pairs: Sequence[Pair[T]], names: tuple[str, str]) -> list[Fitted | Text]:
    differing = [pair for pair in pairs if pair.differs]
    if not differing:
        return []
    table = Fitted(Column(title), *map(Column, names))
    errors: list[Text] = []
    for pair in differing:
        table.add(pair.name, _cell(pair.before), _cell(pair.after))
        for name, item in zip(names, (pair.before, pair.after), strict=True):
            if item is not None and item.error:
                errors.append(Text(visible(f"{pair.name} with {name}: {item.error}"), "red"))
    return [table, *errors, Text()]


def _cell(item: ImportedFile | Result | None) -> Text:
    if item is None:
        return Text("missing", "yellow")
    if isinstance(item, Result):
        return Text(f"{item.outcome}, {item.seconds:.1f} s", "red" if item.outcome in BROKEN else "")
    return Text("cannot be read", "red") if item.error else Text(visible(", ".join(item.dags)) or "no DAG")


def _warnings(pairs: Sequence[WarnedPair], names: tuple[str, str]) -> list[Fitted | Text]:
    if not pairs:
        return []
    table = Fitted(*WARNINGS)
    for pair in pairs:
        warned, seen = pair.warned, [name for name, there in zip(names, (pair.before, pair.after), strict=True) if there]
        where = f"{warned.file}:{warned.line}" if warned.line else warned.file
        table.add(where, warned.category, Text(", ".join(seen), "" if pair.before else "yellow"), warned.message)
    return [table, Text()]


def _summary(found: Comparison) -> list[Text]:
    before, after = found.names
    lines = [_count("DAG file", found.files, after)]
    if found.before.tests is not None:
        lines.append(_count("test", found.tests, after))
    new, gone = sum(not one.before for one in found.warnings), sum(not one.after for one in found.warnings)
    return [*lines, Text(f"{_number(found.warnings, 'warning')}: {new} with {after} alone, {gone} with {before} alone")]


def _count(what: str, pairs: Sequence[Pair[T]], after: str) -> Text:
    differing, broken = sum(pair.differs for pair in pairs), sum(pair.broken for pair in pairs)
    return Text(f"{_number(pairs, what)}: {differing} different, {broken} broken by {after}", "red" if broken else "")


def _number(items: Sequence[object], what: str) -> str:
    return f"{len(items)} {what}{'' if len(items) == 1 else 's'}"
